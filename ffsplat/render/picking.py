"""What a pixel shows: the Gaussians behind it, for point and click."""

from dataclasses import replace

import numpy as np

from ffsplat.errors import UsageError
from ffsplat.query.click import Picked
from ffsplat.render.contributors import contributors
from ffsplat.types import NO_ID, Cameras, Gaussians

MOST = 45
"""Gaussians of a pixel that are told: those that count most."""


def pick(
    gaussians: Gaussians, cameras: Cameras, index: int, x: float | int, y: float | int
) -> Picked:
    """The Gaussians that make a pixel of one camera, heaviest first, with their blending weights.

    `x` and `y` are in pixels from the left and the top. The pixel that holds them is drawn alone:
    a click costs one projection. Splats are then flattened for that pixel and not for the whole
    picture, so that weights differ from those of `contributors` by a percent or so.
    Raises UsageError for a camera that there is not and a pixel outside of its picture.
    """
    if not 0 <= index < len(cameras):
        raise UsageError(f"there is no camera {index}", f"there are {len(cameras)}")
    width, height = (int(side) for side in cameras.sizes[index])
    if not (0 <= x < width and 0 <= y < height):
        raise UsageError(f"pixel ({x:g}, {y:g}) is outside of the picture of {width}x{height}")
    intrinsics = cameras.intrinsics[index : index + 1].copy()
    intrinsics[0, :2, 2] -= np.floor([x, y])
    one = replace(
        cameras[[index]], intrinsics=intrinsics, sizes=np.ones((1, 2), cameras.sizes.dtype)
    )
    seen = contributors(gaussians, one, 0, topk=MOST)
    rows, weights = seen.gaussians[0, 0], seen.weights[0, 0]
    return Picked(rows[rows != NO_ID].astype(np.int64), weights[rows != NO_ID])
