"""Gaussians of all submaps in the world."""

import numpy as np
from jaxtyping import Float32, Float64, Int64

from ffsplat.render.kernel import exactly_compiled
from ffsplat.stream.map.fuse import moved
from ffsplat.stream.map.places import Places
from ffsplat.stream.map.shape import turned


def to_world(
    places: Places,
    numbers: Int64[np.ndarray, " n"],
    into_world: Float64[np.ndarray, "s 3 4"],
    poses: Float64[np.ndarray, "s 8"],
) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 4"]]:
    """Means, scales and quaternions (w, x, y, z) of some places in the world."""
    means, scales = np.empty((2, len(numbers), 3), np.float32)
    quaternions = np.empty((len(numbers), 4), np.float32)
    move(places, numbers, into_world, poses, means, scales, quaternions)
    return means, scales, quaternions


@exactly_compiled
def move(places, numbers, into_world, poses, means, scales, quaternions):
    """Apply to each place the pose of its submap."""
    for i in range(len(numbers)):
        place = numbers[i]
        submap = places.keys[place] >> 48
        pose = poses[submap]
        means[i, 0], means[i, 1], means[i, 2] = moved(into_world[submap], places.means, place)
        w, x, y, z = turned(pose[1:5], places.quaternions_wxyz[place], False)
        quaternions[i, 0], quaternions[i, 1] = w, x
        quaternions[i, 2], quaternions[i, 3] = y, z
        for k in range(3):
            scales[i, k] = pose[0] * places.scales[place, k]
