"""Objects across views: which Gaussians belong to one thing, by place, class and embedding."""

from itertools import product

import numpy as np
from jaxtyping import Float32, Int32, Int64

from ffsplat.types import NO_ID
from ffsplat.voxels import BITS, cell_keys, group

_HALF_OF_NEIGHBOURS = [offset for offset in product((-1, 0, 1), repeat=3) if offset > (0, 0, 0)]
"""13 of the 26 cells around a cell; the others are met from the other side."""


def label_instances(
    means: Float32[np.ndarray, "n 3"],
    rows: Int64[np.ndarray, " n"],
    embeddings: Float32[np.ndarray, "n e"],
    voxel_size: float,
    max_distance: float = 0.3,
    min_gaussians: int = 20,
) -> Int32[np.ndarray, " n"]:
    """Number the objects of a scene: 0 for the largest, -1 where there is none.

    Gaussians of one codebook row in one cell of side `voxel_size` are one node; nodes of touching
    cells (26 neighbours) are linked if they have the same row and the cosine distance between
    their mean embeddings is at most `max_distance`; an object is a connected component. Objects
    of fewer than `min_gaussians` Gaussians, and rows of -1, get -1.
    """
    labels = np.full(len(means), NO_ID, np.int32)
    known = np.flatnonzero(rows != NO_ID)
    nodes = group(rows[known] << 3 * BITS | cell_keys(means[known], voxel_size))
    mean = nodes.sum(embeddings[known])
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    first, second = _touching(nodes.keys)
    near = np.einsum("pe,pe->p", mean[first], mean[second]) >= 1 - max_distance
    roots = connected_components(len(nodes), first[near], second[near])
    labels[known] = _by_size(roots[nodes.index], min_gaussians)
    return labels


def connected_components(
    count: int, first: Int64[np.ndarray, " p"], second: Int64[np.ndarray, " p"]
) -> Int64[np.ndarray, " count"]:
    """The smallest node of each node's component, for an undirected graph given as pairs.

    Each round hooks every root onto its smallest neighbouring root and flattens the trees, which
    at least halves the roots that are left. Source: Shiloach and Vishkin, J. Algorithms 3, 1982.
    """
    root = np.arange(count)
    while True:
        low = np.minimum(root[first], root[second])
        high = np.maximum(root[first], root[second])
        if np.array_equal(low, high):
            return root
        np.minimum.at(root, high, low)
        while not np.array_equal(root, root[root]):
            root = root[root]


def _touching(
    keys: Int64[np.ndarray, " m"],
) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]:
    """Pairs of nodes in neighbouring cells; `keys` is sorted, with the row above the cell."""
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for x, y, z in _HALF_OF_NEIGHBOURS if len(keys) else ():
        wanted = keys + (x + (y << BITS) + (z << 2 * BITS))
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        found = np.flatnonzero(keys[place] == wanted)
        firsts.append(found)
        seconds.append(place[found])
    return np.concatenate(firsts), np.concatenate(seconds)


def _by_size(roots: Int64[np.ndarray, " n"], min_gaussians: int) -> Int32[np.ndarray, " n"]:
    """Number components by falling size (ties: the smaller root first), -1 for tiny ones."""
    components = group(roots)
    order = np.argsort(-components.sizes, kind="stable")
    numbers = np.empty(len(components), np.int32)
    numbers[order] = np.arange(len(components))
    numbers[components.sizes < min_gaussians] = NO_ID
    return numbers[components.index]
