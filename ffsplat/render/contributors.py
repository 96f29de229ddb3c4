"""Which Gaussians make a pixel, and by how much: the blending weights of the CPU rasteriser."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int32

from ffsplat.errors import UsageError
from ffsplat.render.cpu import bin_splats
from ffsplat.render.kernel import (
    ALPHA_CUT,
    ALPHA_MAX,
    STOP,
    TILE_H,
    TILE_W,
    F,
    compiled,
    exponential,
    tile_corner,
)
from ffsplat.render.projection import project
from ffsplat.types import NO_ID, Cameras, Gaussians


@dataclass(frozen=True, eq=False)
class Contributors:
    """The heaviest Gaussians of each pixel of one view, by falling weight; -1 and 0 for none.

    A weight is opacity times transmittance, what the Gaussian's colour counts in the pixel. `radii`
    is three standard deviations of each splat along its longer axis, in pixels, 0 out of sight.
    """

    gaussians: Int32[np.ndarray, "h w k"]
    weights: Float32[np.ndarray, "h w k"]
    radii: Float32[np.ndarray, " n"]


def contributors(
    gaussians: Gaussians, cameras: Cameras, index: int, topk: int = 45, first: int = 100
) -> Contributors:
    """The `topk` heaviest of the `first` nearest Gaussians at each pixel of one camera.

    Both limits are those of Dr. Splat (arXiv 2502.16652); of equal weights the nearer comes first.
    The opacities are those of meaning. Raises UsageError for limits below 1.
    """
    if topk < 1 or first < 1:
        raise UsageError(
            f"the {topk} heaviest of the {first} nearest Gaussians: both are 1 or more"
        )
    width, height = (int(side) for side in cameras.sizes[index])
    opacities = torch.from_numpy(gaussians.opacities_of_meaning)
    projected = project(
        torch.from_numpy(gaussians.means),
        torch.from_numpy(gaussians.quaternions_wxyz),
        torch.from_numpy(gaussians.scales),
        opacities,
        torch.from_numpy(cameras.world_from_camera[index : index + 1]),
        torch.from_numpy(cameras.intrinsics[index : index + 1]),
        width,
        height,
    )
    shape = projected.means2d, projected.conics, projected.depths, opacities, projected.extents
    binned, _ = bin_splats(*shape, (width, height))
    ids = np.full((height, width, topk), NO_ID, np.int32)
    weights = np.zeros((height, width, topk), np.float32)
    _gather((width, height), binned, first, ids, weights)
    return Contributors(ids, weights, _radii(projected.conics[0], projected.extents[0]))


def _radii(conics: torch.Tensor, extents: torch.Tensor) -> Float32[np.ndarray, " n"]:
    """Three times the square root of the larger eigenvalue of the covariance, as 3DGS has it."""
    a, b, c = conics.double().unbind(-1)
    middle = (a + c) / 2
    least = middle - ((middle - a).square() + b.square()).sqrt()
    seen = extents[:, 0] > 0
    return torch.where(seen, 3 / least.clamp_min(1e-18).sqrt(), 0).float().numpy()


@compiled
def keep(ids, weights, found, number, weight):
    """Insert a Gaussian into its place by weight among the `found` before it, if there is room."""
    place = min(found, len(ids))
    while place > 0 and weights[place - 1] < weight:
        if place < len(ids):
            weights[place], ids[place] = weights[place - 1], ids[place - 1]
        place -= 1
    if place < len(ids):
        weights[place], ids[place] = weight, number


@compiled
def _gather(size, binned, first, ids, weights):
    """Walk every pixel's splats front to back and keep the heaviest, sorted by insertion."""
    (width, height), (starts, pairs, splats, boxes, owners) = size, binned
    for tile in range(len(starts) - 1):
        _, x0, y0 = tile_corner(tile, width, height)
        for y in range(y0, min(y0 + TILE_H, height)):
            for x in range(x0, min(x0 + TILE_W, width)):
                transmittance, found = F(1), 0
                for pair in range(starts[tile], starts[tile + 1]):
                    k = pairs[pair]
                    inside_x = boxes[k, 0] <= x <= boxes[k, 2]
                    if not (inside_x and boxes[k, 1] <= y <= boxes[k, 3]):
                        continue
                    dx, dy = F(x) + F(0.5) - splats[k, 0], F(y) + F(0.5) - splats[k, 1]
                    power = F(-0.5) * (splats[k, 2] * dx * dx + splats[k, 4] * dy * dy)
                    alpha = splats[k, 5] * exponential(power - splats[k, 3] * dx * dy)
                    alpha = min(alpha, ALPHA_MAX)
                    if alpha < ALPHA_CUT:
                        continue
                    keep(ids[y, x], weights[y, x], found, owners[k], transmittance * alpha)
                    found += 1
                    transmittance *= F(1) - alpha
                    if found == first or transmittance < STOP:
                        break
