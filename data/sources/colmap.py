"""COLMAP models: cameras, images and points3D as .bin or .txt, with the photos in `images/`.

Layout (colmap/colmap, doc/format.rst and src/colmap/scene/reconstruction_io): the model lies in
`sparse/0`, `sparse` or the folder itself; binary is preferred. Poses are camera_from_world with a
Hamilton quaternion (w, x, y, z) and OpenCV axes; the centre of the top-left pixel is (0.5, 0.5).
The unit is arbitrary.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from data.sources.files import checked_size, find_scenes, inside, pinhole
from data.sources.frame import Frame, SourceScene
from data.sources.poses import inverse, rigid, rotation_wxyz
from ffsplat.errors import SceneFileError
from ffsplat.formats.colmap_files import (
    CameraRecord,
    ImageRecord,
    binary_cameras,
    binary_images,
    binary_points,
    text_cameras,
    text_images,
    text_points,
)

PLACES = ("sparse/0", "sparse", ".")
HINT = "undistort it first: colmap image_undistorter"


@dataclass(frozen=True, eq=False)
class Lens:
    """Intrinsics with half-integer pixel centres, the coefficients of OpenCV, (width, height)."""

    intrinsics: Float64[np.ndarray, "3 3"]
    distortion: tuple[float, ...]
    size: tuple[int, int]


def find(folder: Path) -> list[Path]:
    """Folders with a model and `images/`."""
    return find_scenes(folder, lambda path: _model(path) is not None and (path / "images").is_dir())


def read(folder: Path) -> SourceScene:
    """Read one model; SceneFileError names what is wrong."""
    model = _model(folder)
    if model is None:
        raise SceneFileError(f"{folder} holds no COLMAP model")
    if (model / "cameras.bin").is_file():
        cameras = binary_cameras(model / "cameras.bin")
        images = binary_images(model / "images.bin")
        points = binary_points(model / "points3D.bin")
    else:
        cameras = text_cameras(model / "cameras.txt")
        images = text_images(model / "images.txt")
        points = text_points(model / "points3D.txt")
    order = np.argsort(points.ids, kind="stable")
    ids = points.ids[order]
    lenses = {number: lens_of(camera, model) for number, camera in cameras.items()}
    frames = [_frame(folder, image, lenses, ids) for image in images]
    ordered = tuple(sorted(frames, key=lambda frame: str(frame.image)))
    return SourceScene(folder.name, "colmap", ordered, metric=False, points=points.places[order])


def lens_of(camera: CameraRecord, where: object) -> Lens:
    """The lens of a camera; SceneFileError for fisheye models, which no pinhole can follow."""
    size = checked_size(camera.width, camera.height, f"{where}: camera {camera.number}")
    p = camera.parameters
    match camera.model:
        case "SIMPLE_PINHOLE" | "SIMPLE_RADIAL" | "RADIAL":
            values, distortion = (p[0], p[0], p[1], p[2]), p[3:]
        case "PINHOLE" | "OPENCV":
            values, distortion = p[:4], p[4:]
        case "FULL_OPENCV" if not any(p[9:]):
            values, distortion = p[:4], p[4:9]
        case _:
            message = f"{where}: camera {camera.number} has the model {camera.model}"
            raise SceneFileError(message, HINT)
    if not np.isfinite(distortion).all():
        raise SceneFileError(f"{where}: camera {camera.number} has distortion {distortion}")
    fx, fy, cx, cy = values
    return Lens(pinhole(fx, fy, cx, cy, where, integer_centres=False), distortion, size)


def _frame(
    folder: Path, image: ImageRecord, lenses: dict[int, Lens], ids: Int64[np.ndarray, " n"]
) -> Frame:
    where = f"{folder}: {image.name[:80]}"
    lens = lenses.get(image.camera)
    if lens is None:
        raise SceneFileError(f"{where} has camera {image.camera}, which is not in the model")
    rotation = rotation_wxyz(image.quaternion_wxyz, where)
    seen = image.points[np.isin(image.points, ids)]
    return Frame(
        name=Path(image.name).with_suffix("").as_posix(),
        image=inside(folder / "images", image.name),
        size=lens.size,
        intrinsics=lens.intrinsics,
        world_from_camera=inverse(rigid(rotation, image.translation)),
        distortion=lens.distortion,
        points=np.unique(np.searchsorted(ids, seen)),
    )


def _model(folder: Path) -> Path | None:
    names = ("cameras.bin", "cameras.txt")
    found = (
        folder / place for place in PLACES for name in names if (folder / place / name).exists()
    )
    return next(found, None)
