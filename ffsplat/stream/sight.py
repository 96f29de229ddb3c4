"""What one view sees where the points of another fall, and how the depths compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from ffsplat.consistency import SAME_SURFACE
from ffsplat.prediction import Prediction
from ffsplat.stream.map.compiled import brief, lean, pixel
from ffsplat.stream.map.meeting import is_within

THINNED = 2
"""Pixels along both axes of which one is looked at in other views: it stands for the others."""

SOME = (slice(THINNED // 2, None, THINNED),) * 2
"""Where these are."""


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
    def coarse(self) -> Float32[np.ndarray, "v y x"]:
        """Mean luma, in [0, 1], of whole squares of THINNED pixels a side.

        Source: ITU-R BT.601.
        """
        views, height, width = self.depth.shape
        coarse = np.empty((views, height // THINNED, width // THINNED), np.float32)
        _write_coarse(self.colors, coarse)
        return coarse

    def sights(self, source: int, targets: Sequence[int]) -> list["Sight"]:
        """Every THINNED pixel of view `source` as others see its point: found once, then kept."""
        known = self._sights
        if new := [one for one in targets if (source, one) not in known]:
            found = look(self, source, new, THINNED)
            known |= {(source, one): sight for one, sight in zip(new, found, strict=True)}
        return [known[source, one] for one in targets]

    @cached_property
    def _sights(self) -> dict[tuple[int, int], "Sight"]:
        return {}


@dataclass(frozen=True, eq=False)
class Sight:
    """For pixels of a view: what another sees where their points fall.

    `inside` is False where a point falls outside the picture or on no depth; nothing else means
    anything there. `x` and `y` is where it falls, in pixels. `ratio` is the depth that is seen
    there over that of the point, `tolerance` the expected error of its log, at least SAME_SURFACE;
    within that, both see the same surface: it `agrees`.
    """

    inside: Bool[np.ndarray, "h w"]
    agrees: Bool[np.ndarray, "h w"]
    x: Float32[np.ndarray, "h w"]
    y: Float32[np.ndarray, "h w"]
    ratio: Float32[np.ndarray, "h w"]
    tolerance: Float32[np.ndarray, "h w"]

    @property
    def nearer(self) -> Float32[np.ndarray, "h w"]:
        """The log of the ratio: positive where the point would stand before what is seen."""
        return np.log(self.ratio)


def look(views: PosedViews, source: int, targets: Sequence[int], step: int = 1) -> list[Sight]:
    """The points of every `step`th pixel, along both axes, of view `source` as others see them.

    The first of these pixels is at step // 2.
    """
    rows = (source, *[slice(step // 2, None, step)] * 2)
    maps = views.depth, views.depth_error, views.usable
    own = [np.ascontiguousarray(one[rows]) for one in maps]
    (height, width), count = own[0].shape, len(targets)
    told = np.empty((2, count, height, width), bool)
    where = np.empty((4, count, height, width), np.float32)
    into = into_pixels(views, source, targets)
    _look(*own, *maps, np.array(targets, np.int64), into, step, np.empty(width), *told, *where)
    return [Sight(*one) for one in zip(*told, *where, strict=True)]


def into_pixels(
    views: PosedViews, source: int, targets: Sequence[int]
) -> Float64[np.ndarray, "n 3 4"]:
    """What takes depth times (x, y, 1) of a pixel, and 1, to where each other view sees its point.

    A point is depth times a ray, and its pixel is linear in both: one matrix for all rays.
    """
    rows = list(targets)
    moves = np.linalg.inv(views.world_from_camera[rows]) @ views.world_from_camera[source]
    into = views.intrinsics[rows] @ moves[:, :3]
    into[:, :, :3] = into[:, :, :3] @ np.linalg.inv(views.intrinsics[source])
    return into


@brief
def _write_coarse(colors, coarse):
    for view in range(len(coarse)):
        for i in range(coarse.shape[1]):
            for j in range(coarse.shape[2]):
                red = green = blue = 0
                for y in range(THINNED * i, THINNED * i + THINNED):
                    for x in range(THINNED * j, THINNED * j + THINNED):
                        red += colors[view, y, x, 0]
                        green += colors[view, y, x, 1]
                        blue += colors[view, y, x, 2]
                luma = 0.299 * red + 0.587 * green + 0.114 * blue
                coarse[view, i, j] = luma / (255 * THINNED * THINNED)


@brief
def _look(
    depth, error, usable, depths, errors, all_usable, targets, into, step, near, inside, agrees, x,
    y, ratio, tolerance,
):  # fmt: skip
    for k in range(len(targets)):
        target = targets[k]
        for i in range(len(depth)):
            row = i * step + step // 2
            _fall(depth[i], into[k], row, step, x[k, i], y[k, i], near)
            _look_along(
                usable[i], error[i], depths[target], errors[target], all_usable[target], near,
                inside[k, i], agrees[k, i], x[k, i], y[k, i], ratio[k, i], tolerance[k, i],
            )  # fmt: skip


@lean
def _fall(depth, into, row, step, x, y, nearness):
    """Where the points of pixels of one row fall in another view, and one over their depth there.

    They are every `step`th one. Behind the view x is -1. A loop of its own that looks nothing up:
    compilers make one of it for many pixels at once.
    """
    a0, a1, a2, a3 = into[0]
    b0, b1, b2, b3 = into[1]
    c0, c1, c2, c3 = into[2]
    for j in range(len(x)):
        z = depth[j]
        u, v = z * (j * step + step // 2 + 0.5), z * (row + 0.5)
        there = c0 * u + c1 * v + c2 * z + c3
        near = 1 / there  # a division takes as long as all of the rest
        nearness[j] = near
        x[j] = np.float32((a0 * u + a1 * v + a2 * z + a3) * near) if there > 0 else np.float32(-1)
        y[j] = np.float32((b0 * u + b1 * v + b2 * z + b3) * near)


@lean
def _look_along(
    usable, error, theirs, their_error, usable_there, near, inside, agrees, x, y, ratio, tolerance
):
    """What is seen where the points of one row fall, at `x` and `y`."""
    h, w = theirs.shape
    for j in range(len(x)):
        within = usable[j] and 0 <= x[j] < w and 0 <= y[j] < h
        if not within:
            x[j], y[j] = 0, 0
        row, column = pixel(y[j]), pixel(x[j])
        tolerance[j] = max(error[j] + their_error[row, column], np.float32(SAME_SURFACE))
        inside[j] = within and usable_there[row, column]
        ratio[j] = theirs[row, column] * near[j] if inside[j] else 1
        agrees[j] = inside[j] and is_within(ratio[j], tolerance[j])
