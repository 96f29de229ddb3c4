"""Regions of a scene as codes: the mean of their Gaussians, which is again a code."""

import sys
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float32, Int

from ffsplat import codes
from ffsplat.codes import half_values
from ffsplat.grouping import super_gaussians
from ffsplat.hits import slots_of
from ffsplat.query.question import Question
from ffsplat.query.scoring import in_space
from ffsplat.types import NO_ID, Gaussians, SparseCode

MAX_TABLE = 2**25
"""Numbers in a table of region by codebook row: above, the heaviest `WIDTH` rows of a region stand
for it."""

WIDTH = 32
"""Pairs of a region's code where there is no table; with one, all rows that the region has."""

_pieces: WeakKeyDictionary[SparseCode, tuple[Gaussians, Int[np.ndarray, " n"]]] = (
    WeakKeyDictionary()
)
"""The super-Gaussians of each scene that is still in use: every text asks the same."""


@dataclass(frozen=True, eq=False)
class Regions:
    """The region of each Gaussian, -1 for none, and the mean code of each region."""

    of: Int[np.ndarray, " n"]
    code: SparseCode

    def __len__(self) -> int:
        return len(self.code)


def instance_regions(question: Question) -> Regions:
    """Each instance is a region; a scene without instances has none."""
    instances = question.scene.instances
    if instances is None or not len(instances):
        return Regions(np.full(len(question.scene), NO_ID), question.code[:0])
    slots, count = slots_of(instances)
    of = np.where(instances < 0, np.int32(NO_ID), slots)
    return Regions(of, mean_codes(question, of, count))


def row_regions(question: Question) -> Regions:
    """All Gaussians that say most of one codebook row are a region; its code is that row."""
    code, count = question.code, len(question.codebook)
    heaviest = code.weights.argmax(axis=1)[:, None]
    ids = np.take_along_axis(code.ids, heaviest, axis=1)[:, 0].astype(np.int64)
    rows = np.where(question.counted, np.arange(count), NO_ID)[:, None]
    pure = codes.from_pairs(rows, np.ones((count, 1)), code.ids.shape[1])
    return Regions(ids, in_space(pure, question.embeddings))


def super_regions(question: Question) -> Regions:
    """Super-Gaussians are regions: compact pieces alike in colour and code, found once a scene.

    Every one of them is asked instead of every Gaussian, as in SuperGSeg (Liang et al., arXiv
    2412.10231). Raises UsageError without SciPy.
    """
    key = question.scene.codes
    assert key is not None  # a question has codes
    known = _pieces.get(key)
    if known is None or known[0] is not question.scene.gaussians:
        known = question.scene.gaussians, super_gaussians(question.scene).index
        _pieces[key] = known
    of = known[1]
    return Regions(of, mean_codes(question, of, int(of.max(initial=-1)) + 1))


def mean_codes(question: Question, groups: Int[np.ndarray, " n"], count: int) -> SparseCode:
    """The mean code of each group, weighted by opacity; Gaussians of group -1 are in none.

    So all views of a region share one feature. The weight of a view in Semantic Consistent
    Language Gaussian Splatting (arXiv 2503.21767, section IV-A) is the number of its pixels;
    opacity stands for how much of a Gaussian is seen.
    """
    code, rows = question.code, len(question.codebook)
    opacities = question.scene.gaussians.opacities_of_meaning * (groups >= 0)
    if count * rows > MAX_TABLE:
        targets = np.maximum(groups, 0).astype(np.int64)
        return in_space(codes.fuse(code, targets, opacities, count, WIDTH), question.embeddings)
    table = tables(code, np.maximum(groups, 0), opacities, count, rows)
    width = max(1, int(np.count_nonzero(table, axis=1).max(initial=0)))
    heaviest = np.argsort(-table, axis=1, kind="stable")[:, :width]
    pairs = heaviest, np.take_along_axis(table, heaviest, axis=1)
    return in_space(codes.from_pairs(*pairs, width), question.embeddings)


def tables(
    code: SparseCode,
    groups: Int[np.ndarray, " n"],
    weights: Float32[np.ndarray, " n"],
    count: int,
    rows: int,
) -> Float32[np.ndarray, "count rows"]:
    """How much each group says of each row: weight of a Gaussian times weight of its pair.

    Raises SceneFileError if an ID lies outside the rows.
    """
    codes.check_ids(code, rows)
    if "numba" in sys.modules:
        from ffsplat.query import loops

        sums = np.zeros((count, rows))
        loops.tables(code.ids, code.weights.view(np.uint16), half_values(), groups, weights, sums)
        return sums.astype(np.float32)
    keys = groups.astype(np.int64)[:, None] * (rows + 1) + code.ids + 1
    evidence = code.weights * weights[:, None]
    sums = np.bincount(keys.ravel(), evidence.ravel(), count * (rows + 1))
    return sums.reshape(count, rows + 1)[:, 1:].astype(np.float32)
