"""Nested levels: the coarse prefix of a meaning, then more and more of it (N2F2).

Bhalgat et al., "N2F2: Hierarchical Scene Understanding with Nested Neural Feature Fields", 2024,
give each point one vector whose prefixes mean objects, then parts. Here the prefixes of a code are
its pairs of level whole, then those of whole and part, and of subpart, then all of it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from ffsplat import codes
from ffsplat.hits import Match
from ffsplat.query.canonical import (
    RELEVANCY_THRESHOLD,
    TEMPERATURE,
    canon_of,
    of_margin,
    relevancy,
)
from ffsplat.query.labels import softmax
from ffsplat.query.options import check_positive
from ffsplat.query.question import Question
from ffsplat.query.scoring import margins
from ffsplat.types import ASKED_LEVELS, LEVELS, SparseCode


@dataclass(frozen=True)
class Options:
    """How the prefixes become one score.

    `pick` "largest" takes the most relevant prefix; "composite" blends the prefixes first, by how
    near each is to a canonical phrase (N2F2, section 3.3), and asks once.
    """

    pick: Literal["largest", "composite"] = "largest"
    temperature: float = TEMPERATURE

    def __post_init__(self):
        check_positive("temperature", self.temperature)


def match(question: Question, options: Options) -> Match:
    """The relevancy of the most relevant prefix of each code, or of their blend.

    Raises UsageError for a text without canonical phrases.
    """
    rows = question.row_scores(np.vstack([question.embedding.vector, canon_of(question)]))
    parts = prefixes(question)
    if options.pick == "largest":
        gaps = np.max([margins(code, rows) for code in parts], axis=0)
        scores = of_margin(gaps, options.temperature)
    else:
        cosines = compose(np.stack([codes.cosine(code, rows) for code in parts], axis=1))
        scores = relevancy(cosines[:, 0], cosines[:, 1:], options.temperature)
        scores = np.where(parts[-1].norms > 0, scores, np.float32(0))
    return Match(scores, (question.counted,), (), True, RELEVANCY_THRESHOLD)


def prefixes(question: Question) -> list[SparseCode]:
    """The codes up to each level that the codebook has rows of, coarsest first."""
    levels = question.codebook.levels
    order = [LEVELS.index(name) for name in (*ASKED_LEVELS, "appearance")]
    present = [index for index in order if (levels == index).any()]
    return [question.cut(tuple(sorted(present[: count + 1]))) for count in range(len(present))]


def compose(cosines: Float[np.ndarray, "n prefixes t"]) -> Float32[np.ndarray, "n t"]:
    """Cosines of the blend sum_k gamma_k E_k: gamma is the softmax of each prefix's largest cosine
    with a canonical phrase; the first text is the one asked for. Source: N2F2, equation 6.
    """
    weights = softmax(cosines[..., 1:].max(axis=-1).astype(np.float32))
    return np.einsum("nk,nkt->nt", weights, cosines).astype(np.float32)
