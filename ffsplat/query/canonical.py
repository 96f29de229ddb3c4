"""Relevancy: how much nearer a text is than phrases that mean anything (LERF, LangSplat)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from ffsplat import codes
from ffsplat.errors import UsageError
from ffsplat.hits import Match
from ffsplat.query.question import Question

RELEVANCY_THRESHOLD = 0.5
"""A text that is nearer than every canonical phrase."""

TEMPERATURE = 10.0
"""Factor on cosines before they become a relevancy, as in the code of LERF and its successors."""


@dataclass(frozen=True)
class Options:
    """`temperature` is the factor on cosines before the softmax."""

    temperature: float = TEMPERATURE


def match(question: Question, options: Options) -> Match:
    """The relevancy of every Gaussian; 0 without evidence, where no text is near.

    Raises UsageError for a text without canonical phrases: in the lexicon, say.
    """
    text = question.embedding
    if not len(text.canon):
        raise UsageError(
            f"a relevancy needs canonical phrases, which {question.space_name} lacks",
            "--space open_clip:ARCH/TAG has them, or ask by --strategy cosine",
        )
    rows = question.row_scores(np.vstack([text.vector, text.canon]))
    cosines = codes.cosine(question.code, rows)
    known = question.code.norms > 0  # without evidence every cosine is 0, which is no half match
    scores = relevancy(cosines[:, 0], cosines[:, 1:], options.temperature)
    scores = np.where(known, scores, 0).astype(np.float32)
    return Match(scores, (question.counted,), (), question.level != "part", RELEVANCY_THRESHOLD)


def relevancy(
    positive: Float32[np.ndarray, " *n"],
    canon: Float32[np.ndarray, "*n c"],
    temperature: float = TEMPERATURE,
) -> Float32[np.ndarray, " *n"]:
    """How much nearer a text is than the canonical phrases: 0 to 1, 0.5 where it is equally near.

    The least, over the phrases, of the softmax of two cosines at a temperature, which is
    sigmoid(temperature * (positive - largest canon)). Source: Kerr et al., "LERF: Language Embedded
    Radiance Fields", 2023, section 3.4.
    """
    gap = positive - canon.max(axis=-1)
    return (1 / (1 + np.exp(-temperature * gap))).astype(np.float32)
