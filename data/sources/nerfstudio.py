"""nerfstudio's `transforms.json`, as DL3DV, instant-ngp and many capture tools write it.

Layout (nerfstudio-project/nerfstudio, docs/quickstart/data_conventions.md and
data/dataparsers/nerfstudio_dataparser.py): `fl_x fl_y cx cy w h k1 k2 k3 p1 p2 camera_model` hold
for all frames or stand in a frame of their own; a frame has `file_path`, `transform_matrix`
(world_from_camera with OpenGL's axes: y up, z backward) and perhaps `depth_file_path` (16-bit PNG,
thousandths of the unit). Pixel centres are half-integers. DL3DV ships smaller photos in `images_2`,
`images_4`, `images_8`; they are taken where `images` is absent. OPENCV lenses are undistorted,
fisheye lenses are refused. The unit is arbitrary.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from data.sources.files import checked_size, find_scenes, image_size, inside, natural, pinhole
from data.sources.frame import DepthMap, Frame, SourceScene
from ffsplat.errors import SceneFileError
from ffsplat.io.text import OPENGL, matrix, read_object

TRANSFORMS = "transforms.json"
DEPTH_SCALE = 0.001
PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE")
LENS = ("k1", "k2", "p1", "p2", "k3")
SMALLER = ("images", "images_2", "images_4", "images_8")


def find(folder: Path) -> list[Path]:
    """Folders with transforms.json."""
    return find_scenes(folder, lambda path: (path / TRANSFORMS).is_file())


def read(folder: Path) -> SourceScene:
    """Read one capture; SceneFileError names what is wrong."""
    content = read_object(folder / TRANSFORMS)
    frames = [transform_frame(folder, content, item) for item in transform_items(folder, content)]
    name = folder.parent.name if folder.name == "nerfstudio" else folder.name
    return SourceScene(name, "nerfstudio", tuple(frames), metric=False)


def transform_items(where: object, content: dict[str, Any]) -> list[dict[str, Any]]:
    """The frames that a transforms.json lists, in the natural order of their files."""
    listed = content.get("frames")
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise SceneFileError(f"{where} has no list of frames")
    return sorted(listed, key=lambda item: natural(Path(str(item.get("file_path")))))


def transform_frame(folder: Path, content: dict[str, Any], item: dict[str, Any]) -> Frame:
    """One frame; what it does not say itself is said for all frames."""
    image = _photo(folder, item.get("file_path"))
    where = f"{folder}: {str(item['file_path'])[:80]}"
    known = content | item
    model = known.get("camera_model", "OPENCV")
    if model not in PINHOLES:
        raise SceneFileError(f"{where} has the lens {str(model)[:40]}", "undistort it first")
    measured = image_size(image) if "w" not in known or "h" not in known else (0, 0)
    size = checked_size(known.get("w", measured[0]), known.get("h", measured[1]), where)
    fx = _focal(known, "x", size[0], where)
    fy = _focal(known, "y", size[1], where) if _has_focal(known, "y") else fx
    cx, cy = (
        _number(known, key, side / 2, where) for key, side in zip(("cx", "cy"), size, strict=True)
    )
    depth = item.get("depth_file_path")
    lens = tuple(_number(known, key, 0.0, where) for key in LENS)
    return Frame(
        name=Path(str(item["file_path"])).stem,
        image=image,
        size=size,
        intrinsics=pinhole(fx, fy, cx, cy, where, integer_centres=False),
        world_from_camera=_pose(item.get("transform_matrix"), where),
        depth=DepthMap(inside(folder, depth), DEPTH_SCALE) if depth else None,
        distortion=lens if any(lens) else (),
    )


def _pose(values: object, where: str) -> np.ndarray:
    """A 4x4 (or 3x4) matrix with OpenGL's axes as one with OpenCV's."""
    if isinstance(values, list) and len(values) == 3:
        values = [*values, [0, 0, 0, 1]]
    return matrix(values, 4, 4, where) @ OPENGL


def _photo(folder: Path, name: object) -> Path:
    """The photo, or its smaller copy, or the file that a name without suffix means."""
    path = inside(folder, name)
    if not path.suffix:
        path = path.with_suffix(".png")
    parts = list(path.relative_to(folder).parts)
    if parts[0] == SMALLER[0] and not path.exists():
        copies = [folder.joinpath(place, *parts[1:]) for place in SMALLER]
        return next((copy for copy in copies if copy.exists()), path)
    return path


def _has_focal(known: dict[str, Any], axis: str) -> bool:
    return f"fl_{axis}" in known or f"camera_angle_{axis}" in known


def _focal(known: dict[str, Any], axis: str, side: int, where: str) -> float:
    """Focal length in pixels, stated or from the field of view in radians."""
    if f"fl_{axis}" in known:
        return _number(known, f"fl_{axis}", 0.0, where)
    angle = _number(known, f"camera_angle_{axis}", 0.0, where)
    if not 0 < angle < math.pi:
        raise SceneFileError(f"{where} has no focal length")
    return side / 2 / math.tan(angle / 2)


def _number(known: dict[str, Any], key: str, otherwise: float, where: str) -> float:
    value = known.get(key, otherwise)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise SceneFileError(f"{where}: {key} is {str(value)[:40]}")
    return float(value)
