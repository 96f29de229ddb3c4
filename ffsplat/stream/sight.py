"""What one view sees where the points of another fall, and how the depths compare."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from ffsplat.consistency import SAME_SURFACE
from ffsplat.prediction import Prediction
from ffsplat.stream.map.compiled import lean


@dataclass(frozen=True, eq=False)
class PosedViews:
    """Pictures with depth and cameras, as arrays: sRGB in [0, 1], z-depth, its expected log error.

    `usable` is False where there is no picture or no depth.
    """

    pixels: Float32[np.ndarray, "v h w 3"]
    depth: Float32[np.ndarray, "v h w"]
    depth_error: Float32[np.ndarray, "v h w"]
    usable: Bool[np.ndarray, "v h w"]
    intrinsics: Float64[np.ndarray, "v 3 3"]
    world_from_camera: Float64[np.ndarray, "v 4 4"]

    @classmethod
    def of(
        cls,
        prediction: Prediction,
        pixels: Float32[np.ndarray, "v h w 3"],
        valid: Bool[np.ndarray, "v h w"],
    ) -> "PosedViews":
        """The views of the first set of a prediction on the CPU."""
        depth = prediction.depth[0].float().numpy()
        return cls(
            pixels=pixels,
            depth=depth,
            depth_error=prediction.depth_error[0].float().numpy(),
            usable=valid & np.isfinite(depth) & (depth > 0),
            intrinsics=prediction.intrinsics[0].double().numpy(),
            world_from_camera=prediction.world_from_camera[0].double().numpy(),
        )


@dataclass(frozen=True, eq=False)
class Sight:
    """For pixels of a view: what another sees where their points fall.

    `inside` is False where a point falls outside the picture or on no depth; nothing else means
    anything there. `x` and `y` is where it falls, in pixels. `nearer` is the log of the depth that
    is seen there over that of the point: positive where the point would stand before what is seen.
    `tolerance` is the expected error of that difference, at least SAME_SURFACE.
    """

    inside: Bool[np.ndarray, "h w"]
    x: Float32[np.ndarray, "h w"]
    y: Float32[np.ndarray, "h w"]
    nearer: Float32[np.ndarray, "h w"]
    tolerance: Float32[np.ndarray, "h w"]

    @property
    def agrees(self) -> Bool[np.ndarray, "h w"]:
        """Where both see the same surface."""
        return self.inside & (np.abs(self.nearer) <= self.tolerance)

    @property
    def pixel(self) -> tuple[Int64[np.ndarray, "h w"], Int64[np.ndarray, "h w"]]:
        """Row and column of the pixels that the points fall on; 0 where they fall on none."""
        return self.y.astype(np.int64), self.x.astype(np.int64)


def look(views: PosedViews, source: int, target: int, step: int = 1) -> Sight:
    """The points of every `step`th pixel, along both axes, of view `source` as `target` sees them.

    The first of these pixels is at step // 2.
    """
    (into,) = into_pixels(views, source, [target])
    shape = views.depth[source, step // 2 :: step, step // 2 :: step].shape
    x, y, nearer, tolerance = (np.empty(shape, np.float32) for _ in range(4))
    inside = np.empty(shape, bool)
    maps = views.depth, views.depth_error, views.usable
    near = np.empty(shape[1])
    _look(*maps, source, target, into, step, inside, x, y, nearer, tolerance, near)
    return Sight(inside, x, y, nearer, tolerance)


def into_pixels(views: PosedViews, source: int, targets: Sequence[int]) -> list[tuple[float, ...]]:
    """What takes depth times (x, y, 1) of a pixel, and 1, to where each other view sees its point.

    A point is depth times a ray, and its pixel is linear in both: one 3x4 matrix, row by row, for
    all rays. Numbers, not an array: kernels need not read them again for each pixel.
    """
    rows = list(targets)
    moves = np.linalg.inv(views.world_from_camera[rows]) @ views.world_from_camera[source]
    into = views.intrinsics[rows] @ moves[:, :3]
    into[:, :, :3] = into[:, :, :3] @ np.linalg.inv(views.intrinsics[source])
    return [tuple(one) for one in into.reshape(-1, 12).tolist()]


@lean
def fall(depth, into, row, first, step, x, y, nearness):
    """Where the points of pixels of one row fall in another view, and one over their depth there.

    They are every `step`th from the `first` on. Behind the view x is -1. A loop of its own that
    looks nothing up: compilers make one of it for many pixels at once.
    """
    for j in range(len(x)):
        column = first + j * step
        z = depth[row, column]
        u, v = z * (column + 0.5), z * (row + 0.5)
        there = into[8] * u + into[9] * v + into[10] * z + into[11]
        a = into[0] * u + into[1] * v + into[2] * z + into[3]
        b = into[4] * u + into[5] * v + into[6] * z + into[7]
        near = 1 / there  # a division takes as long as all of the above
        nearness[j] = near
        x[j] = np.float32(a * near) if there > 0 else np.float32(-1)
        y[j] = np.float32(b * near)


@lean
def meets(x, y, nearness, usable, theirs, usable_there):
    """Whether a point of a pixel falls on depth in another view; x, y, and that over its own.

    `theirs` and `usable_there` are of the other view. Outside the picture x and y are 0; without
    depth there the ratio is 1.
    """
    h, w = theirs.shape
    if not (usable and 0 <= x < w and 0 <= y < h):
        return False, np.float32(0), np.float32(0), np.float32(1)
    if not usable_there[int(y), int(x)]:
        return False, x, y, np.float32(1)
    return True, x, y, np.float32(theirs[int(y), int(x)] * nearness)


@lean
def _look(depth, error, usable, source, target, into, step, inside, x, y, nearer, tolerance, near):
    own_error, their_error, first = error[source], error[target], step // 2
    for i in range(inside.shape[0]):
        row = i * step + first
        fall(depth[source], into, row, first, step, x[i], y[i], near)
        for j in range(inside.shape[1]):
            column = j * step + first
            seen, a, b, ratio = meets(
                x[i, j], y[i, j], near[j], usable[source, row, column], depth[target],
                usable[target],
            )  # fmt: skip
            inside[i, j], x[i, j], y[i, j] = seen, a, b
            nearer[i, j] = np.log(ratio) if seen else 0
            both = own_error[row, column] + their_error[int(b), int(a)]
            tolerance[i, j] = max(both, np.float32(SAME_SURFACE))
