"""What one view sees where the points of another fall, and how the depths compare."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from ffsplat.consistency import SAME_SURFACE
from ffsplat.prediction import Prediction


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
    h, w = views.depth.shape[1:]
    grid = (slice(step // 2, None, step),) * 2
    x, y, z = _places(views, source, target, step)
    inside = views.usable[source][grid] & (z > 0) & (x >= 0) & (x < w) & (y >= 0) & (y < h)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    there = y.astype(np.int64), x.astype(np.int64)
    inside &= views.usable[target][there]
    seen = np.where(inside, views.depth[target][there], 1)
    error = views.depth_error[source][grid] + views.depth_error[target][there]
    nearer = np.log(seen / np.where(inside, z, 1))
    return Sight(inside, x, y, nearer, np.maximum(error, np.float32(SAME_SURFACE)))


def _places(views: PosedViews, source: int, target: int, step: int) -> Float32[np.ndarray, "3 h w"]:
    """Pixels (x, y) and z-depth in the target of points of the source."""
    depth = views.depth[source][step // 2 :: step, step // 2 :: step]
    inverse = np.linalg.inv(views.intrinsics[source])
    move = np.linalg.inv(views.world_from_camera[target]) @ views.world_from_camera[source]
    # A point is depth times a ray, and its pixel is linear in both: one matrix for all rays.
    turn = (views.intrinsics[target] @ move[:3, :3] @ inverse).astype(np.float32)
    offset = (views.intrinsics[target] @ move[:3, 3]).astype(np.float32)
    rows, columns = (
        (np.arange(count) * step + step // 2 + 0.5).astype(np.float32) for count in depth.shape
    )
    across = turn[:, 0, None] * columns + turn[:, 2, None]
    rays = across[:, None] + turn[:, 1, None, None] * rows[:, None]
    homogeneous = rays * depth + offset[:, None, None]
    homogeneous[:2] /= np.maximum(homogeneous[2], np.float32(1e-6))
    return homogeneous


def sample(
    image: Float32[np.ndarray, "h w 3"],
    x: Float32[np.ndarray, "*n"],
    y: Float32[np.ndarray, "*n"],
) -> Float32[np.ndarray, "*n 3"]:
    """Colours at places in an image, between its pixels; outside, those of its border."""
    h, w = image.shape[:2]
    x, y = np.clip(x - 0.5, 0, w - 1), np.clip(y - 0.5, 0, h - 1)
    column, row = np.minimum(x.astype(np.int64), w - 2), np.minimum(y.astype(np.int64), h - 2)
    right, down = (x - column)[..., None], (y - row)[..., None]
    above = image[row, column] * (1 - right) + image[row, column + 1] * right
    below = image[row + 1, column] * (1 - right) + image[row + 1, column + 1] * right
    return (above * (1 - down) + below * down).astype(np.float32)
