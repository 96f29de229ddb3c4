"""The nearest neighbours of Gaussians in space."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int32

from ffsplat.errors import UsageError

CHUNK = 2**17
"""Points asked for at a time: the search answers in 16 bytes a neighbour, 8 are kept."""


def nearest(
    points: Float[np.ndarray, "n 3"], among: Float[np.ndarray, "m 3"], count: int
) -> tuple[Int32[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
    """The `count` nearest of `among` to each point, nearest first, and their distances.

    Of fewer than `count` there are as many as there are. A point among themselves is its own
    nearest. Raises UsageError without SciPy.
    """
    k = min(count, len(among))
    indices = np.empty((len(points), k), np.int32)
    distances = np.empty((len(points), k), np.float32)
    if not len(points) or not k:
        return indices, distances
    tree = _tree(among)
    for start in range(0, len(points), CHUNK):
        rows = slice(start, start + CHUNK)
        far, found = tree.query(points[rows], k=np.arange(1, k + 1), workers=-1)
        indices[rows], distances[rows] = found, far
    return indices, distances


def _tree(points: Float[np.ndarray, "m 3"]) -> Any:
    try:
        from scipy.spatial import KDTree
    except ImportError:
        raise UsageError(
            "neighbours of Gaussians are found by SciPy, which is not installed",
            'pip install "ffsplat[group]"',
        ) from None
    return KDTree(points)
