"""Objects by clustering place, colour and code: the grouping rule of FreeGS, on cells.

Source: Zhang et al., "Bootstrapping Clustering of Gaussians for View-consistent 3D Scene
Understanding" (FreeGS), AAAI 2025, and its published code, which has constants that the paper
lacks. It clusters every Gaussian on a GPU; here a scene is first gathered in at most `max_cells`
cells, whose labels their Gaussians take, so that memory does not grow with the scene. Counts of
the rule are then counts of cells, except the least size of a group, which is one of Gaussians.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int32

from ffsplat.errors import UsageError
from ffsplat.grouping.cells import Cells, cells_of, coded_vectors
from ffsplat.grouping.neighbors import nearest
from ffsplat.types import NO_ID, Scene


@dataclass(frozen=True)
class Clustering:
    """Constants of FreeGS; distances are in the unit cube that the scene is scaled to.

    Clusters of HDBSCAN have `min_cells` to `max_cluster` cells and are not cut finer than
    `epsilon`; codes count by `components` principal components. Noise joins the group of its
    nearest cell within `noise_distance`; two groups are one where the `quantile` of the distances
    between their cells is below `merge_distance` and the cosine of their mean codes above
    `merge_cosine`; groups of at most `min_gaussians` are none, and `max_groups` stay.
    """

    epsilon: float = 0.01
    min_cells: int = 20
    max_cluster: int = 30_000
    components: int = 6
    noise_distance: float = 0.003
    merge_distance: float = 0.015
    merge_cosine: float = 0.98
    quantile: float = 0.005
    min_gaussians: int = 200
    max_groups: int = 63
    max_cells: int = 20_000

    def __post_init__(self) -> None:
        counts = self.max_cluster, self.min_gaussians, self.max_groups, self.max_cells
        lengths = self.epsilon, self.noise_distance, self.merge_distance
        if self.min_cells < 2 or min(counts) < 1 or self.components < 0:
            raise UsageError("clusters have 2 cells or more, and all other counts are 1 or more")
        near = all(0 <= length < np.inf for length in lengths)
        if not near or not 0 <= self.quantile <= 1 or not abs(self.merge_cosine) <= 1:
            raise UsageError("distances of clusters are 0 or more, a quantile from 0 to 1")


def group_instances(scene: Scene, rule: Clustering | None = None) -> Scene:
    """The scene with an object number for each Gaussian, 0 for the largest object, -1 for none.

    Needs no instances and no photos; a scene without codes is clustered by place and colour.
    Raises UsageError without scikit-learn.
    """
    rule = rule or Clustering()
    cells = cells_of(scene, rule.max_cells)
    vectors = coded_vectors(scene, cells)
    places = unit_cube(cells.means)
    labels = _clusters(places, cells, vectors, rule)
    labels = join_noise(labels, places, max(rule.noise_distance, _reach(cells, places)))
    labels = merge_groups(labels, places, vectors, rule)
    return replace(scene, instances=by_size(labels[cells.index], rule))


def unit_cube(values: Float[np.ndarray, "m d"]) -> Float32[np.ndarray, "m d"]:
    """Each column scaled to run from 0 to 1; one without extent is 0."""
    if not len(values):
        return values.astype(np.float32)
    low, extent = values.min(axis=0), np.ptp(values, axis=0)
    return ((values - low) / np.where(extent > 0, extent, 1)).astype(np.float32)


def join_noise(
    labels: Int32[np.ndarray, " m"], places: Float32[np.ndarray, "m 3"], distance: float
) -> Int32[np.ndarray, " m"]:
    """Cells of no group get the group of the nearest cell that has one, if it is that near."""
    noise, known = np.flatnonzero(labels < 0), np.flatnonzero(labels >= 0)
    joined = labels.copy()
    if len(noise) and len(known):
        closest, far = nearest(places[noise], places[known], 1)
        near = far[:, 0] < distance
        joined[noise[near]] = labels[known[closest[near, 0]]]
    return joined


def merge_groups(
    labels: Int32[np.ndarray, " m"],
    places: Float32[np.ndarray, "m 3"],
    vectors: Float32[np.ndarray, "m d"],
    rule: Clustering,
) -> Int32[np.ndarray, " m"]:
    """Groups that touch and mean the same become one, the smaller joining the most alike larger.

    The smallest group goes first. What a merged group touches is counted anew, by its nearest
    cell, as in the published code. Without codes nothing is merged.
    """
    merged = labels.copy()
    if not vectors.shape[1]:
        return merged
    sizes = np.bincount(labels[labels >= 0])
    order = [int(g) for g in np.argsort(sizes, kind="stable") if sizes[g]]
    members = {g: np.flatnonzero(labels == g) for g in order}
    means = {g: vectors[rows].mean(axis=0) for g, rows in members.items()}
    grown: set[int] = set()
    for rank, small in enumerate(order):
        likeness = {}
        for large in order[rank + 1 :]:
            cosine = _cosine(means[small], means[large])
            if cosine > rule.merge_cosine:
                part = 0.0 if {small, large} & grown else rule.quantile
                distance = gap(places[members[small]], places[members[large]], part)
                if distance < rule.merge_distance:
                    likeness[large] = cosine
        if likeness:
            largest = max(likeness, key=lambda group: likeness[group])
            members[largest] = np.concatenate([members[largest], members[small]])
            means[largest] = vectors[members[largest]].mean(axis=0)
            merged[members[largest]] = largest
            grown.add(largest)
    return merged


def gap(
    first: Float32[np.ndarray, "a 3"], second: Float32[np.ndarray, "b 3"], quantile: float
) -> float:
    """The distance that this share of all pairs of two groups undercut; 0 is the nearest pair.

    Groups of more than 2048 are thinned out evenly: the pairs are a sample then.
    """
    if quantile == 0:
        return float(nearest(first, second, 1)[1].min())
    a, b = (group[:: -(-len(group) // 2048)].astype(np.float64) for group in (first, second))
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    place = max(int(squares.size * quantile), 1) - 1
    return float(np.sqrt(max(np.partition(squares.ravel(), place)[place], 0)))


def by_size(labels: Int32[np.ndarray, " n"], rule: Clustering) -> Int32[np.ndarray, " n"]:
    """Groups of Gaussians numbered by falling size, -1 for small ones and those beyond the most."""
    numbers = np.full(len(labels), NO_ID, np.int32)
    sizes = np.bincount(labels[labels >= 0])
    order = np.argsort(-sizes, kind="stable")
    kept = [int(g) for g in order if sizes[g] > rule.min_gaussians][: rule.max_groups]
    for number, label in enumerate(kept):
        numbers[labels == label] = number
    return numbers


def _clusters(
    places: Float32[np.ndarray, "m 3"],
    cells: Cells,
    vectors: Float32[np.ndarray, "m d"],
    rule: Clustering,
) -> Int32[np.ndarray, " m"]:
    """HDBSCAN on place, colour and the principal components of the codes."""
    clusterer, components = _scikit_learn()
    if len(places) < max(rule.min_cells, 2):
        return np.full(len(places), NO_ID, np.int32)
    features = [places, cells.colors]
    known = (vectors != 0).any(axis=1)
    count = min(rule.components, vectors.shape[1], int(known.sum()))
    if count:
        reduced = np.zeros((len(vectors), count), np.float32)
        solver = components(count, svd_solver="full" if vectors.shape[1] < 64 else "randomized",
                            random_state=0)  # fmt: skip
        reduced[known] = unit_cube(solver.fit_transform(vectors[known]))
        features.append(reduced)
    return clusterer(
        min_cluster_size=rule.min_cells,
        min_samples=rule.min_cells,
        cluster_selection_epsilon=rule.epsilon,
        max_cluster_size=rule.max_cluster,
        copy=True,
    ).fit_predict(np.concatenate(features, axis=1)).astype(np.int32)  # fmt: skip


def _scikit_learn() -> tuple[Any, Any]:
    try:
        from sklearn.cluster import HDBSCAN
        from sklearn.decomposition import PCA
    except ImportError:
        raise UsageError(
            "instances are grouped by scikit-learn, which is not installed",
            'pip install "ffsplat[group]"',
        ) from None
    return HDBSCAN, PCA


def _reach(cells: Cells, places: Float32[np.ndarray, "m 3"]) -> float:
    """The longest diagonal of a cell in the unit cube: nearer cells touch."""
    if not len(places):
        return 0.0
    extent = np.ptp(cells.means, axis=0)
    return float(np.linalg.norm(cells.side / np.where(extent > 0, extent, np.inf)))


def _cosine(a: Float32[np.ndarray, " d"], b: Float32[np.ndarray, " d"]) -> float:
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))
