"""Text spaces: what turns a phrase into numbers that codebook rows can be compared with."""

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from ffsplat.codebook import LEXICON, lexicon_rows
from ffsplat.errors import UnknownWord, UsageError, WeightsMissing

_NOTHING = (
    "a an the all any every each some my our your this that these those of "
    "thing things object objects color colored colour coloured"
)
IGNORED = frozenset(_NOTHING.split())
"""Words that add nothing. A relation ("on", "without") is an unknown word instead: to drop it
would answer another question."""

IRREGULAR_PLURALS = {"shelf": "shelves", "leaf": "leaves", "foot": "feet", "loaf": "loaves"}

MAX_LETTERS = 500
"""A longer phrase is refused before any work is done on it."""

OPEN_CLIP = "open_clip:"

Words = tuple[str, ...]


@runtime_checkable
class TextSpace(Protocol):
    """A space that phrases and codebook rows share, known by its name in `Codebook.spaces`."""

    name: str

    def encode(self, phrases: Sequence[str]) -> Float32[np.ndarray, "t d"]:
        """One vector a phrase; its inner product with a row's embedding is that row's score."""
        ...


@dataclass(frozen=True, eq=False)
class Phrase:
    """What a phrase asks for: the lexicon rows that may match, by level; all levels must match."""

    rows: Mapping[str, tuple[int, ...]]

    @property
    def colors(self) -> tuple[str, ...]:
        """Names of the basic colours that were asked for."""
        return tuple(lexicon_rows()[row].name for row in self.rows.get("appearance", ()))


class LexiconSpace:
    """The built-in space: no network, but only the words of the curated table.

    A name or synonym stands for its row, a hypernym ("furniture") for all rows under it, in the
    singular or the plural. Vectors are 0/1 marks on the rows, not of unit length: the score of a
    code is then the share of its weight on matching rows, which lies in [0, 1].
    """

    name = LEXICON

    def encode(self, phrases: Sequence[str]) -> Float32[np.ndarray, "t d"]:
        """Marks on the rows of all levels that a phrase names; raises as `parse` does."""
        marks = np.zeros((len(phrases), len(lexicon_rows())), np.float32)
        for mark, text in zip(marks, phrases, strict=True):
            for rows in self.parse(text).rows.values():
                mark[list(rows)] = 1
        return marks

    def parse(self, text: str) -> Phrase:
        """Split a phrase into a whole thing, a part of it and colours, at least one of them.

        "red chair leg" and "leg of a red chair" ask for the part leg on the whole chair in red.
        Raises UnknownWord for a word outside the table and UsageError for an empty phrase or two
        things on one level.
        """
        matches = list(_matches(_words(text)))
        if unknown := [word for word, rows in matches if not rows]:
            raise _unknown_word(unknown)
        found: dict[str, tuple[int, ...]] = {}
        for _, rows in matches:
            level = lexicon_rows()[rows[0]].level
            if level != "appearance" and found.get(level, rows) != rows:
                raise UsageError(
                    f"{text!r} names two things of one kind", "ask for one thing at a time"
                )
            found[level] = tuple(sorted({*found.get(level, ()), *rows}))
        if not found:
            raise UsageError(f"{text!r} names nothing to look for", 'try a name such as "chair"')
        return Phrase(found)


class OpenClipSpace:
    """The text tower of an OpenCLIP model: free text. Weights load at the first phrase."""

    def __init__(self, arch: str, tag: str):
        self.arch, self.tag = arch, tag
        self.name = f"{OPEN_CLIP}{arch}/{tag}"
        self._loaded: tuple[Any, Any] | None = None

    def encode(self, phrases: Sequence[str]) -> Float32[np.ndarray, "t d"]:
        """Unit text embeddings. Raises UsageError for an unknown model, WeightsMissing offline."""
        import torch

        if self._loaded is None:
            self._loaded = self._load()
        model, tokenizer = self._loaded
        with torch.inference_mode():
            vectors = model.encode_text(tokenizer(list(phrases)), normalize=True)
        return vectors.float().numpy()

    def _load(self) -> tuple[Any, Any]:
        import open_clip

        if self.tag not in open_clip.list_pretrained_tags_by_model(self.arch):
            raise UsageError(
                f"OpenCLIP has no model {self.arch!r} with weights {self.tag!r}",
                "the scene's codebook names a text encoder that this version does not know",
            )
        try:
            model = open_clip.create_model(self.arch, pretrained=self.tag)
        except (OSError, RuntimeError) as error:
            raise WeightsMissing(
                f"weights of the text encoder {self.name} are not to be had: {error}",
                "connect to the network once, or ask in the lexicon space",
            ) from error
        return model.eval(), open_clip.get_tokenizer(self.arch)


def text_space(name: str) -> TextSpace:
    """The text space of this name in `Codebook.spaces`; UsageError if it is of no known kind."""
    if name == LEXICON:
        return LexiconSpace()
    arch, _, tag = name.removeprefix(OPEN_CLIP).partition("/")
    if name.startswith(OPEN_CLIP) and arch and tag:
        return OpenClipSpace(arch, tag)
    raise UsageError(
        f"unknown text space {name!r}", f'known are "{LEXICON}" and "{OPEN_CLIP}<arch>/<tag>"'
    )


def rows_under(hypernym: str) -> frozenset[str]:
    """Names of the lexicon rows under a hypernym: "structure" gives wall, floor, ..."""
    return frozenset(row.name for row in lexicon_rows() if hypernym in row.hypernyms)


def _words(text: str) -> Words:
    """Lower-case words without accents, punctuation, possessive s and words that add nothing."""
    if len(text) > MAX_LETTERS:
        raise UsageError(f"the phrase has {len(text)} letters, over {MAX_LETTERS}")
    letters = unicodedata.normalize("NFKD", text.casefold()).replace("\u2019", "'")
    plain = "".join(c for c in letters if not unicodedata.combining(c)).replace("'s", "")
    words = re.sub(r"[^\w]|_", " ", plain).split()
    return tuple(word for word in words if word not in IGNORED)


def _matches(words: Words) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The longest known terms from left to right with their rows; no rows for an unknown word."""
    vocabulary = _vocabulary()
    longest = max(map(len, vocabulary))
    start = 0
    while start < len(words):
        for end in range(min(start + longest, len(words)), start, -1):
            if rows := vocabulary.get(words[start:end]):
                break
        else:
            end, rows = start + 1, ()
        yield " ".join(words[start:end]), rows
        start = end


@cache
def _vocabulary() -> Mapping[Words, tuple[int, ...]]:
    """Every term of the table, singular and plural, with the rows that it stands for."""
    rows_of = defaultdict(set)
    for i, row in enumerate(lexicon_rows()):
        for term in (row.name, *row.synonyms, *row.hypernyms):
            plural = row.plural if term == row.name and row.plural else plural_of(term)
            rows_of[_words(term)].add(i)
            rows_of[_words(plural)].add(i)
    return {words: tuple(sorted(rows)) for words, rows in rows_of.items()}


def plural_of(term: str) -> str:
    """The plural of a term's last word by the rules of English spelling."""
    head, space, last = term.rpartition(" ")
    if last in IRREGULAR_PLURALS:
        plural = IRREGULAR_PLURALS[last]
    elif re.search(r"(s|x|z|ch|sh)$", last):
        plural = last + "es"
    elif re.search(r"[^aeiou]y$", last):
        plural = last[:-1] + "ies"
    else:
        plural = last + "s"
    return head + space + plural


def _unknown_word(words: Sequence[str]) -> UnknownWord:
    terms = sorted({t for row in lexicon_rows() for t in (row.name, *row.synonyms, *row.hypernyms)})
    nearest = [near for word in words for near in difflib.get_close_matches(word, terms, n=3)]
    known = (
        f"did you mean {', '.join(nearest)}?"
        if nearest
        else "known are words such as " + (", ".join(row.name for row in lexicon_rows()[5:12]))
    )
    return UnknownWord(f"unknown: {', '.join(map(repr, words))}", known)
