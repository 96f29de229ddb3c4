"""Gaussians as the page draws them: 32 bytes each, the layout of viser's splats.

Source: `GaussianSplatsProps` of viser 1.1: centre (three float32), a word for the page, the upper
triangle of the covariance (six float16), red, green, blue and opacity (four bytes).
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32, Int, UInt32

from ffsplat.stream.replica.scene import matrices
from ffsplat.types import Gaussians

WORDS = 8
_CENTER, _COVARIANCE, _COLOR = slice(0, 3), slice(4, 7), 7
_LARGEST = 65504.0
"""The largest float16."""

_CHUNK = 2**15
"""Gaussians at a time: temporaries stay in the cache."""


def covariances(
    scales: Float32[np.ndarray, "n 3"], quaternions_wxyz: Float32[np.ndarray, "n 4"]
) -> Float32[np.ndarray, "n 6"]:
    """Upper triangles (xx, xy, xz, yy, yz, zz) of R diag(scales^2) R^T, in squared world units.

    Source: Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering", 2023,
    equation 6.
    """
    rotations = matrices(quaternions_wxyz.astype(np.float64))
    stretched = rotations.astype(np.float32) * scales[:, None, :]
    full = stretched @ stretched.transpose(0, 2, 1)
    return full.reshape(-1, 9)[:, [0, 1, 2, 4, 5, 8]]


def shapes(gaussians: Gaussians) -> UInt32[np.ndarray, "n 8"]:
    """Centre and covariance of each Gaussian, with no colour yet."""
    words = np.zeros((len(gaussians), WORDS), np.uint32)
    words[:, _CENTER] = np.ascontiguousarray(gaussians.means).view(np.uint32)
    for rows in _chunks(len(gaussians)):
        triangles = covariances(gaussians.scales[rows], gaussians.quaternions_wxyz[rows])
        words[rows, _COVARIANCE] = _halves(triangles)
    return words


def colored(
    words: UInt32[np.ndarray, "n 8"],
    colors: Float32[np.ndarray, "n 3"],
    opacities: Float32[np.ndarray, " n"],
) -> UInt32[np.ndarray, "n 8"]:
    """A copy of the shapes in these colours, sRGB and opacity in [0, 1]."""
    rgba = np.empty((len(words), 4), np.uint8)
    np.rint(255 * np.clip(colors, 0, 1), out=rgba[:, :3], casting="unsafe")
    np.rint(255 * np.clip(opacities, 0, 1), out=rgba[:, 3], casting="unsafe")
    painted = words.copy()
    painted[:, _COLOR] = rgba.view(np.uint32)[:, 0]
    return painted


def inflated(words: UInt32[np.ndarray, "n 8"], factor: float | int) -> UInt32[np.ndarray, "n 8"]:
    """A copy with every covariance times a factor: fewer Gaussians that cover as much."""
    larger = words.copy()
    halves = np.ascontiguousarray(words[:, _COVARIANCE]).view(np.float16)
    larger[:, _COVARIANCE] = _halves(halves.astype(np.float32) * np.float32(factor))
    return larger


def nothing() -> UInt32[np.ndarray, "one 8"]:
    """One Gaussian that cannot be seen, for a page that takes no empty list."""
    return np.zeros((1, WORDS), np.uint32)


def parts_of(groups: Int[np.ndarray, " n"]) -> Iterator[tuple[int, Int[np.ndarray, " rows"]]]:
    """Each group that occurs, and its rows, rising."""
    if not len(groups):
        return
    order = np.argsort(groups, kind="stable")
    values, starts = np.unique(groups[order], return_index=True)
    yield from zip(values.tolist(), np.split(order, starts[1:]), strict=True)


def _halves(triangles: Float[np.ndarray, "n 6"]) -> UInt32[np.ndarray, "n 3"]:
    halves = np.clip(triangles, -_LARGEST, _LARGEST).astype(np.float16, order="C")
    return halves.view(np.uint32)


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, count, _CHUNK))
