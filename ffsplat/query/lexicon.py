"""The built-in words: which share of a Gaussian's evidence lies on the rows that they name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from ffsplat import codes
from ffsplat.codebook import LEXICON
from ffsplat.color_names import BASIC_COLORS, nearest_basic_color
from ffsplat.errors import UsageError
from ffsplat.hits import Match, slots_of
from ffsplat.query.question import Question, lexicon_of_rows
from ffsplat.text import LexiconSpace, Phrase
from ffsplat.types import ASKED_LEVELS, LEVELS, Scene, SparseCode

LEXICON_THRESHOLD = 0.5
"""Most of the evidence of a Gaussian speaks for the phrase."""

Named = Mapping[str, Bool[np.ndarray, " rows"]]
"""Codebook rows by their level."""


@dataclass(frozen=True)
class Options:
    """The lexicon has none."""


def match(question: Question, options: Options) -> Match:
    """Product over the levels of the phrase of the share of evidence on its rows.

    A colour is the share of the instance whose own colour is nearest to it. Raises UsageError for
    another space and for a level that the phrase does not name; else as `LexiconSpace.parse`.
    """
    code, (named, colors) = question.scene.codes, asked_rows(question)
    assert code is not None  # a question has codes
    scores = evidence(question, code, named)
    if colors:
        scores *= _color_share(question.scene, scores, colors)
    whole = list(named) == ["whole"]
    rows = tuple(named.values()) or (question.codebook.levels == LEVELS.index("whole"),)
    return Match(scores, rows, colors, whole, LEXICON_THRESHOLD)


def asked_rows(question: Question) -> tuple[Named, tuple[str, ...]]:
    """The codebook rows that the text names, by level, and the colours.

    A text that the lexicon refuses may be a name that only this scene has, such as one that was
    given by hand: then it stands for the rows of that name. Raises as `match`.
    """
    if question.space_name != LEXICON or not isinstance(question.text, str):
        raise UsageError(
            f"the lexicon is no way to ask in {question.space_name}", "--strategy relevancy is one"
        )
    try:
        phrase = LexiconSpace().parse(question.text)
    except UsageError:
        if own := _own_rows(question):
            return own, ()
        raise
    return named_rows(question, phrase), phrase.colors


def _own_rows(question: Question) -> Named:
    """The rows whose name is the text to the letter, at the first level that has any."""
    asked, book = question.label.strip().casefold(), question.codebook
    called = np.array([bool(name) and name.casefold() == asked for name in book.names], bool)
    for name in ASKED_LEVELS:
        rows = called & (book.levels == LEVELS.index(name))
        if question.level in (None, name) and rows.any():
            return {name: rows}
    return {}


def named_rows(question: Question, phrase: Phrase) -> Named:
    """The codebook rows that a phrase names, by level; UsageError if the asked level has none."""
    codebook = question.codebook
    levels = [n for n in ASKED_LEVELS if n in phrase.rows and question.level in (None, n)]
    if not levels and question.level is not None:
        level = question.level
        raise UsageError(
            f"{question.label!r} names nothing of level {level}", f"drop the level {level}"
        )
    table = lexicon_of_rows(codebook)
    return {
        name: table[:, list(phrase.rows[name])].any(axis=1)
        & (codebook.levels == LEVELS.index(name))
        for name in levels
    }


def evidence(question: Question, code: SparseCode, named: Named) -> Float32[np.ndarray, " n"]:
    """Product over the levels of the share of each code's weight at a level on the named rows."""
    scores = np.ones(len(code), np.float32)
    for name, wanted in named.items():
        scores *= share(code, wanted, question.codebook.levels == LEVELS.index(name))
    return scores


def share(
    code: SparseCode, wanted: Bool[np.ndarray, " rows"], level: Bool[np.ndarray, " rows"]
) -> Float32[np.ndarray, " n"]:
    """The share of each code's weight at a level that lies on the wanted rows; 0 without any."""
    found, total = codes.score(code, np.stack([wanted, level], axis=1).astype(np.float32)).T
    return np.divide(found, total, out=np.zeros_like(found), where=total > 0)


def _color_share(
    scene: Scene, scores: Float32[np.ndarray, " n"], colors: Sequence[str]
) -> Float32[np.ndarray, " n"]:
    """1 where a Gaussian's colour is one of these, else 0; in an instance the mean over it.

    The mean is weighted by the score so far, so that the cushion does not colour the chair leg.
    """
    wanted = np.isin(BASIC_COLORS, colors)
    own = wanted[nearest_basic_color(scene.gaussians.colors)].astype(np.float32)
    if scene.instances is None:
        return own
    slots, count = slots_of(scene.instances)
    weight = np.bincount(slots, scores, count)
    mean = np.bincount(slots, scores * own, count) / np.maximum(weight, 1e-12)
    return np.where(scene.instances < 0, own, mean[slots]).astype(np.float32)
