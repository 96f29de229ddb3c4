"""Cameras as JSON that states its own conventions."""

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import numpy as np

from ffsplat.errors import SceneFileError
from ffsplat.io.atomic import atomic_output
from ffsplat.io.header import read_limited
from ffsplat.types import Cameras

FORMAT = "ffsplat.cameras 1"
CONVENTIONS = {
    "axes": "OpenCV: x right, y down, z forward",
    "pixels": "the centre of the top-left pixel is (0.5, 0.5)",
    "world": "the frame of the first camera",
}
MAX_BYTES = 1 << 26
MAX_SIDE = 1 << 16


def write_cameras(cameras: Cameras, path: str | Path, *, overwrite: bool = False) -> None:
    """Write name, size, intrinsics (pixels) and world_from_camera of each camera as JSON.

    Numbers keep every bit of float32; a thumbnail, if known, is its 256 bytes in base64. Raises
    OutputError as `atomic_output`.
    """
    content = cameras_bytes(cameras)
    with atomic_output(path, overwrite, len(content)) as file:
        file.write(content)


def cameras_bytes(cameras: Cameras) -> bytes:
    """The content of the file that `write_cameras` writes."""
    rows = zip(
        cameras.names, cameras.sizes, cameras.intrinsics, cameras.world_from_camera, strict=True
    )
    listed = [
        {
            "name": name,
            "width": int(width),
            "height": int(height),
            "intrinsics": intrinsics.tolist(),
            "world_from_camera": pose.tolist(),
            **thumbnail_entry(cameras, index),
        }
        for index, (name, (width, height), intrinsics, pose) in enumerate(rows)
    ]
    content = {"format": FORMAT, "conventions": CONVENTIONS, "cameras": listed}
    return json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"


def thumbnail_entry(cameras: Cameras, index: int) -> dict[str, str]:
    """The entry of a camera's JSON object that holds its thumbnail; empty if that is unknown."""
    if cameras.thumbnails is None or not cameras.thumbnails[index].any():
        return {}
    return {"thumbnail": b64encode(cameras.thumbnails[index].tobytes()).decode()}


def read_cameras(path: str | Path) -> Cameras:
    """Read what `write_cameras` wrote; SceneFileError names the first thing that is wrong."""
    path = Path(path)
    return decode_cameras(read_limited(path, MAX_BYTES), str(path))


def decode_cameras(content: bytes, name: str) -> Cameras:
    """Undo `cameras_bytes`; SceneFileError, with the name, says what is wrong."""
    try:
        return _cameras(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise SceneFileError(
            f"{name} is not a camera file: {error}", "infer writes one with --cameras-out"
        ) from error


def _cameras(content: Any) -> Cameras:
    match content:
        case {"format": "ffsplat.cameras 1", "cameras": [_, *_] as listed}:
            parsed = [_camera(item, i) for i, item in enumerate(listed)]
        case _:
            raise ValueError(f"it is not marked as {FORMAT}, or has no camera")
    names, sizes, intrinsics, poses, small = zip(*parsed, strict=True)
    return Cameras(
        np.stack(poses),
        np.stack(intrinsics),
        np.array(sizes, np.int32),
        names,
        np.stack(small) if any(one.any() for one in small) else None,
    )


def _camera(
    item: Any, index: int
) -> tuple[str, tuple[int, int], np.ndarray, np.ndarray, np.ndarray]:
    match item:
        case {
            "name": str(name),
            "width": int(width),
            "height": int(height),
            "intrinsics": list(intrinsics),
            "world_from_camera": list(pose),
            **others,
        } if not others.keys() - {"thumbnail"}:
            small = _thumbnail(others.get("thumbnail"), index)
        case _:
            raise ValueError(f"camera {index} has missing, unknown or mistyped entries")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError(f"camera {index} is {width} x {height} pixels")
    return name, (width, height), _intrinsics(intrinsics, index), _pose(pose, index), small


def _thumbnail(text: Any, index: int) -> np.ndarray:
    """The 16 x 16 bytes of a thumbnail; black, which stands for unknown, where there is none."""
    if text is None:
        return np.zeros((16, 16), np.uint8)
    content = b64decode(text, validate=True) if isinstance(text, str) else b""
    if len(content) != 256:
        raise ValueError(f"thumbnail of camera {index} is not 256 bytes in base64")
    return np.frombuffer(content, np.uint8).reshape(16, 16)


def _intrinsics(rows: list[Any], index: int) -> np.ndarray:
    matrix = _matrix(rows, 3, f"intrinsics of camera {index}")
    if not (matrix[0, 0] > 0 and matrix[1, 1] > 0 and np.array_equal(matrix[2], [0, 0, 1])):
        raise ValueError(f"intrinsics of camera {index} are not those of a pinhole camera")
    return matrix


def _pose(rows: list[Any], index: int) -> np.ndarray:
    matrix = _matrix(rows, 4, f"world_from_camera of camera {index}")
    rotation = matrix[:3, :3].astype(np.float64)
    orthonormal = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
    if not (
        orthonormal and np.linalg.det(rotation) > 0 and np.array_equal(matrix[3], [0, 0, 0, 1])
    ):
        raise ValueError(f"world_from_camera of camera {index} is not a rigid transform")
    return matrix


def _matrix(rows: list[Any], size: int, what: str) -> np.ndarray:
    square = len(rows) == size and all(isinstance(r, list) and len(r) == size for r in rows)
    if not square or not all(type(value) in (int, float) for row in rows for value in row):
        raise ValueError(f"{what} is not {size} x {size} numbers")
    try:
        with np.errstate(over="ignore"):
            matrix = np.array(rows, np.float64).astype(np.float32)
    except OverflowError as error:
        raise ValueError(f"{what} holds a number that is too large") from error
    if not np.isfinite(matrix).all():
        raise ValueError(f"{what} is not finite")
    return matrix
