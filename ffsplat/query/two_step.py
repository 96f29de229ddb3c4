"""Two steps: from the text to a region, and from the region to its Gaussians.

The second step compares what was seen with what was seen, so that one high threshold fits any text.
Source: "Semantic Consistent Language Gaussian Splatting", arXiv 2503.21767, section IV-B.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64

from ffsplat import codes
from ffsplat.codebook import LEXICON
from ffsplat.errors import UsageError
from ffsplat.hits import Match
from ffsplat.query.evidence import evidence
from ffsplat.query.question import Question
from ffsplat.query.regions import Regions, instance_regions, row_regions, super_regions
from ffsplat.query.scoring import raise_to_cosines

_REGIONS = {"instance": instance_regions, "row": row_regions, "super": super_regions}

AT_ONCE = 256
"""Regions that are compared at a time."""

ALIKE = 0.95
ALIKE_IN_WORDS = 0.6
"""Cosine of a Gaussian and its region from which it belongs to it. Embeddings of images are alike
even where they show different things; rows of the lexicon have nothing in common."""


@dataclass(frozen=True)
class Options:
    """What a region is, which regions are kept, and how Gaussians are picked from them.

    Regions are "instance"s, all Gaussians of one codebook "row", or compact pieces of the scene,
    "super"-Gaussians (SuperGSeg, arXiv 2412.10231), which need neither. `keep` "best" keeps the
    region that fits the text best, as the source does; "all" keeps those from `low` on, the
    threshold of the first step (usual: that of the space's own strategy), below which there is no
    region. "auto" is what does best on rooms: all instances in the lexicon, the best row in a space
    of embeddings; rows, too, where the scene has no instances. `select` "member" takes the
    Gaussians of the region; "feature" those of the whole scene whose cosine with the region is the
    threshold or more. `stray` drops, by DBSCAN, Gaussians that have fewer than `neighbors` others
    within that distance and are near no such cluster; 0 keeps them.
    """

    regions: Literal["auto", "instance", "row", "super"] = "auto"
    keep: Literal["auto", "best", "all"] = "auto"
    select: Literal["member", "feature"] = "member"
    low: float | None = None
    stray: float = 0.0
    neighbors: int = 10

    def __post_init__(self):
        if not 0 <= self.stray < np.inf or self.neighbors < 1:
            raise UsageError(
                f"no cluster has {self.neighbors} neighbours within {self.stray}",
                "a distance of 0 or more, and 1 neighbour or more",
            )
        if self.low is not None and not np.isfinite(self.low):
            raise UsageError(f"the lower threshold is {self.low}, not a number to compare with")


def match(question: Question, options: Options) -> Match:
    """Cosine of each Gaussian with its region, or the best of the regions, that fits the text."""
    found, kept = kept_regions(question, options)
    if options.select == "member":
        scores, limit = np.isin(found.of, kept).astype(np.float32), 0.5
    else:
        scores = alike(question, found, kept)
        limit = ALIKE_IN_WORDS if question.space_name == LEXICON else ALIKE
    if options.stray > 0:
        _drop_strays(question, scores, limit, options)
    return Match(scores, (question.counted,), (), False, limit)


def kept_regions(
    question: Question, options: Options
) -> tuple[Regions, Int64[np.ndarray, " kept"]]:
    """The regions of the scene, and which of them fit the text."""
    in_words = question.space_name == LEXICON
    grouped = question.scene.instances is not None
    kind = options.regions.replace("auto", "instance" if in_words and grouped else "row")
    keep = options.keep.replace("auto", "all" if in_words else "best")
    found = _REGIONS[kind](question)
    kept = regions_of_text(question, found, options.low)
    return found, kept[:1] if keep == "best" else kept


def regions_of_text(
    question: Question, regions: Regions, low: float | None = None
) -> Int64[np.ndarray, " kept"]:
    """The regions that fit the text, best first; none if none reaches the lower threshold."""
    scores, usual = evidence(question, regions.code)
    order = np.argsort(-scores, kind="stable")
    fits = (scores >= (usual if low is None else low)) & (regions.code.norms > 0)
    return order[fits[order]]


def alike(
    question: Question, regions: Regions, kept: Int64[np.ndarray, " kept"]
) -> Float32[np.ndarray, " n"]:
    """The largest cosine of each Gaussian with one of the kept regions."""
    largest = np.zeros(len(question.scene), np.float32)
    for start in range(0, len(kept), AT_ONCE):
        some = regions.code[kept[start : start + AT_ONCE]]
        vectors = codes.to_dense(some, len(question.codebook)) @ question.embeddings
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        raise_to_cosines(largest, question.code, question.row_scores(vectors))
    return largest


def _drop_strays(
    question: Question, scores: Float32[np.ndarray, " n"], limit: float, options: Options
) -> None:
    """Set the score of matching Gaussians that DBSCAN calls noise to 0."""
    try:
        from sklearn.cluster import DBSCAN
    except ImportError as error:
        raise UsageError(
            "dropping strays needs scikit-learn", 'pip install "ffsplat[group]"'
        ) from error
    rows = np.flatnonzero(scores >= limit)
    if len(rows):
        clusters = DBSCAN(eps=options.stray, min_samples=options.neighbors)
        labels = clusters.fit_predict(question.scene.gaussians.means[rows])
        scores[rows[labels < 0]] = 0
