"""The built-in words: which share of a Gaussian's evidence lies on the rows that they name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from ffsplat import codes
from ffsplat.codebook import LEXICON
from ffsplat.color_names import BASIC_COLORS, nearest_basic_color
from ffsplat.errors import SceneFileError, UsageError
from ffsplat.hits import Match, slots_of
from ffsplat.query.question import Question
from ffsplat.text import LexiconSpace
from ffsplat.types import LEVELS, Codebook, Scene, SparseCode

LEXICON_THRESHOLD = 0.5
"""Most of the evidence of a Gaussian speaks for the phrase."""


@dataclass(frozen=True)
class Options:
    """The lexicon has none."""


def match(question: Question, options: Options) -> Match:
    """Product over the levels of the phrase of the share of evidence on its rows.

    A colour is the share of the instance whose own colour is nearest to it. Raises UsageError for
    another space and for a level that the phrase does not name; else as `LexiconSpace.parse`.
    """
    if question.space_name != LEXICON or not isinstance(question.text, str):
        raise UsageError(
            f"the lexicon is no way to ask in {question.space_name}", "--strategy relevancy is one"
        )
    scene, text = question.scene, question.text
    phrase = LexiconSpace().parse(text)
    code, codebook = question.scene.codes, question.codebook
    assert code is not None  # a question has codes
    levels = [n for n in LEVELS[:2] if n in phrase.rows and question.level in (None, n)]
    if not levels and question.level is not None:
        level = question.level
        raise UsageError(f"{text!r} names nothing of level {level}", f"drop the level {level}")
    scores = np.ones(len(scene), np.float32)
    named = []
    for name in levels:
        wanted = lexicon_of_rows(codebook)[:, list(phrase.rows[name])].any(axis=1)
        at_level = codebook.levels == LEVELS.index(name)
        named.append(wanted & at_level)
        scores *= share(code, wanted & at_level, at_level)
    if phrase.colors:
        scores *= _color_share(scene, scores, phrase.colors)
    if not named:
        named.append(codebook.levels == LEVELS.index("whole"))
    whole = levels == ["whole"]
    return Match(scores, tuple(named), phrase.colors, whole, LEXICON_THRESHOLD)


def lexicon_of_rows(codebook: Codebook) -> Bool[np.ndarray, "rows lexicon"]:
    """Which lexicon row each codebook row is; an older codebook knows fewer lexicon rows.

    Raises SceneFileError for a codebook that knows more.
    """
    known = codebook.spaces[LEXICON]
    size = len(LexiconSpace().encode([]).T)
    if known.shape[1] > size:
        raise SceneFileError(
            f"the codebook has {known.shape[1]} lexicon rows, this version {size}",
            "the scene was made by a newer ffsplat",
        )
    rows = np.zeros((len(codebook), size), bool)
    rows[:, : known.shape[1]] = known > 0
    return rows


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
