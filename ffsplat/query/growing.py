"""Seeds and growing: what is surely meant takes in what looks like the same object.

Source: COS3D (Zhu et al., arXiv 2510.20238), language to instance, by its published code. Codes
are smoothed over ten neighbours (`grouping.smoothing`), their scores stretched to [0, 1] and halved
from below, and from each best seed the alike are taken while they are relevant on average. Where
the paper and the code differ the code is followed: the paper has a threshold on the scores as they
are (`stretch=False`), the code on 2 (s - min) / (max - min) - 1, cut at 0.

Lengths of codes are float16, so that a cosine is off by up to 3e-4. Every group depends on those
before it: where the two best seeds, a likeness or a mean are that near to each other or to their
threshold, another group is taken than with exact lengths. Given the lengths, all is equal to 1e-5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32

from ffsplat import codes
from ffsplat.codebook import LEXICON
from ffsplat.errors import UsageError
from ffsplat.grouping.cells import unit_vectors
from ffsplat.hits import Match, slots_of
from ffsplat.query.evidence import evidence
from ffsplat.query.question import Question
from ffsplat.query.surroundings import surroundings
from ffsplat.types import NO_ID, SparseCode

SEED_SCORE = 0.5
"""Relevance above which a Gaussian is a seed, and from which on average a group is taken."""

SEED_OPACITY = 0.1
"""Opacity above which a Gaussian is a seed."""

LOOSENESS = (0.4, 0.3, 0.2, 0.1)
"""Shares of the spread of an object that are tried, the loosest first."""

SAMPLE = 20_000
"""Gaussians that the spread of objects is measured on."""


@dataclass(frozen=True)
class Options:
    """How Gaussians are taken to be one object, and how scores become a relevance.

    By "instance" numbers, by the cosine of their "code", or "auto": by instance where the scene has
    any. `stretch`
    says whether scores run from 0 to 1 in every scene, as in the code of COS3D, so that something
    is always found; in the lexicon, where 0 is nothing at all, they do not unless told to.
    `max_seeds` bounds the rounds.
    """

    by: Literal["auto", "instance", "code"] = "auto"
    stretch: bool | None = None
    max_seeds: int = 200

    def __post_init__(self):
        if self.max_seeds < 1:
            raise UsageError("growing needs at least one seed")


def match(question: Question, options: Options) -> Match:
    """The mean relevance of the group that a Gaussian was taken with, 0 outside of all groups.

    Raises UsageError for growing by instances in a scene that has none, and without SciPy.
    """
    scene = question.scene
    code = surroundings(question)
    scores, _ = evidence(question, code)
    stretched = question.space_name != LEXICON if options.stretch is None else options.stretch
    relevance = stretch(scores) if stretched else scores
    by_code = options.by == "code" or (options.by == "auto" and scene.instances is None)
    alike, spread = (_by_code if by_code else _by_instance)(question, code)
    opacities = scene.gaussians.opacities_of_meaning
    grown = grow(relevance, alike, opacities, spread, options.max_seeds)
    return Match(grown, (question.counted,), (), False, SEED_SCORE)


def stretch(scores: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """The upper half of the range of scores, from 0 in its middle to 1 at its top."""
    if not len(scores):
        return scores
    shifted = scores - scores.min()
    return np.clip(2 * shifted / (shifted.max() + 1e-9) - 1, 0, 1).astype(np.float32)


def grow(
    relevance: Float32[np.ndarray, " n"],
    alike: Callable[[int], Float32[np.ndarray, " n"]],
    opacities: Float32[np.ndarray, " n"],
    spread: float,
    max_seeds: int = 200,
) -> Float32[np.ndarray, " n"]:
    """The mean relevance of each Gaussian's group, 0 where it is in none.

    The most relevant Gaussian that is left is a seed. Its group are all that are left and whose
    likeness to it, a cosine that `alike` gives for all Gaussians, is above 1 - c spread, for the
    first c of LOOSENESS with a mean relevance, weighted by opacity, of at least SEED_SCORE. The
    last group that was tried is done with, taken or not.
    """
    grown = np.zeros(len(relevance), np.float32)
    left = np.ones(len(relevance), bool)
    rows = np.flatnonzero((relevance > SEED_SCORE) & (opacities > SEED_OPACITY))
    for _ in range(max_seeds):
        rows = rows[left[rows]]
        if not len(rows):
            break
        seed = int(rows[relevance[rows].argmax()])
        likeness = alike(seed)
        group = np.flatnonzero((likeness > 1 - LOOSENESS[0] * spread) & left)
        for share in LOOSENESS:
            group = group[likeness[group] > 1 - share * spread]
            weights = opacities[group].astype(np.float64)
            mean = (relevance[group] @ weights) / weights.sum() if len(group) else 0.0
            if mean >= SEED_SCORE:
                grown[group] = mean
                break
        left[group] = False
        left[seed] = False
    return grown


def _by_instance(
    question: Question, code: SparseCode
) -> tuple[Callable[[int], Float32[np.ndarray, " n"]], float]:
    """Wholly alike in one instance; a Gaussian without instance is like no other."""
    instances = question.scene.instances
    if instances is None:
        raise UsageError("the scene has no instances to grow by", "group it first, or grow by code")

    def alike(seed: int) -> Float32[np.ndarray, " n"]:
        if instances[seed] != NO_ID:
            return (instances == instances[seed]).astype(np.float32)
        alone = np.zeros(len(instances), np.float32)
        alone[seed] = 1
        return alone

    return alike, 1.0


def _by_code(
    question: Question, code: SparseCode
) -> tuple[Callable[[int], Float32[np.ndarray, " n"]], float]:
    """The cosine of smoothed codes, and the median distance of a code to the mean of its kind.

    COS3D measures that distance in photos, between pixels and the mean of their segment; here it is
    between Gaussians and the mean of their instance or, without, of their heaviest row.
    """
    rows = question.embeddings

    def alike(seed: int) -> Float32[np.ndarray, " n"]:
        vector = unit_vectors(code[seed : seed + 1], rows)[0]
        return codes.cosine(code, rows @ vector)

    instances = question.scene.instances
    kinds = code.ids[:, 0].astype(np.int32) if instances is None else instances
    some = np.flatnonzero(kinds != NO_ID)
    some = some[:: -(-len(some) // SAMPLE)] if len(some) else some
    return alike, _spread(unit_vectors(code[some], rows), kinds[some])


def _spread(vectors: Float32[np.ndarray, "m d"], kinds: np.ndarray) -> float:
    """Median distance of vectors to the mean of their kind, at least one hundredth."""
    slots, count = slots_of(kinds)
    sizes = np.bincount(slots, minlength=count)[:, None]
    means = np.zeros((count, vectors.shape[1]), np.float32)
    np.add.at(means, slots, vectors)
    means /= np.maximum(sizes, 1)
    far = np.linalg.norm(vectors - means[slots], axis=1)
    return max(float(np.median(far)), 0.01) if len(far) else 1.0
