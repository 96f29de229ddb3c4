"""Plain cosine: how nearly the coded vector of a Gaussian points where the text does."""

from dataclasses import dataclass

from ffsplat import codes
from ffsplat.hits import Match
from ffsplat.query.question import Question

COSINE_THRESHOLD = 0.25
"""A cosine of text and image embeddings that mostly means a match; LAION-5B keeps pairs of a
photo and its caption from 0.28 (arXiv 2210.08402), and parts of a photo score lower."""


@dataclass(frozen=True)
class Options:
    """A cosine has none."""


def match(question: Question, options: Options) -> Match:
    """Cosine of text and coded vector; 0 where there is no evidence."""
    scores = codes.cosine(question.code, question.row_scores(question.direction[None]))[:, 0]
    return Match(scores, (question.counted,), (), question.of_things, COSINE_THRESHOLD)
