"""A scene in few cells: what grouping works on, so that its memory does not grow with the scene."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from ffsplat import codes
from ffsplat.codebook import LEXICON
from ffsplat.types import Scene, SparseCode
from ffsplat.voxels import Groups, cell_keys, group

STEP = 1.1
"""Least factor from one size of cells to the next."""


@dataclass(frozen=True, eq=False)
class Cells:
    """m filled cells of a grid: mean place, colour and code of their Gaussians, by opacity.

    `index` is the cell of each Gaussian, `side` the side of a cell in world units.
    """

    means: Float32[np.ndarray, "m 3"]
    colors: Float32[np.ndarray, "m 3"]
    codes: SparseCode | None
    sizes: Float64[np.ndarray, " m"]
    index: Int64[np.ndarray, " n"]
    side: float

    def __len__(self) -> int:
        return len(self.means)


def cells_of(scene: Scene, max_cells: int) -> Cells:
    """A grid of about the smallest cells of which no more than `max_cells` are filled."""
    gaussians = scene.gaussians
    groups, side = _grid(gaussians.means, max_cells)
    weights = np.maximum(gaussians.opacities_of_meaning, np.float32(1e-6))
    code = None
    if scene.codes is not None and len(groups):
        code = codes.fuse(scene.codes, groups.index, weights, len(groups))
    return Cells(
        groups.mean(gaussians.means, weights),
        groups.mean(gaussians.colors, weights),
        code,
        groups.sizes.astype(np.float64),
        groups.index,
        side,
    )


def coded_vectors(scene: Scene, cells: Cells) -> Float32[np.ndarray, "m d"]:
    """Unit coded vectors of the cells in the scene's first space; of width 0 without codes.

    In the lexicon only the rows that are used are axes: the others are 0 everywhere.
    """
    code = cells.codes
    if code is None or scene.codebook is None:
        return np.zeros((len(cells), 0), np.float32)
    space = next(iter(scene.codebook.spaces))
    rows = scene.codebook.spaces[space].astype(np.float32)
    if space == LEXICON:
        rows = rows[:, np.unique(code.ids[code.ids >= 0])]
    return unit_vectors(code, rows)


def unit_vectors(
    code: SparseCode, rows: Float32[np.ndarray, "rows d"]
) -> Float32[np.ndarray, "n d"]:
    """The coded vectors sum_k w_k row[id_k], scaled to length 1; 0 where there is no evidence."""
    vectors = np.zeros((len(code), rows.shape[1]), np.float32)
    for ids, weights in zip(code.ids.T, code.weights.T.astype(np.float32), strict=True):
        vectors += np.where(weights > 0, weights, 0)[:, None] * rows[ids]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _grid(points: Float32[np.ndarray, "n 3"], max_cells: int) -> tuple[Groups, float]:
    """Cells that start at a thousandth of the scene's middle extent and grow until few enough.

    Gaussians lie on surfaces, so the number of filled cells falls with the square of their side.
    """
    if not len(points):
        return group(cell_keys(points, 1.0)), 1.0
    low, high = np.percentile(points, [5, 95], axis=0)
    side = max(float((high - low).max()) / 1000, 1e-9)
    lifted = points - points.min(axis=0)  # from 0, so that a large enough cell holds everything
    while True:
        groups = group(cell_keys(lifted, side))
        if len(groups) <= max_cells:
            return groups, side
        side *= max(STEP, 0.9 * (len(groups) / max_cells) ** 0.5)
