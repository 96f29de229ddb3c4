"""The files of a COLMAP model as records; every count is checked against the bytes that are there.

Source: colmap/colmap, doc/format.rst, src/colmap/scene/reconstruction_io and sensor/models.h.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from ffsplat.errors import SceneFileError
from ffsplat.formats.points import GRAY
from ffsplat.io.header import read_limited
from ffsplat.io.text import lines, numbers, read_text

MAX_MODEL_BYTES = 1 << 31
MAX_INTEGER = 1 << 62
MAX_NAME = 4096
MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
}
"""Name and number of parameters of a camera model, by its number in binary files."""
COUNTS = dict(MODELS.values())
NO_POINT = -1
_POINT2D = np.dtype([("xy", "<f8", 2), ("point", "<i8")])


@dataclass(frozen=True)
class CameraRecord:
    """One camera as written: model by name, parameters in the model's order."""

    number: int
    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image as written: camera_from_world, and the points that it sees."""

    name: str
    camera: int
    quaternion_wxyz: Float64[np.ndarray, "4"]
    translation: Float64[np.ndarray, "3"]
    points: Int64[np.ndarray, " seen"]


@dataclass(frozen=True, eq=False)
class SparsePoints:
    """Sparse points: their numbers, places in the world and colours."""

    ids: Int64[np.ndarray, " n"]
    places: Float64[np.ndarray, "n 3"]
    colors: UInt8[np.ndarray, "n 3"]

    @classmethod
    def empty(cls, count: int = 0) -> "SparsePoints":
        """So many points, all grey and at the origin."""
        gray = np.full((count, 3), GRAY, np.uint8)
        return cls(np.zeros(count, np.int64), np.zeros((count, 3)), gray)


class _Bytes:
    """A binary file that is read in order and never beyond its end."""

    def __init__(self, path: Path):
        self.path = path
        self.content = memoryview(read_limited(path, MAX_MODEL_BYTES))
        self.place = 0

    def take(self, size: int) -> memoryview:
        if size < 0 or size > len(self.content) - self.place:
            raise SceneFileError(f"{self.path} is truncated: {size} more bytes are promised")
        self.place += size
        return self.content[self.place - size : self.place]

    def unpack(self, layout: str) -> tuple:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def count(self, smallest: int) -> int:
        """A count of records that have at least `smallest` bytes each."""
        (count,) = self.unpack("<Q")
        if count * smallest > len(self.content) - self.place:
            raise SceneFileError(f"{self.path} is truncated: it promises {count} records")
        return count

    def text(self) -> str:
        """A name up to its zero byte."""
        name, zero, _ = bytes(self.content[self.place : self.place + MAX_NAME]).partition(b"\0")
        if not zero:
            raise SceneFileError(f"{self.path} is truncated within a name, or a name has no end")
        self.take(len(name) + 1)
        return name.decode("utf-8", errors="replace")


def binary_cameras(path: Path) -> dict[int, CameraRecord]:
    """cameras.bin, by camera number."""
    file = _Bytes(path)
    cameras = {}
    for _ in range(file.count(24)):
        number, model, width, height = file.unpack("<IiQQ")
        if model not in MODELS:
            raise SceneFileError(f"{path}: camera {number} has the unknown model {model}")
        name, count = MODELS[model]
        cameras[number] = CameraRecord(number, name, width, height, file.unpack(f"<{count}d"))
    return cameras


def binary_images(path: Path) -> list[ImageRecord]:
    """images.bin in its own order."""
    file = _Bytes(path)
    images = []
    for _ in range(file.count(73)):
        values = file.unpack("<I7dI")
        name = file.text()
        seen = np.frombuffer(file.take(file.count(_POINT2D.itemsize) * _POINT2D.itemsize), _POINT2D)
        points = seen["point"].astype(np.int64)
        pose = np.array(values[1:8])
        images.append(ImageRecord(name, values[8], pose[:4], pose[4:], points[points != NO_POINT]))
    return images


def binary_points(path: Path) -> SparsePoints:
    """points3D.bin; none if the file is absent."""
    if not path.exists():
        return SparsePoints.empty()
    file = _Bytes(path)
    points = SparsePoints.empty(file.count(51))
    for row in range(len(points.ids)):
        points.ids[row], *place_and_color, _ = file.unpack("<q3d3Bd")
        points.places[row], points.colors[row] = place_and_color[:3], place_and_color[3:]
        file.take(8 * file.count(8))
    return points


def text_cameras(path: Path) -> dict[int, CameraRecord]:
    """cameras.txt: CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]."""
    cameras = {}
    for words in lines(path):
        if len(words) < 5 or len(words) - 4 != COUNTS.get(words[1], len(words) - 4):
            raise SceneFileError(f"{path}: not a camera: {' '.join(words)[:80]}")
        number, width, height = _integers([words[0], *words[2:4]], path)
        parameters = tuple(float(value) for value in numbers(words[4:], path))
        cameras[number] = CameraRecord(number, words[1], width, height, parameters)
    return cameras


def text_images(path: Path) -> list[ImageRecord]:
    """images.txt: two lines an image, of which the second (its points) may be empty."""
    rows = [line for line in read_text(path).splitlines() if not line.lstrip().startswith("#")]
    while rows and not rows[0].strip():
        rows.pop(0)
    images = []
    for row in range(0, len(rows), 2):
        words = rows[row].split(maxsplit=9)
        if not words and not any(line.strip() for line in rows[row:]):
            break
        if len(words) != 10:
            raise SceneFileError(f"{path}: not an image: {rows[row][:80]}")
        pose = numbers(words[1:8], path)
        observed = rows[row + 1].split() if row + 1 < len(rows) else []
        points = np.array(_integers(observed[2::3], path), np.int64)
        camera = _integers(words[8:9], path)[0]
        name = words[9].strip()
        images.append(ImageRecord(name, camera, pose[:4], pose[4:], points[points != NO_POINT]))
    return images


def text_points(path: Path) -> SparsePoints:
    """points3D.txt: POINT3D_ID X Y Z R G B and what is not needed; none if the file is absent."""
    if not path.exists():
        return SparsePoints.empty()
    rows = [words[:7] for words in lines(path)]
    if any(len(row) < 4 for row in rows):
        raise SceneFileError(f"{path} has a point without a place")
    points = SparsePoints.empty(len(rows))
    points.ids[:] = _integers([row[0] for row in rows], path)
    for row, words in enumerate(rows):
        points.places[row] = numbers(words[1:4], path)
        if len(words) == 7:
            points.colors[row] = np.clip(_integers(words[4:], path), 0, 255)
    return points


def _integers(words: list[str], where: object) -> list[int]:
    try:
        values = [int(word) for word in words]
    except ValueError as error:
        raise SceneFileError(f"{where}: {error}") from error
    if any(abs(value) > MAX_INTEGER for value in values):
        raise SceneFileError(f"{where} has a number that is too large")
    return values
