"""Text spaces: what turns a phrase into numbers that codebook rows can be compared with."""

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from ffsplat.clip import (
    OPEN_CLIP,
    Clip,
    ClipName,
    folder_name,
    load_clip,
    load_clip_folder,
    parse_space,
)
from ffsplat.codebook import LEXICON, add_space, lexicon_rows
from ffsplat.embeddings import EmbeddingCache, TextEmbedding
from ffsplat.errors import UnknownWord, UsageError
from ffsplat.types import Codebook

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

CANON = ("object", "things", "stuff", "texture")
"""Phrases that mean anything: a query must be nearer than all of them. Source: Kerr et al., "LERF",
2023, section 3.4."""

TEMPLATES = ("{}", "a photo of a {}.")
"""Prompts that a row's name is embedded in. Source: Radford et al. (CLIP), 2021, section 3.1.4."""

AT_ONCE = 64
"""Phrases in one pass through a text tower."""

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
    """The text tower of an OpenCLIP model: free text, in unit vectors.

    Weights load at the first phrase that is not in the cache on disk.
    """

    def __init__(
        self,
        arch: str,
        tag: str,
        *,
        folder: Path | None = None,
        offline: bool = False,
        cache: EmbeddingCache | None = None,
    ):
        """The published weights of a tag, or those of a folder, which then name the space."""
        self.clip_name = ClipName(arch, tag) if folder is None else folder_name(folder)
        self.name = self.clip_name.space
        self._folder, self.offline = folder, offline
        self._cache = EmbeddingCache() if cache is None else cache

    @classmethod
    def of_folder(cls, folder: Path) -> "OpenClipSpace":
        """The space of a folder with weights, as `load_clip_folder` takes it."""
        return cls("", "", folder=folder)

    def encode(self, phrases: Sequence[str]) -> Float32[np.ndarray, "t d"]:
        """Unit text embeddings of the phrases as they are, without a template.

        Raises UsageError for an unknown model and for an empty or overlong phrase; WeightsMissing
        and CheckpointError as `load_clip`.
        """
        for phrase in phrases:
            if not phrase.strip() or len(phrase) > MAX_LETTERS:
                raise UsageError(f"a phrase has 1 to {MAX_LETTERS} letters, not {len(phrase)}")
            if any("\ud800" <= letter <= "\udfff" for letter in phrase):
                raise UsageError(f"{phrase!r:.80} is not text")  # bytes of another encoding
        known = {phrase: self._cache.get(self.name, phrase) for phrase in dict.fromkeys(phrases)}
        missing = [phrase for phrase, vector in known.items() if vector is None]
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            fresh = dict(zip(some, self._embedded(some), strict=True))
            self._cache.put(self.name, fresh)
            known |= fresh
        if not phrases:
            return np.zeros((0, 0), np.float32)
        return np.stack([vector for phrase in phrases if (vector := known[phrase]) is not None])

    def _embedded(self, phrases: list[str]) -> Float32[np.ndarray, "t d"]:
        from ffsplat.clip.phrases import embed_phrases

        clip = _text_tower(self.clip_name, self._folder, self.offline)
        return embed_phrases(clip, phrases).numpy()


@lru_cache(maxsize=1)
def _text_tower(name: ClipName, folder: Path | None, offline: bool) -> Clip:
    """The tower that was used last stays loaded, for the next phrase of a session."""
    if folder is None:
        return load_clip(name, offline=offline, text_only=True)
    return load_clip_folder(folder, text_only=True)


def text_space(name: str) -> TextSpace:
    """The text space of this name in `Codebook.spaces`; UsageError if it is of no known kind."""
    if name == LEXICON:
        return LexiconSpace()
    if clip := parse_space(name):
        return OpenClipSpace(clip.arch, clip.tag)
    raise UsageError(
        f"unknown text space {name!r}", f'known are "{LEXICON}" and "{OPEN_CLIP}<arch>/<tag>"'
    )


def embed(text: str, space: TextSpace) -> TextEmbedding:
    """A phrase in a text space, with the canonical phrases where the space is an OpenCLIP's."""
    canon = CANON if space.name.startswith(OPEN_CLIP) else ()
    vectors = space.encode([text, *canon])
    return TextEmbedding(text, space.name, vectors[0], vectors[1:])


def add_text_space(codebook: Codebook, space: TextSpace) -> Codebook:
    """The codebook with its row names embedded in a further text space.

    A row is the mean of its name in each of `TEMPLATES`, scaled to length 1, as Radford et al.
    (CLIP, 2021, section 3.1.4) make a class of several prompts; a row without a name is 0 and so
    never found. Raises UsageError if no row has a name.
    """
    names = sorted({name for name in codebook.names if name})
    if not names:
        raise UsageError(
            f"the codebook has no rows in {space.name} and no names to make them of",
            f"it has {', '.join(codebook.spaces)}",
        )
    prompts = [template.format(name) for name in names for template in TEMPLATES]
    vectors = space.encode(prompts).reshape(len(names), len(TEMPLATES), -1).mean(1)
    rows = np.zeros((len(codebook), vectors.shape[1]), np.float32)
    order = {name: i for i, name in enumerate(names)}
    for row, name in enumerate(codebook.names):
        if name:
            rows[row] = vectors[order[name]]
    return add_space(codebook, space.name, rows)


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


def counted(count: int, term: str) -> str:
    """So many of a thing, in words: "1 match", "2,000 matches"."""
    return f"{count:,} {term if count == 1 else plural_of(term)}"


def _unknown_word(words: Sequence[str]) -> UnknownWord:
    terms = sorted({t for row in lexicon_rows() for t in (row.name, *row.synonyms, *row.hypernyms)})
    words = list(dict.fromkeys(words))
    nearest = [near for word in words for near in difflib.get_close_matches(word, terms, n=3)]
    known = (
        f"did you mean {', '.join(dict.fromkeys(nearest))}?"
        if nearest
        else "known are words such as " + (", ".join(row.name for row in lexicon_rows()[5:12]))
    )
    return UnknownWord(f"unknown: {', '.join(map(repr, words))}", known)
