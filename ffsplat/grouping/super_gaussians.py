"""Super-Gaussians: a few hundred compact pieces that a scene's Gaussians are softly assigned to.

Source: SuperGSeg (Liang et al., arXiv 2412.10231). Its anchors are cells of a voxel grid, here as
there; its assignment is a softmax of a small network over differences of place and feature, which
is here the softmax of the negative squared differences themselves: soft k-means over near seeds,
as in the superpixel networks that the rule comes from (Jampani et al., ECCV 2018).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64

from ffsplat.errors import UsageError
from ffsplat.grouping.cells import Cells, cells_of, coded_vectors
from ffsplat.grouping.neighbors import nearest
from ffsplat.types import Scene


@dataclass(frozen=True, eq=False)
class SuperGaussians:
    """S pieces of a scene, and how its m anchors, the cells of a grid, belong to them.

    `weights` are the shares of each anchor in its `candidates`, the nearest seeds; they sum to 1.
    `index` is the piece of each Gaussian: the heaviest candidate of its anchor.
    """

    centers: Float32[np.ndarray, "s 3"]
    features: Float32[np.ndarray, "s d"]
    candidates: Int32[np.ndarray, "m k"]
    weights: Float32[np.ndarray, "m k"]
    index: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.centers)


def super_gaussians(
    scene: Scene,
    count: int = 256,
    *,
    candidates: int = 8,
    rounds: int = 5,
    feature_weight: float = 1.0,
    max_anchors: int = 50_000,
) -> SuperGaussians:
    """Cut a scene into `count` pieces that are near in space and alike in colour and code.

    Seeds are the anchors that farthest-point sampling finds. Then, `rounds` times, each anchor is
    shared among its nearest seeds, and each seed moves to the mean of its shares. Distances count
    in the mean spacing of the seeds, and feature differences, times `feature_weight`, in unit
    vectors of colour and code. Memory is bounded by `max_anchors`; the Gaussians of an anchor stay
    together. Raises UsageError for counts below 1, and without SciPy.
    """
    if min(count, candidates, rounds, max_anchors) < 1:
        raise UsageError("pieces, candidates, rounds and anchors are 1 or more")
    cells = cells_of(scene, max_anchors)
    places, looks = cells.means, _looks(scene, cells)
    seeds = farthest_points(places, count)
    centers, features = places[seeds], looks[seeds]
    spacing = mean_spacing(centers)
    near = np.zeros((len(places), max(min(candidates, len(seeds)), 1)), np.int32)
    weights = np.zeros(near.shape, np.float32)
    for _ in range(rounds if len(places) else 0):
        near, far = nearest(places, centers, candidates)
        unlike = [np.square(looks - features[column]).sum(axis=1) for column in near.T]
        costs = (far / spacing) ** 2 + feature_weight * np.stack(unlike, axis=1)
        weights = soft_assignment(costs)
        centers = weighted_means(places, near, weights * cells.sizes[:, None], centers)
        features = weighted_means(looks, near, weights * cells.sizes[:, None], features)
    best = near[np.arange(len(near)), weights.argmax(axis=1)]
    return SuperGaussians(centers, features, near, weights, best[cells.index])


def farthest_points(
    points: Float32[np.ndarray, "m 3"], count: int, first: int = 0
) -> Int64[np.ndarray, " s"]:
    """Rows of up to `count` points, each the farthest from those before it; ties: the lower row.

    Fewer where no point is left that differs. Source: Gonzalez, Theor. Comput. Sci. 38, 1985.
    """
    chosen: list[int] = []
    away = np.full(len(points), np.inf, np.float32)
    row = first
    while len(chosen) < min(count, len(points)) and away[row] > 0:
        chosen.append(row)
        away = np.minimum(away, np.square(points - points[row]).sum(axis=1))
        row = int(away.argmax())
    return np.array(chosen, np.int64)


def soft_assignment(costs: Float[np.ndarray, "m k"]) -> Float32[np.ndarray, "m k"]:
    """Softmax of the negative costs over each row: shares that sum to 1."""
    shares = np.exp(costs.min(axis=1, keepdims=True) - costs)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def weighted_means(
    values: Float32[np.ndarray, "m d"],
    candidates: Int32[np.ndarray, "m k"],
    weights: Float[np.ndarray, "m k"],
    empty: Float32[np.ndarray, "s d"],
) -> Float32[np.ndarray, "s d"]:
    """For each seed sum_i A_ij x_i / sum_i A_ij; one that nothing belongs to keeps its `empty`."""
    count, slots = len(empty), candidates.ravel()
    total = np.bincount(slots, weights.ravel(), count)
    sums = [np.bincount(slots, (weights * column[:, None]).ravel(), count) for column in values.T]
    means = np.stack(sums, axis=1) / np.maximum(total, 1e-12)[:, None]
    return np.where(total[:, None] > 0, means, empty).astype(np.float32)


def mean_spacing(points: Float32[np.ndarray, "s 3"]) -> float:
    """Mean distance of each point to its nearest other; 1 where there is no other."""
    if len(points) < 2:
        return 1.0
    return max(float(nearest(points, points, 2)[1][:, 1].mean()), 1e-12)


def _looks(scene: Scene, cells: Cells) -> Float32[np.ndarray, "m d"]:
    """Colour and unit code of each anchor, side by side."""
    return np.concatenate([cells.colors, coded_vectors(scene, cells)], axis=1)
