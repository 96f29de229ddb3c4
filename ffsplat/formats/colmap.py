"""COLMAP models: a folder of cameras, images and points3D, binary or as text.

Our cameras are COLMAP's: OpenCV axes, the centre of the top-left pixel at (0.5, 0.5); its poses are
camera_from_world. A point is the centre of a Gaussian. Nothing was matched here, so where a point
is seen is its projection, and its reprojection error is marked as unknown.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from ffsplat.errors import OutputError, SceneFileError
from ffsplat.formats.cameras import (
    at_most,
    camera_from_world,
    cameras_of,
    quaternions_wxyz,
    rotations,
)
from ffsplat.formats.colmap_files import (
    CameraRecord,
    ImageRecord,
    SparsePoints,
    binary_cameras,
    binary_images,
    binary_points,
    text_cameras,
    text_images,
    text_points,
)
from ffsplat.formats.colmap_model import Model, Sightings, binary_files, text_files
from ffsplat.formats.points import FAR, Points, pixels_of, points_of, small_gaussians
from ffsplat.io.folder import atomic_folder
from ffsplat.types import Cameras, Scene

SURFACE = 0.02
"""A point is seen where its depth differs from the rendered one by at most this share of it."""

LONGEST = 640
"""Pixels of the longer side of a view that is rendered to find what it sees."""

PLACES = ("sparse/0", "sparse", ".")


def write(
    scene: Scene,
    path: str | Path,
    *,
    overwrite: bool = False,
    colmap_files: str = "bin",
    min_opacity: float = 0.1,
    tracks: bool = True,
) -> None:
    """Write the folder `path` of a scene's cameras and of its Gaussians from `min_opacity` on.

    `colmap_files` is "bin" or "txt". With `tracks`, views are rendered to find which points each
    one sees; without, no point has a track. Raises UsageError without cameras, OutputError as
    `atomic_folder` and for names of photos that COLMAP cannot hold.
    """
    model = model_of(scene, min_opacity, tracks)
    files = text_files(model) if colmap_files == "txt" else binary_files(model)
    size = sum(map(len, files.values()))
    with atomic_folder(path, tuple(files), overwrite, size) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)


def read(path: str | Path) -> Scene:
    """Read a model as a scene: its cameras, and one small opaque Gaussian for each point.

    `path` is the folder of the files or one with them in `sparse/0` or `sparse`. Gaussians are a
    pixel large in the camera nearest to them. Raises SceneFileError naming what is wrong, for
    lenses with distortion, and for a model without points.
    """
    cameras, points = read_model(path)
    if not len(points.places):
        raise SceneFileError(f"{path} has cameras, but no points")
    found = Points(points.places.astype(np.float32), points.colors)
    if not (np.abs(found.places) < FAR).all():
        raise SceneFileError(f"{path} has points that are not finite, or too far")
    return Scene(small_gaussians(found, cameras), cameras=cameras)


def read_model(path: str | Path) -> tuple[Cameras, SparsePoints]:
    """The posed cameras and the points of a model; errors as `read`, but points may be none."""
    folder = Path(path)
    place = next((folder / p for p in PLACES if _kind(folder / p)), None)
    if place is None:
        raise SceneFileError(f"{folder} holds no COLMAP model (cameras.bin or cameras.txt)")
    if _kind(place) == "bin":
        records = binary_cameras(place / "cameras.bin")
        images = binary_images(place / "images.bin")
        points = binary_points(place / "points3D.bin")
    else:
        records = text_cameras(place / "cameras.txt")
        images = text_images(place / "images.txt")
        points = text_points(place / "points3D.txt")
    if not images:
        raise SceneFileError(f"{place} has no images")
    return _cameras(images, records, place), points


def _kind(place: Path) -> str:
    found = (kind for kind in ("bin", "txt") if (place / f"cameras.{kind}").is_file())
    return next(found, "")


def _cameras(images: list[ImageRecord], records: dict[int, CameraRecord], where: Path) -> Cameras:
    quaternions = np.stack([image.quaternion_wxyz for image in images])
    translations = np.stack([image.translation for image in images])
    lengths = np.linalg.norm(quaternions, axis=1)
    if not (np.isfinite(lengths).all() and lengths.all() and (np.abs(translations) < FAR).all()):
        raise SceneFileError(f"{where} has an image without a pose")
    poses = np.tile(np.eye(4), (len(images), 1, 1))
    turned = rotations(quaternions).transpose(0, 2, 1)
    poses[:, :3, :3] = turned
    poses[:, :3, 3] = -np.einsum("vij,vj->vi", turned, translations)
    lenses, sizes = zip(*(_lens(records, image, where) for image in images), strict=True)
    return Cameras(
        poses.astype(np.float32),
        np.stack(lenses).astype(np.float32),
        np.array(sizes, np.int32),
        tuple(image.name for image in images),
    )


def _lens(
    records: dict[int, CameraRecord], image: ImageRecord, where: Path
) -> tuple[Float64[np.ndarray, "3 3"], tuple[int, int]]:
    record = records.get(image.camera)
    if record is None:
        raise SceneFileError(f"{where}: {image.name[:80]} has camera {image.camera}, of no record")
    p = record.parameters
    match record.model:
        case "SIMPLE_PINHOLE" | "SIMPLE_RADIAL" | "RADIAL" if not any(p[3:]):
            fx, fy, cx, cy = p[0], p[0], p[1], p[2]
        case "PINHOLE" | "OPENCV" | "FULL_OPENCV" if not any(p[4:]):
            fx, fy, cx, cy = p[:4]
        case _:
            raise SceneFileError(
                f"{where}: camera {record.number} is a distorted {record.model}",
                "undistort it first: colmap image_undistorter",
            )
    sides = record.width, record.height
    if not (np.isfinite(p).all() and fx > 0 and fy > 0 and all(0 < s < 1 << 16 for s in sides)):
        raise SceneFileError(f"{where}: camera {record.number} is impossible")
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), sides


def model_of(scene: Scene, min_opacity: float = 0.1, tracks: bool = True) -> Model:
    """A scene's cameras and Gaussians as a model; arguments and errors as `write`."""
    cameras, points = cameras_of(scene), points_of(scene, min_opacity)
    names = cameras.names
    if len(set(names)) != len(names) or any(set(n) & set("\0\n\r") or not n for n in names):
        raise OutputError("names of views must be unique and on one line for COLMAP")
    lens = np.concatenate(
        [cameras.sizes, cameras.intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]]], axis=1
    ).astype(np.float64)
    lenses, lens_of = np.unique(lens, axis=0, return_inverse=True)
    poses = camera_from_world(cameras)
    nothing = Sightings(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)))
    return Model(
        lenses,
        lens_of.reshape(-1).astype(np.int64),
        quaternions_wxyz(poses[:, :3, :3]),
        poses[:, :3, 3],
        names,
        points.places.astype(np.float64),
        points.colors,
        _sightings(scene, cameras, points) if tracks else nothing,
    )


def _sightings(scene: Scene, cameras: Cameras, points: Points) -> Sightings:
    """What each view sees: centres inside the image that lie on the surface rendered there."""
    from ffsplat.render import render

    poses = camera_from_world(cameras)
    means = points.places.astype(np.float64)
    views, numbers, pixels = [], [], []
    small = at_most(cameras, LONGEST)
    for view, pose in enumerate(poses):
        depth = render(scene, small[[view]], "depth")[0]
        local = means @ pose[:3, :3].T + pose[:3, 3]
        place = pixels_of(local, cameras.intrinsics[view].astype(np.float64))
        rendered = place * (small.sizes[view] / cameras.sizes[view])
        seen = np.flatnonzero(_on_surface(rendered, local[:, 2], depth))
        views.append(np.full(len(seen), view))
        numbers.append(seen)
        pixels.append(place[seen])
    return Sightings(np.concatenate(views), np.concatenate(numbers), np.concatenate(pixels))


def _on_surface(
    pixels: Float64[np.ndarray, "n 2"],
    z: Float64[np.ndarray, " n"],
    depth: np.ndarray,
) -> Bool[np.ndarray, " n"]:
    """Whether points at these pixels, at depth z, lie on the surface of a depth map (h, w)."""
    height, width = depth.shape
    inside = np.all((pixels >= 0) & (pixels < [width, height]), axis=1)
    x, y = np.where(inside[:, None], pixels, 0).astype(np.int64).T
    surface = depth[y, x]
    return inside & (surface > 0) & (np.abs(z - surface) <= SURFACE * surface)
