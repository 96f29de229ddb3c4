"""Gaussians that stand in free space, where a new depth map looks through, lose confidence.

The test is that of `consistency.agreement`, and so is the verdict: a point goes when those who look
through it have VETO times the confidence of those who saw it. Here the balance is kept as they
come.
"""

import numpy as np

from ffsplat.consistency import FREE_SPACE, VETO
from ffsplat.geometric import ERROR_SCALE
from ffsplat.stream.map.compiled import lean
from ffsplat.stream.map.shape import moved, triple

BEYOND = np.exp(FREE_SPACE)
"""Depth that is seen over that of a Gaussian, from which on it may stand in free space."""

AMOUNT = 1 / VETO
"""Confidence that one of those who look through takes away, over its own."""


@lean
def carve_places(places, among, into_camera, intrinsics, depth, error, valid, amount, gone):
    """Lower the confidence of places before a surface; the number of those left with none.

    `among` marks submaps, `into_camera` is camera_from_submap of each, in the unit of the world.
    `gone` is room for the places of those.
    """
    h, w = depth.shape
    count = 0
    for place in range(len(places.keys)):
        key = places.keys[place]
        if key < 0 or not among[key >> 48]:
            continue
        x, y, z = moved(into_camera, key >> 48, triple(places.means, place))
        if not z > 0:
            continue
        u = intrinsics[0, 0] * x / z + intrinsics[0, 2]
        v = intrinsics[1, 1] * y / z + intrinsics[1, 2]
        if not (0 <= u < w and 0 <= v < h):
            continue
        row, column = int(v), int(u)
        if not valid[row, column] or depth[row, column] < BEYOND * z:
            continue
        nearest = nearest_around(depth, valid, row, column)
        own = -ERROR_SCALE * np.log(places.sharpest[place])
        tolerance = max(own + error[row, column], FREE_SPACE)
        if np.log(nearest / z) > tolerance:
            confidence = np.exp(-error[row, column] / ERROR_SCALE)
            places.weights[place] -= amount * confidence
            if places.weights[place] <= 0:
                gone[count] = place
                count += 1
    return count


@lean
def nearest_around(depth, valid, row, column):
    """The least depth of a pixel and those around it: a point beside a silhouette is no veil."""
    nearest = depth[row, column]
    for i in range(max(row - 1, 0), min(row + 2, depth.shape[0])):
        for j in range(max(column - 1, 0), min(column + 2, depth.shape[1])):
            if valid[i, j]:
                nearest = min(nearest, depth[i, j])
    return nearest
