"""A teacher whose truth is known: features made from exact labels, spoilt as those of CLIP are."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int
from scipy.ndimage import gaussian_filter

UNLIKE = 0.84
"""Mean pairwise cosine of real, unlike CLIP embeddings (854 centroids of Dr. Splat's index)."""


@dataclass(frozen=True)
class Corruption:
    """How features are spoilt. Noise is relative to the distance that unlike labels have.

    `blur` is the standard deviation of the field of a feature, in cells of the grid. `wrong` is
    the share of cells that lie in blobs of another label, new in each view. `view_noise` is one
    offset a label and view, `cell_noise` one a cell.
    """

    blur: float = 0.7
    wrong: float = 0.15
    view_noise: float = 0.5
    cell_noise: float = 0.7


def label_vectors(
    count: int, size: int, random: np.random.Generator, unlike: float = UNLIKE
) -> Float32[np.ndarray, "count size"]:
    """Unit vectors in a cone: a common part and random ones, with mean pairwise cosine `unlike`."""
    basis = random.standard_normal((count + 1, size))
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    common, own = basis[0], basis[1:]
    own -= (own @ common)[:, None] * common
    own -= own.mean(axis=0)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    # The cosines of centred vectors have the mean -1 / (count - 1), which the common part makes up.
    share = (unlike * (count - 1) + 1) / count
    return (np.sqrt(share) * common + np.sqrt(1 - share) * own).astype(np.float32)


def label_features(
    labels: Int[np.ndarray, "v h w"],
    vectors: Float32[np.ndarray, "count size"],
    grid: tuple[int, int],
    corruption: Corruption,
    random: np.random.Generator,
) -> Float32[np.ndarray, "v y x size"]:
    """Unit features on a grid of cells: the mean vector of the labels that a feature sees."""
    present, index = np.unique(labels, return_inverse=True)
    index = index.reshape(labels.shape)
    shares = np.stack([_shares(view, len(present), grid, corruption.blur) for view in index])
    for view in shares:
        _spoil(view, corruption.wrong, random)
    scale = np.sqrt(2 * (1 - UNLIKE))
    shape = (len(labels), len(present), vectors.shape[1])
    offsets = random.standard_normal(shape) * corruption.view_noise * scale / np.sqrt(2 * shape[-1])
    features = np.einsum("vyxl,vld->vyxd", shares, vectors[present] + offsets, optimize=True)
    noise = random.standard_normal(features.shape, np.float32) / np.sqrt(2 * shape[-1])
    features += corruption.cell_noise * scale * noise
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    return (features / lengths).astype(np.float32)


def _shares(
    labels: Int[np.ndarray, "h w"], count: int, grid: tuple[int, int], blur: float
) -> Float32[np.ndarray, "y x count"]:
    """Which share of the field of each cell has which label."""
    rows = (np.arange(labels.shape[0]) * grid[0]) // labels.shape[0]
    columns = (np.arange(labels.shape[1]) * grid[1]) // labels.shape[1]
    cells = (rows[:, None] * grid[1] + columns) * count + labels
    counts = np.bincount(cells.ravel(), minlength=grid[0] * grid[1] * count)
    shares = counts.reshape(*grid, count).astype(np.float32)
    shares = gaussian_filter(shares, (blur, blur, 0), mode="nearest")
    return shares / shares.sum(axis=-1, keepdims=True)


def _spoil(
    shares: Float32[np.ndarray, "y x count"], wrong: float, random: np.random.Generator
) -> None:
    """Overwrite ellipses with other labels of the scene until a share of the cells is wrong."""
    height, width, count = shares.shape
    spoilt = np.zeros((height, width), bool)
    y, x = np.mgrid[:height, :width]
    while count > 1 and spoilt.mean() < wrong:
        centre, radii = random.random(2) * (height, width), 0.5 + 2 * random.random(2)
        blob = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1
        blob &= ~spoilt
        if blob.any():
            usual = shares[blob].mean(axis=0).argmax()
            other = (usual + random.integers(1, count)) % count
            shares[blob] = np.eye(count, dtype=np.float32)[other]
            spoilt |= blob
