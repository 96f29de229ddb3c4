"""Coloured points: from the Gaussians of a scene, as a plain PLY, and back as small Gaussians."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8

from ffsplat.errors import OutputError, SceneFileError
from ffsplat.formats.packing import writable
from ffsplat.io.header import open_regular, read_header
from ffsplat.types import SH_C0, Cameras, Gaussians, Scene

POINT_OPACITY = 0.99
POINT_PIXELS = 1.0
"""Standard deviation of a point that was read, in pixels of the nearest camera."""

GRAY = 128
"""The colour of a point that has none."""

FAR = 1e15
"""Places that lie farther are damage: their distances are still finite in float32."""

_ROW = np.dtype([("place", "<f4", 3), ("color", "u1", 3)])
_COLORS = ("red", "green", "blue")


class Points(NamedTuple):
    """Places in the world, and sRGB colours in bytes."""

    places: Float32[np.ndarray, "n 3"]
    colors: UInt8[np.ndarray, "n 3"]


def points_of(scene: Scene, min_opacity: float) -> Points:
    """Centres and colours of the Gaussians from an opacity on.

    Raises OutputError as `writable`, and where no Gaussian is so opaque.
    """
    gaussians = writable(scene)
    kept = gaussians.opacities >= min_opacity
    if not kept.any():
        raise OutputError(
            f"no Gaussian has opacity {min_opacity:g}, so there are no points",
            "lower --min-opacity",
        )
    colors = np.rint(255 * gaussians.colors[kept]).astype(np.uint8)
    return Points(gaussians.means[kept], colors)


def small_gaussians(points: Points, cameras: Cameras) -> Gaussians:
    """One opaque ball a point, as large as POINT_PIXELS of the camera that is nearest to it."""
    distance = np.full(len(points.places), np.inf)
    for pose, lens in zip(cameras.world_from_camera, cameras.intrinsics, strict=True):
        reach = np.linalg.norm(points.places - pose[:3, 3], axis=1)
        distance = np.minimum(distance, reach / np.sqrt(lens[0, 0] * lens[1, 1]))
    scales = np.maximum(POINT_PIXELS * distance, np.finfo(np.float32).tiny).astype(np.float32)
    count = len(points.places)
    colors = points.colors.astype(np.float32)[:, None] / 255
    return Gaussians(
        points.places,
        np.repeat(scales[:, None], 3, axis=1),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, POINT_OPACITY, np.float32),
        (colors - np.float32(0.5)) / np.float32(SH_C0),
    )


def ply_bytes(points: Points) -> bytes:
    """The points as a binary PLY of x, y, z, red, green, blue."""
    names = [f"property float {axis}" for axis in "xyz"]
    names += [f"property uchar {color}" for color in _COLORS]
    count = f"element vertex {len(points.places)}"
    head = ["ply", "format binary_little_endian 1.0", count, *names, "end_header", ""]
    rows = np.empty(len(points.places), _ROW)
    rows["place"], rows["color"] = points.places, points.colors
    return "\n".join(head).encode("ascii") + rows.tobytes()


def read_points(path: Path) -> Points:
    """The points of a binary PLY of any tool, grey where it has no colours; SceneFileError else."""
    with open_regular(path) as file:
        header = read_header(file, path.name)
        header.check_size(path.name)
        file.seek(header.vertex_offset)
        rows = np.frombuffer(
            file.read(header.vertex.count * header.vertex.stride), header.row_dtype()
        )
    names = rows.dtype.names or ()
    if not {"x", "y", "z"} <= set(names):
        raise SceneFileError(f"{path.name} has no points")
    places = np.stack([rows[axis] for axis in "xyz"], axis=1).astype(np.float32)
    if not (np.abs(places) < FAR).all():
        raise SceneFileError(f"{path.name} has points that are not finite, or too far")
    if not all(color in names and rows[color].dtype == np.uint8 for color in _COLORS):
        return Points(places, np.full(places.shape, GRAY, np.uint8))
    return Points(places, np.stack([rows[color] for color in _COLORS], axis=1))


def pixels_of(
    local: Float[np.ndarray, "n 3"], intrinsics: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "n 2"]:
    """Pixels of points in a camera's frame; NaN for one that is not in front of it."""
    z = np.where(local[:, 2] > 0, local[:, 2], np.nan)
    return local[:, :2] / z[:, None] * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2]
