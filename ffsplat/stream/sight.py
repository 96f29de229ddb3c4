"""What one view sees where the points of another fall, and how the depths compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from ffsplat.consistency import SAME_SURFACE
from ffsplat.prediction import Prediction
from ffsplat.stream.map.compiled import brief, lean, pixel


@dataclass(frozen=True, eq=False)
class PosedViews:
    """Pictures with depth and cameras, as arrays: sRGB, z-depth, its expected log error.

    `usable` is False where there is no picture or no depth.
    """

    colors: UInt8[np.ndarray, "v h w 3"]
    depth: Float32[np.ndarray, "v h w"]
    depth_error: Float32[np.ndarray, "v h w"]
    usable: Bool[np.ndarray, "v h w"]
    intrinsics: Float64[np.ndarray, "v 3 3"]
    world_from_camera: Float64[np.ndarray, "v 4 4"]

    @classmethod
    def of(
        cls,
        prediction: Prediction,
        colors: UInt8[np.ndarray, "v h w 3"],
        valid: Bool[np.ndarray, "v h w"],
    ) -> "PosedViews":
        """The views of the first set of a prediction on the CPU."""
        depth = prediction.depth[0].float().numpy()
        return cls(
            colors=colors,
            depth=depth,
            depth_error=prediction.depth_error[0].float().numpy(),
            usable=valid & np.isfinite(depth) & (depth > 0),
            intrinsics=prediction.intrinsics[0].double().numpy(),
            world_from_camera=prediction.world_from_camera[0].double().numpy(),
        )

    @cached_property
    def grey(self) -> Float32[np.ndarray, "v h w"]:
        """Luma in [0, 1]. Source: ITU-R BT.601."""
        grey = np.empty(self.depth.shape, np.float32)
        _write_grey(self.colors.reshape(-1, 3), grey.reshape(-1))
        return grey


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


def look(views: PosedViews, source: int, targets: Sequence[int], step: int = 1) -> list[Sight]:
    """The points of every `step`th pixel, along both axes, of view `source` as others see them.

    The first of these pixels is at step // 2.
    """
    maps = views.depth, views.depth_error, views.usable
    shape = views.depth[source, step // 2 :: step, step // 2 :: step].shape
    near = np.empty(shape[1])
    found = []
    for target, into in zip(targets, into_pixels(views, source, targets), strict=True):
        inside, sight = np.empty(shape, bool), [np.empty(shape, np.float32) for _ in range(4)]
        _look(*maps, source, target, into, step, inside, *sight, near)
        found.append(Sight(inside, *sight))
    return found


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


@brief
def _write_grey(colors, grey):
    for i in range(len(grey)):
        red, green = np.float32(colors[i, 0]), np.float32(colors[i, 1])
        luma = np.float32(0.299 / 255) * red + np.float32(0.587 / 255) * green
        grey[i] = luma + np.float32(0.114 / 255) * np.float32(colors[i, 2])


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


@brief
def _look(depth, error, usable, source, target, into, step, inside, x, y, nearer, tolerance, near):
    theirs, own_error, their_error = depth[target], error[source], error[target]
    (h, w), first = theirs.shape, step // 2
    for i in range(inside.shape[0]):
        row = i * step + first
        fall(depth[source], into, row, first, step, x[i], y[i], near)
        for j in range(inside.shape[1]):
            column = j * step + first
            within = 0 <= x[i, j] < w and 0 <= y[i, j] < h
            if not (within and usable[source, row, column]):
                within, x[i, j], y[i, j] = False, 0, 0
            there = pixel(y[i, j]), pixel(x[i, j])
            inside[i, j] = within and usable[target, there[0], there[1]]
            nearer[i, j] = np.log(np.float32(theirs[there] * near[j])) if inside[i, j] else 0
            both = own_error[row, column] + their_error[there]
            tolerance[i, j] = max(both, np.float32(SAME_SURFACE))
