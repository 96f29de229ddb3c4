"""A rendered room as the scene that a faultless network would make of its photos."""

import numpy as np
import torch

from data.rooms.render import RoomBatch
from ffsplat import codes
from ffsplat.codebook import lexicon_codebook, rows_of_level
from ffsplat.geometry import transform_points, unproject
from ffsplat.types import SH_C0, Cameras, Gaussians, Scene


def exact_scene(room: RoomBatch, index: int = 0) -> Scene:
    """One room of a batch: a round Gaussian a pixel, at its true place, with its true labels.

    Codes are half what the thing is and half which part. Instance i is object i + 1 of the room;
    walls, floor and ceiling have none. The world is that of the room: metres, z up.
    """
    book = lexicon_codebook()
    depth, intrinsics, poses = room.depth[index], room.intrinsics[index], room.world_from_camera
    points = transform_points(poses[index], unproject(depth, intrinsics).flatten(1, 2))
    means = points.flatten(0, 1).float().numpy()
    radius = (0.5 * depth / intrinsics[:, 0, 0, None, None]).flatten().numpy()
    count = len(means)
    colors = room.image[index].flatten(0, 2).numpy()
    pairs = [
        rows_of_level(book, level)[getattr(room, level)[index].flatten().long().numpy()]
        for level in ("whole", "part")
    ]
    gaussians = Gaussians(
        means=means,
        scales=np.repeat(radius[:, None], 3, axis=1).astype(np.float32),
        quaternions_wxyz=np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        opacities=np.full(count, 0.9, np.float32),
        sh=((colors - 0.5) / SH_C0).astype(np.float32)[:, None],
    )
    views, height, width = depth.shape
    cameras = Cameras(
        poses[index].float().numpy(),
        intrinsics.float().numpy(),
        np.tile(np.array([width, height], np.int32), (views, 1)),
        tuple(f"view_{view}" for view in range(views)),
    )
    code = codes.from_pairs(np.stack(pairs, axis=1), np.full((count, 2), 0.5, np.float32))
    instances = room.instance[index].flatten().to(torch.int32).numpy() - 1
    return Scene(gaussians, code, instances, book, cameras, metric=True)
