"""Codes smoothed in space: each Gaussian gets the mean of what it and its neighbours mean.

Source: COS3D (Zhu et al., arXiv 2510.20238): the mean of the unit features of the ten nearest
Gaussians, itself among them, at length 1. Its code overwrites features while later ones are still
averaged, ten thousand at a time, so that its result depends on their order; this does not.
"""

from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float16, Float32, Int16, Int32

from ffsplat import codes
from ffsplat.grouping.neighbors import nearest
from ffsplat.types import Gaussians, Scene, SparseCode

NEIGHBORS = 10
"""Gaussians that are averaged, itself among them."""

MOST_KEPT = 64
"""Pairs of a smoothed code at most: the heaviest. Ten neighbours mostly share their rows: in a
scene of photos half of all Gaussians had five rows or fewer around them, and none over twenty."""

MANY = 2**18
"""Gaussians up to which numpy smooths them sooner than numba is loaded."""

_smoothed: WeakKeyDictionary[SparseCode, tuple[Gaussians, SparseCode]] = WeakKeyDictionary()
"""The last smoothed codes of each scene that is still in use: every text asks for the same."""


def smoothed_codes(scene: Scene, code: SparseCode) -> SparseCode:
    """The codes of a scene, smoothed over the neighbours of its Gaussians; norms as stored there.

    Codes that were smoothed for the same Gaussians are kept as long as the codes themselves.
    Raises UsageError without SciPy.
    """
    found = _smoothed.get(code)
    if found is None or found[0] is not scene.gaussians:
        means = scene.gaussians.means
        near, _ = nearest(means, means, NEIGHBORS)
        found = scene.gaussians, smooth(code, near)
        _smoothed[code] = found
    return found[1]


def smooth(
    code: SparseCode,
    neighbors: Int32[np.ndarray, "n m"],
    kept: int | None = None,
    backend: Literal["auto", "numba", "numpy"] = "auto",
) -> SparseCode:
    """The direction of the mean unit vector of each Gaussian's neighbours, `kept` pairs of it.

    Without `kept` they are as many as the rows that any Gaussian has around it, so that nothing is
    cut off, but `MOST_KEPT`: that cuts where ten codes of more than 6 pairs have no row in common.
    The norms of the code must be those of its rows' space; those of the result are not: see
    `query.scoring.in_space`. Neighbours without evidence do not count. `auto` takes
    numba for more than `MANY` Gaussians: fewer are quicker than its compilation.
    """
    lengths = code.norms.astype(np.float32)
    unit: Float32[np.ndarray, "n k"] = np.divide(
        code.weights, lengths[:, None], out=np.zeros(code.weights.shape, np.float32),
        where=lengths[:, None] > 0,
    )  # fmt: skip
    fast = len(code) > MANY if backend == "auto" else backend == "numba"
    ids, weights = (_by_numba if fast else _by_numpy)(code.ids, unit, neighbors, kept)
    bare = SparseCode(ids, weights, np.zeros(len(ids), np.float16))
    return SparseCode(ids, weights, codes.norm(bare).astype(np.float16))


def _by_numba(
    ids: Int16[np.ndarray, "n k"],
    unit: Float32[np.ndarray, "n k"],
    neighbors: Int32[np.ndarray, "n m"],
    kept: int | None,
) -> tuple[Int16[np.ndarray, "n kept"], Float16[np.ndarray, "n kept"]]:
    from ffsplat.grouping.loops import heaviest_of_neighbors, most_rows

    if kept is None:
        kept = max(1, min(int(most_rows(ids, unit, neighbors)), MOST_KEPT))
    best, weights = heaviest_of_neighbors(ids, unit, neighbors, kept)
    return best, weights.astype(np.float16)


def _by_numpy(
    ids: Int16[np.ndarray, "n k"],
    unit: Float32[np.ndarray, "n k"],
    neighbors: Int32[np.ndarray, "n m"],
    kept: int | None,
) -> tuple[Int16[np.ndarray, "n kept"], Float16[np.ndarray, "n kept"]]:
    shape = len(ids), neighbors.shape[1] * ids.shape[1]
    near = ids[neighbors].reshape(shape), unit[neighbors].reshape(shape)
    found = codes.from_pairs(*near, min(shape[1], MOST_KEPT) if kept is None else kept)
    if kept is None:  # the heaviest stand first
        kept = max(1, int((found.ids >= 0).sum(axis=1).max(initial=0)))
    return found.ids[:, :kept].copy(), found.weights[:, :kept].copy()
