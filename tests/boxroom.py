"""An exact toy world for tests: cameras inside a box whose depth has a closed form."""

import torch
from torch import Tensor

from ffsplat.geometry import (
    intrinsics_from_focal,
    pixel_grid,
    rays,
    rigid,
    rotation_from_vector,
    transform_points,
)

HALF = torch.tensor([2.0, 1.5, 3.0])


def cameras(views: int, seed: int = 0, turn: float = 0.15, move: float = 0.3) -> Tensor:
    """(1, views, 4, 4) poses near the box's middle; the first is the identity."""
    random = torch.Generator().manual_seed(seed)
    rotation = turn * torch.randn(1, views, 3, generator=random)
    translation = move * torch.randn(1, views, 3, generator=random)
    rotation[:, 0] = 0
    translation[:, 0] = 0
    return rigid(rotation_from_vector(rotation), translation)


def depth_and_points(
    poses: Tensor, focal: float, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """z-depth (1, v, h, w), intrinsics (1, v, 3, 3) and world points (1, v, h*w, 3)."""
    intrinsics = intrinsics_from_focal(torch.full(poses.shape[:2], focal), height, width)
    pixels = pixel_grid(height, width, poses).reshape(-1, 2)
    local = rays(pixels.expand(*poses.shape[:2], -1, 2), intrinsics)
    direction = local @ poses[..., :3, :3].transpose(-1, -2)
    origin = poses[..., None, :3, 3]
    # The wall that a ray leaves the box through is the nearest of three, one an axis.
    depth = ((HALF * direction.sign() - origin) / direction).amin(-1)
    points = transform_points(poses, local * depth[..., None])
    return depth.unflatten(-1, (height, width)), intrinsics, points
