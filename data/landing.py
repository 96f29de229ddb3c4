"""Where the pixels of one view lie in another: the step that overlap and all checks share."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64


@dataclass(frozen=True, eq=False)
class Landing:
    """Points seen by cameras: z-depth, whether inside of the image, flat index of the pixel hit.

    `index` is clipped to the image, so it may be used before `inside` is looked at.
    """

    z: Float[np.ndarray, "*b n"]
    inside: Bool[np.ndarray, "*b n"]
    index: Int64[np.ndarray, "*b n"]


def lift(
    depth: Float[np.ndarray, "h w"],
    intrinsics: Float[np.ndarray, "3 3"],
    world_from_camera: Float[np.ndarray, "4 4"],
) -> Float[np.ndarray, "n 3"]:
    """World points of all pixels, row by row; a pixel without depth gives the camera's centre.

    Source: Hartley & Zisserman, 2nd ed., section 6.1.
    """
    h, w = depth.shape
    pixels = np.stack([*np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5), np.ones((h, w))], -1)
    rays = pixels.reshape(-1, 3) @ np.linalg.inv(intrinsics).T
    local = rays * depth.reshape(-1, 1)
    return local @ world_from_camera[:3, :3].T + world_from_camera[:3, 3]


def land(
    points: Float[np.ndarray, "n 3"],
    intrinsics: Float[np.ndarray, "*b 3 3"],
    world_from_camera: Float[np.ndarray, "*b 4 4"],
    shape: tuple[int, int],
) -> Landing:
    """Project world points into cameras of images of `shape` (height, width)."""
    h, w = shape
    centre = world_from_camera[..., None, :3, 3]
    local = (points - centre) @ world_from_camera[..., :3, :3]
    z = local[..., 2]
    image = local @ np.swapaxes(intrinsics, -1, -2)
    with np.errstate(divide="ignore", invalid="ignore"):
        pixel = np.floor(image[..., :2] / image[..., 2:])
    column, row = pixel[..., 0], pixel[..., 1]
    inside = (z > 0) & (column >= 0) & (column < w) & (row >= 0) & (row < h)
    flat = np.where(inside, row * w + column, 0)
    return Landing(z, inside, flat.astype(np.int64))
