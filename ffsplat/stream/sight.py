"""What one view sees where the points of another fall, and how the depths compare."""

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
    from_pixel = np.linalg.inv(views.intrinsics[source])
    move = np.linalg.inv(views.world_from_camera[target]) @ views.world_from_camera[source]
    # A point is depth times a ray, and its pixel is linear in both: one matrix for all rays.
    into = np.empty((3, 4))
    into[:, :3] = views.intrinsics[target] @ move[:3, :3] @ from_pixel
    into[:, 3] = views.intrinsics[target] @ move[:3, 3]
    shape = views.depth[source, step // 2 :: step, step // 2 :: step].shape
    x, y, nearer, tolerance = (np.empty(shape, np.float32) for _ in range(4))
    inside = np.empty(shape, bool)
    maps = views.depth, views.depth_error, views.usable
    _look(*maps, source, target, into, step, inside, x, y, nearer, tolerance)
    return Sight(inside, x, y, nearer, tolerance)


@lean
def _look(depth, error, usable, source, target, into, step, inside, x, y, nearer, tolerance):
    h, w = depth.shape[1:]
    for i in range(inside.shape[0]):
        for j in range(inside.shape[1]):
            row, column = i * step + step // 2, j * step + step // 2
            z = depth[source, row, column]
            u, v = z * (column + 0.5), z * (row + 0.5)
            there = into[2, 0] * u + into[2, 1] * v + into[2, 2] * z + into[2, 3]
            a = into[0, 0] * u + into[0, 1] * v + into[0, 2] * z + into[0, 3]
            b = into[1, 0] * u + into[1, 1] * v + into[1, 2] * z + into[1, 3]
            a, b = np.float32(a / there), np.float32(b / there)
            within = usable[source, row, column] and there > 0 and 0 <= a < w and 0 <= b < h
            k, m = (int(b), int(a)) if within else (0, 0)
            seen = within and usable[target, k, m]
            inside[i, j] = seen
            x[i, j], y[i, j] = (a, b) if within else (0, 0)
            nearer[i, j] = np.log(np.float32(depth[target, k, m] / there)) if seen else 0
            both = error[source, row, column] + error[target, k, m]
            tolerance[i, j] = max(both, np.float32(SAME_SURFACE))


def sample(
    image: Float32[np.ndarray, "h w 3"],
    x: Float32[np.ndarray, "*n"],
    y: Float32[np.ndarray, "*n"],
) -> Float32[np.ndarray, "*n 3"]:
    """Colours at places in an image, between its pixels; outside, those of its border."""
    colors = np.empty((*x.shape, 3), np.float32)
    _sample(np.ascontiguousarray(image), x.ravel(), y.ravel(), colors.reshape(-1, 3))
    return colors


@lean
def _sample(image, x, y, colors):
    h, w, _ = image.shape
    for i in range(len(x)):
        across, down = min(max(x[i] - 0.5, 0), w - 1), min(max(y[i] - 0.5, 0), h - 1)
        row, column = min(int(down), h - 2), min(int(across), w - 2)
        across, down = across - column, down - row
        for k in range(3):
            above = image[row, column, k] * (1 - across) + image[row, column + 1, k] * across
            below = (
                image[row + 1, column, k] * (1 - across) + image[row + 1, column + 1, k] * across
            )
            colors[i, k] = above * (1 - down) + below * down
