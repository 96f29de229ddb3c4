"""Relevancy: how much nearer a text is than phrases that mean anything (LERF, LangSplat)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from ffsplat.codebook import asked_levels
from ffsplat.errors import UsageError
from ffsplat.hits import Match
from ffsplat.query.options import check_positive
from ffsplat.query.question import Question
from ffsplat.query.scoring import margins
from ffsplat.text import CANON
from ffsplat.types import SparseCode

RELEVANCY_THRESHOLD = 0.5
"""A text that is nearer than every canonical phrase: the rule of LERF, and of LEGaussians' code."""

RANGE_THRESHOLD = 0.7
"""Of the range of relevancies in the scene; the code of LangSplat stretches a map to [-1, 1] and
cuts it at 0.4, which is the same."""

TEMPERATURE = 10.0
"""Factor on cosines before they become a relevancy, as in the code of LERF and its successors."""


@dataclass(frozen=True)
class Options:
    """How cosines become a relevancy, which level counts, and what the threshold is compared with.

    `canon` are the canonical phrases. `levels` "together" compares whole codes; "best" compares
    each level of detail by itself and keeps the one with the largest relevancy in the scene
    (LangSplat, section 3.4). `rule` "absolute" compares the relevancy itself with the threshold,
    "range" its place between the smallest and largest of the scene, so that something is always
    found, also where nothing is there.
    """

    temperature: float = TEMPERATURE
    canon: tuple[str, ...] = CANON
    levels: Literal["together", "best"] = "together"
    rule: Literal["absolute", "range"] = "absolute"

    def __post_init__(self):
        check_positive("temperature", self.temperature)
        if not self.canon:
            raise UsageError("a relevancy needs canonical phrases, and there are none")


def match(question: Question, options: Options) -> Match:
    """The relevancy of every Gaussian; 0 without evidence, where no text is near.

    Raises UsageError for a text without canonical phrases: in the lexicon, say.
    """
    if options.levels == "best" and question.level is None:
        present = asked_levels(question.codebook)
        asked = [question.at_level(name) for name in present]
        found = [scores_of(one, one.code, options) for one in asked]
        best = int(np.argmax([scores.max(initial=0) for scores in found]))
        question, scores = asked[best], found[best]
    else:
        scores = scores_of(question, question.code, options)
    limit = RELEVANCY_THRESHOLD
    if options.rule == "range":
        scores, limit = stretched(scores, scores > 0), RANGE_THRESHOLD
    return Match(scores, (question.counted,), (), question.of_things, limit)


def scores_of(question: Question, code: SparseCode, options: Options) -> Float32[np.ndarray, " n"]:
    """The relevancy of any codes over the question's codebook, with lengths in its space."""
    text, canon = question.embedding, canon_of(question)
    if options.canon != CANON:
        canon = question.encoder.encode(options.canon)
    gaps = margins(code, question.row_scores(np.vstack([text.vector, canon])))
    return of_margin(gaps, options.temperature)


def canon_of(question: Question) -> Float32[np.ndarray, "c d"]:
    """The canonical phrases beside the text; UsageError where its space has none."""
    if not len(question.embedding.canon):
        raise UsageError(
            f"a relevancy needs canonical phrases, which the space {question.space_name!r} lacks",
            "--space open_clip:ARCH/TAG has them, or ask by --strategy cosine",
        )
    return question.embedding.canon


def relevancy(
    positive: Float[np.ndarray, " *n"],
    canon: Float[np.ndarray, "*n c"],
    temperature: float = TEMPERATURE,
) -> Float32[np.ndarray, " *n"]:
    """How much nearer a text is than the canonical phrases: 0 to 1, 0.5 where it is equally near.

    The least, over the phrases, of the softmax of two cosines at a temperature, which is
    sigmoid(temperature * (positive - largest canon)). Source: Kerr et al., "LERF: Language Embedded
    Radiance Fields", 2023, section 3.4.
    """
    return of_margin(positive - canon.max(axis=-1), temperature)


def of_margin(
    margins: Float[np.ndarray, " *n"], temperature: float = TEMPERATURE
) -> Float32[np.ndarray, " *n"]:
    """The relevancy of a cosine that is so much above the largest of a canonical phrase."""
    with np.errstate(over="ignore"):  # of -inf, where there is no evidence: 0
        return (1 / (1 + np.exp(-temperature * margins))).astype(np.float32)


def stretched(scores: Float32[np.ndarray, " n"], known: np.ndarray) -> Float32[np.ndarray, " n"]:
    """Where a score lies between the smallest and the largest of the known ones, 0 to 1."""
    if not known.any():
        return np.zeros_like(scores)
    low, high = scores[known].min(), scores[known].max()
    return np.where(known, (scores - low) / (high - low + np.float32(1e-9)), 0).astype(np.float32)
