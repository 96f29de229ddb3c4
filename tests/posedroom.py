"""The small room as its own cameras see it."""

from dataclasses import replace

import numpy as np
from small_room import small_room

from ffsplat.render import orbit
from ffsplat.types import Cameras, Scene


def posed_room(count: int = 300, views: int = 3, size: tuple[int, int] = (48, 36)) -> Scene:
    """The small room with cameras around it: two focal lengths, off centre, one of another lens."""
    scene = small_room(count)
    around = orbit(scene, views, size)
    intrinsics = np.tile(
        np.array([[40, 0, 23.25], [0, 41, 18.5], [0, 0, 1]], np.float32), (views, 1, 1)
    )
    intrinsics[-1, 0, 0] = 44
    names = tuple(f"photos/view {i}.jpg" for i in range(views))
    return replace(
        scene, cameras=Cameras(around.world_from_camera, intrinsics, around.sizes, names)
    )
