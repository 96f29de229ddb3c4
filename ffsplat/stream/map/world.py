"""Gaussians of all submaps in the world."""

import numpy as np
from jaxtyping import Float32, Float64, Int64

from ffsplat.stream.map.compiled import lean
from ffsplat.stream.map.places import Places
from ffsplat.stream.map.shape import moved, product, triple


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


@lean
def move(places, numbers, into_world, poses, means, scales, quaternions):
    """Apply to each place the pose of its submap."""
    keys, rotations = places.keys, places.quaternions_wxyz
    for i in range(len(numbers)):
        place = numbers[i]
        submap = keys[place] >> 48
        point = moved(into_world, submap, triple(places.means, place))
        p, r = poses, rotations
        turn = p[submap, 1], p[submap, 2], p[submap, 3], p[submap, 4]
        q = product(turn, (r[place, 0], r[place, 1], r[place, 2], r[place, 3]))
        for k in range(3):
            means[i, k] = point[k]
            scales[i, k] = poses[submap, 0] * places.scales[place, k]
        for k in range(4):
            quaternions[i, k] = q[k]
