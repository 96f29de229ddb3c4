"""Referring phrases: a small grammar of English descriptions with spatial relations.

    description = [the | a | all] {ordinal | superlative} noun {clause}
    noun        = words that the scene is asked for, with colours and "of": "leg of a red chair"
    clause      = [that is | which are | and | that stands] modifier
    modifier    = relation description              left of the table, on the desk, near the door
                | "between" description "and" description
                | ("nearest" | "farthest") [description], also "the nearest chair to the bed"
                | [ordinal] "from the" side | "on the" side
                | colours                           only after "that is"

A clause may say something of each description before it: "the cup on the table near the door" has
two readings. `parse` gives all of them; what the scene holds decides (`refer`). Words that the
grammar has no rule for belong to a noun, which the text space then knows or refuses, but words
that would turn a meaning around ("not", "except") are refused here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ffsplat.codebook import lexicon_rows
from ffsplat.errors import UsageError
from ffsplat.text import MAX_LETTERS, plural_of

MOST_CLAUSES = 4
"""Clauses of a phrase: with each, the readings multiply."""

RELATIONS = {
    "left": ("to the left of", "on the left of", "left of", "on the left side of"),
    "right": ("to the right of", "on the right of", "right of", "on the right side of"),
    "front": ("in front of",),
    "behind": ("behind", "in back of"),
    "above": ("above", "over"),
    "below": ("below", "under", "underneath", "beneath"),
    "on": ("on", "on top of", "upon", "atop"),
    "in": ("in", "inside", "within"),
    "near": ("near", "next to", "beside", "close to", "by", "adjacent to"),
    "between": ("between", "in between"),
}
"""Names of relations and the words for them."""

RANKS = {
    "largest": ("largest", "biggest"),
    "smallest": ("smallest",),
    "tallest": ("tallest",),
    "shortest": ("shortest",),
    "highest": ("highest", "topmost"),
    "lowest": ("lowest", "bottommost"),
    "leftmost": ("leftmost", "from the left", "on the left", "to the left", "at the left"),
    "rightmost": ("rightmost", "from the right", "on the right", "to the right", "at the right"),
    "nearest": ("nearest", "closest", "nearest to", "closest to"),
    "farthest": ("farthest", "furthest", "farthest from", "furthest from"),
}
"""Names of superlatives and the words for them."""

ANCHORED = ("nearest", "farthest")
"""Superlatives that may be meant of a thing instead of the viewer."""

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")

LINKS = (
    "that is", "that are", "which is", "which are", "that stands", "which stands", "that lies",
    "which lies", "standing", "lying", "sitting", "placed", "located", "that sits", "that hangs",
    "hanging",
)  # fmt: skip
"""Words that lead to a modifier and add nothing to it."""

REFUSED = frozenset(
    [
        "not",
        "no",
        "without",
        "except",
        "but",
        "or",
        "other",
        "another",
        "both",
        "either",
        "neither",
        "only",
        "than",
        "left",
        "right",
        "it",
        "its",
        "one",
        "ones",
        "with",
        "opposite",
        "facing",
        "against",
        "around",
        "through",
        "that",
        "which",
        "is",
        "are",
        "two",
        "three",
        "four",
        "five",
        "six",
        "more",
        "less",
        "who",
        "whose",
        "corner",
        "middle",
        "side",
        "farther",
        "nearer",
        "larger",
        "smaller",
    ]
)
"""Words that would change the meaning in a way that this grammar cannot express."""


@dataclass(frozen=True)
class Rank:
    """A place in an order: the second largest, the nearest to an anchor."""

    name: str
    place: int = 1
    anchor: "Description | None" = None


@dataclass(frozen=True)
class Relation:
    """A relation of the thing described to its anchors: two for "between", else one."""

    name: str
    anchors: tuple["Description", ...]


@dataclass(frozen=True)
class Description:
    """What is meant: things of a noun, narrowed by relations, then one of them by its rank.

    `definite` after "the", `plural` where several may be meant.
    """

    noun: str
    definite: bool = False
    plural: bool = False
    rank: Rank | None = None
    relations: tuple[Relation, ...] = ()


@dataclass(frozen=True)
class _Token:
    """A word, or several that stand for one thing: kind "noun", "rank", "relation", ..."""

    kind: str
    value: str


def parse(text: str) -> tuple[Description, ...]:
    """Every reading of a phrase, the one whose clauses belong to the nearest noun first.

    Raises UsageError for a phrase that the grammar has no reading for.
    """
    tokens = _tokens(text)
    clauses = sum(token.kind in ("relation", "rank") for token in tokens)
    if clauses > MOST_CLAUSES:
        raise UsageError(f"the phrase has {clauses} relations, over {MOST_CLAUSES}")
    readings = [found for found, end in _description(tokens, 0) if end == len(tokens)]
    if not readings:
        raise UsageError(
            f"{text!r} is not understood as a description",
            'try one such as "the chair left of the table" or "the second lamp from the left"',
        )
    return tuple(dict.fromkeys(readings))


def refers(text: str) -> bool:
    """Is a phrase understood as more than a noun: with a word of place or order?"""
    try:
        placed = any(token.kind in ("relation", "rank", "ordinal") for token in _tokens(text))
        return placed and bool(parse(text))
    except UsageError:
        return False


def _tokens(text: str) -> tuple[_Token, ...]:
    """The words of a text, the longest known terms joined."""
    if len(text) > MAX_LETTERS:
        raise UsageError(f"the phrase has {len(text)} letters, over {MAX_LETTERS}")
    words = re.sub(r"[^\w\s]|_", " ", text.casefold().replace("'s", "")).split()
    tokens: list[_Token] = []
    start = 0
    while start < len(words):
        for end in range(min(start + LONGEST, len(words)), start, -1):
            if token := _TERMS.get(" ".join(words[start:end])):
                break
        else:
            end, token = start + 1, _Token("noun", words[start])
        if token.kind == "noun" and token.value in REFUSED:
            raise UsageError(
                f"the word {token.value!r} is not understood in a description",
                'say where a thing is: "left of", "on", "nearest", "between ... and ..."',
            )
        tokens.append(token)
        start = end
    return tuple(tokens)


def _terms() -> dict[str, _Token]:
    """Every term of the grammar with its token."""
    terms = {word: _Token(word, word) for word in ("and", "of")}
    terms |= {word: _Token("to", word) for word in ("to", "from")}
    terms |= {word: _Token("article", word) for word in ("the", "a", "an", "any", "some")}
    terms |= {word: _Token("all", word) for word in ("all", "every", "each", "all the")}
    terms |= {word: _Token("link", word) for word in LINKS}
    for kind, table in (("relation", RELATIONS), ("rank", RANKS)):
        terms |= {word: _Token(kind, name) for name, words in table.items() for word in words}
    for place, word in enumerate(ORDINALS, start=1):
        suffix = {1: "st", 2: "nd", 3: "rd"}.get(place, "th")
        terms |= {
            word: _Token("ordinal", str(place)),
            f"{place}{suffix}": _Token("ordinal", str(place)),
        }
    return terms


_TERMS = _terms()

LONGEST = max(len(term.split()) for term in _TERMS)
"""Words of the longest term."""

_Reading = tuple[Description, int]


def _description(tokens: tuple[_Token, ...], start: int) -> Iterator[_Reading]:
    """All descriptions that begin at a token, with the token after each."""
    at, definite, every = start, False, False
    while at < len(tokens) and tokens[at].kind in ("article", "all"):
        definite |= tokens[at].value in ("the", "all the")
        every |= tokens[at].kind == "all"
        at += 1
    rank, at = _adjective_rank(tokens, at)
    words = []
    while at < len(tokens) and tokens[at].kind in ("noun", "of"):
        words.append(tokens[at].value)
        if tokens[at].kind == "of" and at + 1 < len(tokens) and tokens[at + 1].kind == "article":
            at += 1
        at += 1
    if not words or words[0] == "of" or words[-1] == "of":
        return
    noun = " ".join(words)
    bare = Description(noun, definite, every or _is_plural(words), rank)
    yield from _clauses(bare, tokens, at)


def _adjective_rank(tokens: tuple[_Token, ...], at: int) -> tuple[Rank | None, int]:
    """An ordinal, a superlative or both before a noun; an ordinal alone waits for its side."""
    place = 0
    if at < len(tokens) and tokens[at].kind == "ordinal":
        place, at = int(tokens[at].value), at + 1
    if at < len(tokens) and tokens[at].kind == "rank":
        return Rank(tokens[at].value, place or 1), at + 1
    return (Rank("", place) if place else None), at


def _clauses(found: Description, tokens: tuple[_Token, ...], at: int) -> Iterator[_Reading]:
    """The description with more and more of the clauses that follow, longest first."""
    begin = at
    joined = at < len(tokens) and tokens[at].kind == "and"
    if joined:
        at += 1
    linked = False
    while at < len(tokens) and tokens[at].kind == "link":
        at, linked = at + 1, True
    if not joined or found.relations or (found.rank and found.rank.anchor):
        for longer, end in _modifier(found, tokens, at, linked):
            yield from _clauses(longer, tokens, end)
    if found.rank is None or found.rank.name:
        yield found, begin


def _modifier(
    found: Description, tokens: tuple[_Token, ...], at: int, linked: bool
) -> Iterator[_Reading]:
    """The description with one modifier more, by the kind of its first token."""
    if at >= len(tokens):
        return
    kind = tokens[at].kind
    if kind == "relation":
        yield from _relation(found, tokens, at)
    elif kind in ("ordinal", "rank"):
        yield from _later_rank(found, tokens, at)
    elif kind == "to" and found.rank and found.rank.name in ANCHORED and not found.rank.anchor:
        for anchor, end in _description(tokens, at + 1):  # "the nearest chair to the bed"
            yield replace(found, rank=replace(found.rank, anchor=anchor)), end
    elif kind == "noun" and linked:  # "the chair that is red"
        end = next((i for i in range(at, len(tokens)) if tokens[i].kind != "noun"), len(tokens))
        words = " ".join(token.value for token in tokens[at:end])
        yield replace(found, noun=f"{words} {found.noun}"), end


def _relation(found: Description, tokens: tuple[_Token, ...], at: int) -> Iterator[_Reading]:
    """Related to one thing; between one thing and another, or between several of one kind."""
    name = tokens[at].value
    for first, end in _description(tokens, at + 1):
        if name != "between":
            yield _related(found, name, first), end
            continue
        if first.plural:
            yield _related(found, name, first, first), end
        if end < len(tokens) and tokens[end].kind == "and":
            for second, last in _description(tokens, end + 1):
                yield _related(found, name, first, second), last


def _later_rank(found: Description, tokens: tuple[_Token, ...], at: int) -> Iterator[_Reading]:
    """A superlative after the noun: nearest to an anchor, or second from a side."""
    rank, end = _adjective_rank(tokens, at)
    if rank is None or not rank.name or (found.rank and found.rank.name):
        return
    if found.rank:  # "the second chair from the left"
        if tokens[at].kind == "ordinal":
            return
        rank = replace(rank, place=found.rank.place)
    if rank.name in ANCHORED:
        for anchor, last in _description(tokens, end):
            yield replace(found, rank=replace(rank, anchor=anchor)), last
    yield replace(found, rank=rank), end


def _related(found: Description, name: str, *anchors: Description) -> Description:
    return replace(found, relations=(*found.relations, Relation(name, anchors)))


def _is_plural(words: list[str]) -> bool:
    """Is the head of the noun a plural? The table of words knows; else the ending says."""
    head = words[words.index("of") - 1] if "of" in words else words[-1]
    singular, plural = _numbers()
    if head in singular:
        return False
    return head in plural or (head.endswith("s") and not head.endswith(("ss", "us")))


def _numbers() -> tuple[set[str], set[str]]:
    """The last words of the lexicon's names and synonyms, in the singular and in the plural."""
    singular, plural = set(), set()
    for row in lexicon_rows():
        for term in (row.name, *row.synonyms, *row.hypernyms):
            singular.add(term.split()[-1])
            plural.add(
                (row.plural if term == row.name and row.plural else plural_of(term)).split()[-1]
            )
    return singular, plural - singular
