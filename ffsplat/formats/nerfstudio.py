"""nerfstudio's `transforms.json`, with its points beside it as `sparse_pc.ply`.

Layout: nerfstudio-project/nerfstudio, docs/quickstart/data_conventions.md. A frame's
`transform_matrix` is world_from_camera with OpenGL's axes (y up, z backward); pixel centres are
half-integers; what all frames share stands once. The world is ours, not turned: `z` need not be up.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from ffsplat.errors import SceneFileError
from ffsplat.formats.cameras import cameras_of
from ffsplat.formats.points import FAR, ply_bytes, points_of, read_points, small_gaussians
from ffsplat.io.atomic import atomic_outputs
from ffsplat.io.folder import atomic_folder
from ffsplat.io.text import OPENGL, matrix, read_object
from ffsplat.types import Cameras, Scene

CAMERAS, POINTS = "transforms.json", "sparse_pc.ply"
"""What nerfstudio's own tools call both files."""

LENS = ("w", "h", "fl_x", "fl_y", "cx", "cy")
DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE")
MAX_SIDE = 1 << 16


def write(
    scene: Scene,
    path: str | Path,
    *,
    overwrite: bool = False,
    min_opacity: float = 0.1,
) -> None:
    """Write the scene's cameras as JSON, and its Gaussians from `min_opacity` on as points.

    `path` is the JSON file or, of any other name, the folder of both files. The photos are named as
    the cameras are; put the file where these names lead to them. Raises UsageError without cameras,
    OutputError as `atomic_outputs` and `atomic_folder`.
    """
    path = Path(path)
    posed = cameras_of(scene)
    lenses = [_lens(posed, view) for view in range(len(posed))]
    shared = lenses[0] if all(lens == lenses[0] for lens in lenses) else {}
    poses = posed.world_from_camera.astype(np.float64) @ OPENGL
    content = {
        "camera_model": "OPENCV",
        **shared,
        **dict.fromkeys(DISTORTION, 0.0),
        "ply_file_path": POINTS,
        "frames": [
            {"file_path": name, **({} if shared else lens), "transform_matrix": pose.tolist()}
            for name, lens, pose in zip(posed.names, lenses, poses, strict=True)
        ],
    }
    text = json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"
    points = ply_bytes(points_of(scene, min_opacity))
    size = len(text) + len(points)
    if path.suffix.lower() != ".json":
        with atomic_folder(path, (POINTS, CAMERAS), overwrite, size) as folder:
            (folder / POINTS).write_bytes(points)
            (folder / CAMERAS).write_bytes(text)
        return
    outputs = [path.with_name(POINTS), path]
    with atomic_outputs(outputs, overwrite, size) as (points_file, file):
        points_file.write(points)
        file.write(text)


def read(path: str | Path) -> Scene:
    """Read cameras and points as a scene: one small opaque Gaussian for each point.

    `path` is the file, or the folder that it lies in. Raises SceneFileError naming what is wrong,
    for lenses with distortion, and without points.
    """
    path = Path(path)
    path = path / CAMERAS if path.is_dir() else path
    content = read_object(path)
    cameras = _cameras(content, path)
    name = content.get("ply_file_path")
    if not isinstance(name, str) or not name:
        raise SceneFileError(f"{path} has cameras, but names no points (ply_file_path)")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise SceneFileError(f"{path} names points outside of its folder: {name[:80]!r}")
    points = read_points(path.parent / name)
    if not len(points.places):
        raise SceneFileError(f"{name} has no points")
    return Scene(small_gaussians(points, cameras), cameras=cameras)


def _lens(cameras: Cameras, view: int) -> dict[str, int | float]:
    width, height = (int(side) for side in cameras.sizes[view])
    (fx, _, cx), (_, fy, cy), _ = cameras.intrinsics[view].tolist()
    return dict(zip(LENS, (width, height, fx, fy, cx, cy), strict=True))


def _cameras(content: dict[str, Any], path: Path) -> Cameras:
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(f, dict) for f in frames):
        raise SceneFileError(f"{path} has no frames")
    names, sizes, lenses, poses = [], [], [], []
    for frame in frames:
        known = content | frame
        name = str(frame.get("file_path"))
        where = f"{path}: {name[:80]}"
        values = [_number(known, key, where) for key in LENS]
        pose = matrix(frame.get("transform_matrix"), 4, 4, where) @ OPENGL
        _check(known, values, pose, where)
        width, height, fx, fy, cx, cy = values
        names.append(name)
        sizes.append((int(width), int(height)))
        lenses.append([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        poses.append(pose)
    return Cameras(
        np.array(poses, np.float32),
        np.array(lenses, np.float32),
        np.array(sizes, np.int32),
        tuple(names),
    )


def _number(known: dict[str, Any], key: str, where: str) -> float:
    """A number that must be there, or the focal length that a field of view stands for."""
    value, angle = known.get(key), known.get(f"camera_angle_{key[-1]}")
    if value is None and key == "fl_y" and angle is None:
        return _number(known, "fl_x", where)
    if value is None and key.startswith("fl_") and isinstance(angle, int | float):
        side = _number(known, "w" if key == "fl_x" else "h", where)
        value = side / 2 / math.tan(angle / 2) if 0 < angle < math.pi else None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise SceneFileError(f"{where}: {key} is {str(value)[:40]}")
    return float(value)


def _check(
    known: dict[str, Any], lens: list[float], pose: Float64[np.ndarray, "4 4"], where: str
) -> None:
    model = str(known.get("camera_model", "OPENCV"))
    if model not in PINHOLES or any(known.get(key) for key in DISTORTION):
        raise SceneFileError(f"{where} has a distorted lens ({model[:40]})", "undistort it first")
    width, height, fx, fy, _, _ = lens
    if not (1 <= width < MAX_SIDE and 1 <= height < MAX_SIDE and fx > 0 and fy > 0):
        raise SceneFileError(f"{where} has an impossible lens")
    turn = pose[:3, :3]
    rigid = (np.abs(pose) < FAR).all() and np.allclose(turn @ turn.T, np.eye(3), atol=1e-2)
    if not rigid or np.linalg.det(turn) < 0 or not np.array_equal(pose[3], [0, 0, 0, 1]):
        raise SceneFileError(f"{where} has no rigid transform_matrix")
