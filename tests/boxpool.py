"""A pool of toy rooms: the box of `boxroom`, painted, in the arrays of the room generator."""

import numpy as np
import torch
from boxroom import HALF, cameras, depth_and_points
from torch import Tensor


def paint(points: Tensor, seed: int) -> Tensor:
    """Colour of world points: blotches of many sizes, without repetition."""
    random = torch.Generator().manual_seed(seed)
    waves = torch.linspace(2, 25, 60) * torch.randn(3, 60, generator=random)
    phase = 6.3 * torch.rand(60, generator=random)
    blend = torch.randn(60, 3, generator=random) / 60**0.5
    return torch.sigmoid(3 * ((points @ waves + phase).sin() @ blend))


def box_pool(rooms: int = 2, views: int = 4, size: int = 32, focal: float = 1.0) -> dict:
    """Arrays of a pool; `focal` is over the size. Faces of the box have class 0, 1 or 2."""
    chunks = []
    for seed in range(rooms):
        poses = cameras(views, seed)
        depth, intrinsics, points = depth_and_points(poses, focal * size, size, size)
        face = (points / HALF).abs().argmax(-1).unflatten(-1, (size, size))
        image = paint(points, seed).unflatten(2, (size, size))
        chunks.append(
            {
                "image": (255 * image).round().byte().numpy(),
                "depth": depth.half().numpy(),
                "whole": face.byte().numpy(),
                "part": (face == 0).byte().numpy(),
                "instance": face.byte().numpy(),
                "intrinsics": intrinsics.numpy(),
                "world_from_camera": poses.numpy(),
            }
        )
    return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}
