"""Gaussian parameters of `Prediction` from the raw outputs of a pyramid's Gaussian head.

Source: Lin et al., "Depth Anything 3", 2025, and its code; the form is that of Charatan et al.,
"pixelSplat", 2024.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ffsplat.geometry import (
    focal_lengths,
    pixel_grid,
    quaternion_from_matrix,
    quaternion_multiply,
    rays,
)
from ffsplat.types import SH_C0

SCALE_RANGE = (1e-5, 30.0)
"""Of a scale, in units of SCALE_UNIT."""
SCALE_UNIT = 0.1
"""Of the sides of a pixel at the Gaussian's depth, both added up."""
SMALLEST_SCALE = 1e-9
"""Where a Gaussian lies behind its camera; it is pruned later."""


def activate_harmonic_gaussians(
    raw: Float[Tensor, "b v h w c"],
    depth: Float[Tensor, "b v h w"],
    intrinsics: Float[Tensor, "b v 3 3"],
    poses: Float[Tensor, "b v 4 4"],
) -> dict[str, Tensor]:
    """Offsets, scales, rotations, opacities, colours, harmonics and depth offsets by name.

    The channels of `raw`: offset in pixels (x, y); scales; quaternion (x, y, z, w); harmonics, all
    of red first; what the distance along the ray differs from the depth by; opacity. `poses` take
    each camera to the network's own world.
    """
    bands = (raw.shape[-1] - 11) // 3
    offsets, scales, quaternions, harmonics, farther, opacity = raw.split(
        [2, 3, 4, 3 * bands, 1, 1], dim=-1
    )
    distance = depth + farther[..., 0]
    low, high = SCALE_RANGE
    pixel = SCALE_UNIT * (1 / focal_lengths(intrinsics)).sum(-1)[..., None, None]
    sizes = (low + (high - low) * scales.sigmoid()) * (distance * pixel)[..., None]
    harmonics = harmonics.unflatten(-1, (3, bands)).mT * _band_weights(bands, raw)[:, None]
    return {
        "offsets": offsets,
        "depth_offsets": distance / _ray_lengths(offsets, intrinsics) - depth,
        "scales": sizes.clamp(min=SMALLEST_SCALE),
        "quaternions_wxyz": _turned_in_camera(F.normalize(quaternions, dim=-1), poses),
        "opacities": opacity[..., 0].sigmoid(),
        "colors": 0.5 + SH_C0 * harmonics[..., 0, :],
        "harmonics": harmonics,
    }


def _turned_in_camera(
    raw: Float[Tensor, "b v h w 4"], poses: Float[Tensor, "b v 4 4"]
) -> Float[Tensor, "b v h w 4"]:
    """Quaternions (w, x, y, z) in the camera's frame.

    The original turns them into its world by a product that takes (w, x, y, z) for (x, y, z, w) on
    the way in and out. Its weights belong to what that gives, so it is redone here and taken back
    to the camera by the true rotation. Where a camera is not turned, nothing of it remains.
    """
    turn = quaternion_from_matrix(poses[..., :3, :3])[:, :, None, None].expand_as(raw)
    in_world = quaternion_multiply(turn, raw.roll(2, -1)).roll(-1, -1)
    inverse = turn * turn.new_tensor([1, -1, -1, -1])
    return quaternion_multiply(inverse, in_world)


def _ray_lengths(
    offsets: Float[Tensor, "b v h w 2"], intrinsics: Float[Tensor, "b v 3 3"]
) -> Float[Tensor, "b v h w"]:
    """Distance over z-depth of the points that pixels with an offset see."""
    h, w = offsets.shape[2:4]
    pixels = pixel_grid(h, w, offsets) + offsets
    return rays(pixels.flatten(2, 3), intrinsics).norm(dim=-1).unflatten(2, (h, w))


def _band_weights(bands: int, like: Tensor) -> Float[Tensor, " k"]:
    """1 for the constant band, 0.1 / 4^l for degree l: colour depends little on the direction."""
    weights = [1.0] + [0.1 / 4**degree for degree in (1, 2, 3) for _ in range(2 * degree + 1)]
    return torch.tensor(weights[:bands], dtype=like.dtype, device=like.device)
