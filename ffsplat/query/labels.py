"""A closed list of labels: softmax of cosines, as LSM, SIU3R and Feature 3DGS ask."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int32

from ffsplat import codes
from ffsplat.codebook import LEXICON
from ffsplat.errors import UsageError
from ffsplat.hits import Match
from ffsplat.query.options import check_positive
from ffsplat.query.question import Question
from ffsplat.query.scoring import best
from ffsplat.types import LEVELS, NO_ID, SparseCode

SCALE = 100.0
"""Factor on cosines before the softmax: the largest that CLIP was trained with (Radford et al.,
2021, section 2.5). It does not change which label is the best."""

SHARE_THRESHOLD = 0.5
"""More likely than all other labels together."""


@dataclass(frozen=True)
class Options:
    """The labels to tell apart, and what a score is.

    With `rule` "best" a Gaussian matches only the label that it is nearest to, with the probability
    as its score. With "share" the probability alone counts (Zhou et al., Feature 3DGS, 2024).
    `scale` is the factor on cosines before the softmax, 1 in Feature 3DGS.
    """

    labels: tuple[str, ...] = ()
    scale: float = SCALE
    rule: Literal["best", "share"] = "best"

    def __post_init__(self):
        if len(set(self.labels)) < len(self.labels):
            raise UsageError("a label is given twice", "labels are told apart, so each is another")
        check_positive("scale", self.scale)


@dataclass(frozen=True, eq=False)
class Labelling:
    """The best label of each Gaussian, -1 without evidence, and its probability."""

    labels: tuple[str, ...]
    label: Int32[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]


def match(question: Question, options: Options) -> Match:
    """The probability of the text among the labels, or of the best label if there is no text.

    The text is added to the labels if it is none. Raises UsageError for fewer than two labels.
    """
    text = question.label.strip()
    labels = options.labels if not text or text in options.labels else (text, *options.labels)
    counted, whole = (question.counted,), question.of_things
    if text and options.rule == "share":
        found = probabilities(question, question.code, labels, options.scale)
        return Match(found[:, labels.index(text)], counted, (), whole, SHARE_THRESHOLD)
    found = classify(question, labels, options.scale)
    wanted = found.label == labels.index(text) if text else found.label >= 0
    scores = np.where(wanted, found.probability, np.float32(0))
    return Match(scores, counted, (), False, 0.0, found.labels, found.label)


def classify(question: Question, labels: tuple[str, ...], scale: float = SCALE) -> Labelling:
    """The best label of every Gaussian. Raises UsageError for fewer than two labels.

    In the lexicon, what says nothing of any label has none: there a softmax would have them equal.
    """
    rows = row_scores(question, labels)
    code = narrowed(question, rows).code
    label, share = best(code, rows, scale)
    if question.space_name == LEXICON:
        silent = _silent(code, rows)
        label, share = np.where(silent, np.int32(NO_ID), label), np.where(silent, 0, share)
    return Labelling(labels, label, share.astype(np.float32))


def narrowed(question: Question, rows: Float32[np.ndarray, "rows t"]) -> Question:
    """In the lexicon, where all labels name rows of one level, the question about that level."""
    if question.level is not None or question.space_name != LEXICON:
        return question
    levels = np.unique(question.codebook.levels[rows.any(axis=1)])
    fits = len(levels) == 1 and levels[0] < 2
    return question.at_level(LEVELS[levels[0]]) if fits else question


def probabilities(
    question: Question, code: SparseCode, labels: tuple[str, ...], scale: float = SCALE
) -> Float32[np.ndarray, "n t"]:
    """softmax(scale * cosine) over the labels of any codes; 0 where there is no evidence.

    In the lexicon there is none where a code says nothing of any label.
    """
    rows = row_scores(question, labels)
    found = softmax(scale * codes.cosine(code, rows))
    found[_silent(code, rows) if question.space_name == LEXICON else code.norms == 0] = 0
    return found


def _silent(code: SparseCode, rows: Float32[np.ndarray, "rows t"]) -> Bool[np.ndarray, " n"]:
    """Which codes have no weight on a row that any label names."""
    return codes.score(code, rows.max(axis=1)) <= 0


def softmax(logits: Float32[np.ndarray, "*n t"]) -> Float32[np.ndarray, "*n t"]:
    """Exponentials that sum to 1 over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def row_scores(question: Question, labels: tuple[str, ...]) -> Float32[np.ndarray, "rows t"]:
    """Inner products of rows and labels; in the lexicon 1 on the rows that a label names."""
    if len(labels) < 2:
        raise UsageError(
            "a softmax tells labels apart and needs two or more",
            "--labels a,b,c or -O labels=a,b,c",
        )
    return question.row_scores(question.encoder.encode(labels))
