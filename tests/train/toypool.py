"""A pool of boxes seen by several cameras, with random colours and labels; the same as clips."""

from collections.abc import Iterator

import numpy as np
import torch
from boxroom import cameras, depth_and_points

from data.clip import Clip


def make_pool(scenes: int = 3, views: int = 4, size: int = 16) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    worlds = [cameras(views, seed) for seed in range(scenes)]
    exact = [depth_and_points(poses, 12.0, size, size) for poses in worlds]
    shape = (scenes, views, size, size)
    # The pool's world is not the first camera's: shift and turn it.
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5)))[0]
    world = torch.eye(4)
    world[:3, :3] = turn * torch.linalg.det(turn)
    world[:3, 3] = torch.tensor([1.0, 2, 3])
    return {
        "image": random.integers(0, 256, (*shape, 3), dtype=np.uint8),
        "depth": torch.cat([item[0] for item in exact]).numpy().astype(np.float32),
        "whole": random.integers(0, 5, shape, dtype=np.uint8),
        "part": random.integers(0, 7, shape, dtype=np.uint8),
        "instance": random.integers(0, 3, shape, dtype=np.uint8),
        "intrinsics": torch.cat([item[1] for item in exact]).numpy(),
        "world_from_camera": (world @ torch.cat(worlds)).numpy(),
    }


def make_clips(rooms: int = 3, size: int = 32) -> Iterator[Clip]:
    """Rooms of a toy pool as clips of four views, with features that a teacher might have."""
    pool = make_pool(scenes=rooms, views=4, size=size)
    random = np.random.default_rng(0)
    for room in range(rooms):
        labels = {name: pool[name][room].astype(np.int16) for name in ("whole", "part", "instance")}
        yield Clip(
            key=f"room-{room}",
            source="toy",
            metric=True,
            images=pool["image"][room],
            intrinsics=pool["intrinsics"][room],
            world_from_camera=pool["world_from_camera"][room].astype(np.float32),
            depth=pool["depth"][room],
            **labels,
            teachers={"clip": random.normal(size=(4, 12, 4, 4)).astype(np.float16)},
        )
