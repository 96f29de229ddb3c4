"""Files of strangers: names kept inside their folder, text and numbers read under limits."""

import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float64
from PIL import Image

from ffsplat.decode import FORMATS, decoder_errors
from ffsplat.errors import ImageError, SceneFileError
from ffsplat.io.header import open_regular, read_limited
from ffsplat.io.text import matrix, numbers

MAX_MATRIX_BYTES = 1 << 16
MAX_SIDE = 1 << 16
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_FOLDERS = 100_000
MAX_PART = 255
"""Bytes of one name in a path: what file systems take."""
MAX_DIGITS = 20
"""Longer runs of digits in a name are no number, and slow to read as one."""
HALF_PIXEL = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
"""From pixels whose centres are integers to ours, whose centres are half-integers."""


def inside(folder: Path, name: object) -> Path:
    """`folder / name`; SceneFileError if a file names something outside of its own folder."""
    parts = PurePosixPath(str(name).replace("\\", "/")).parts
    hostile = not parts or ".." in parts or parts[0].startswith("/") or ":" in parts[0]
    too_long = any(len(part.encode(errors="replace")) > MAX_PART for part in parts)
    if not isinstance(name, str) or hostile or too_long or "\0" in name:
        raise SceneFileError(f"{folder} names a file outside of itself: {str(name)[:80]!r}")
    return folder.joinpath(*parts)


def read_matrix(path: Path, rows: int, columns: int) -> Float64[np.ndarray, "r c"]:
    """A small text file of numbers in rows."""
    return matrix(_small_numbers(path), rows, columns, path)


def read_square(path: Path) -> Float64[np.ndarray, "r c"]:
    """A small text file of a square of numbers."""
    values = _small_numbers(path)
    side = math.isqrt(len(values))
    return matrix(values, side, side, path)


def _small_numbers(path: Path) -> Float64[np.ndarray, " n"]:
    text = read_limited(path, MAX_MATRIX_BYTES).decode("ascii", errors="replace")
    return numbers(text.split(), path)


def read_arrays(path: Path, names: tuple[str, ...]) -> list[np.ndarray]:
    """Small named arrays of an .npz file, without pickle and without trusting its sizes."""
    try:
        with zipfile.ZipFile(BytesIO(read_limited(path, MAX_MATRIX_BYTES))) as archive:
            return [_array(archive, f"{name}.npy") for name in names]
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, zlib.error) as error:
        raise SceneFileError(f"{path} does not hold {', '.join(names)}: {error}") from error


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        content = BytesIO(member.read(MAX_MATRIX_BYTES))
    if np.lib.format.read_magic(content) != (1, 0):
        raise ValueError(f"{name} is not in version 1.0 of the format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(content)
    values = content.read()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"{name} does not hold the numbers that its header promises")
    return np.frombuffer(values, dtype).reshape(shape, order="F" if fortran else "C")


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from the header of a picture, as it is stored (EXIF turns nothing)."""
    with open_picture(path) as picture:
        return picture.size


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """A picture of which only the header has been read; ImageError names one that is damaged."""
    try:
        with open_regular(path) as file, decoder_errors():
            yield Image.open(file, formats=FORMATS)
    except ImageError as error:
        raise ImageError(f"{path}: {error}", error.hint) from error


def checked_size(width: object, height: object, where: object) -> tuple[int, int]:
    """Width and height as integers; SceneFileError if they are absurd."""
    try:
        size = (int(width), int(height))  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError) as error:
        raise SceneFileError(f"{where} has no size in pixels") from error
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise SceneFileError(f"{where} is {size[0]} x {size[1]} pixels")
    return size


def pinhole(
    fx: float, fy: float, cx: float, cy: float, where: object, *, integer_centres: bool
) -> Float64[np.ndarray, "3 3"]:
    """Intrinsics with pixel centres at half-integers, from a source that has them there or not.

    SceneFileError if the focal lengths are not positive or anything is not finite.
    """
    values = (fx, fy, cx, cy)
    if not all(math.isfinite(value) for value in values) or fx <= 0 or fy <= 0:
        raise SceneFileError(f"{where} has impossible intrinsics {values}")
    intrinsics = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    return HALF_PIXEL @ intrinsics if integer_centres else intrinsics


def natural(path: Path) -> list[tuple[int, str]]:
    """Sort key that counts: frame 9 comes before frame 10."""
    words = re.findall(r"\d+|\D+", path.name)
    return [(int(w), "") if w.isdecimal() and len(w) < MAX_DIGITS else (-1, w) for w in words]


def pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order; none if it is absent."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    return sorted(found, key=natural)


def find_scenes(folder: Path, is_scene: Callable[[Path], bool], depth: int = 3) -> list[Path]:
    """The scene folders at or below `folder`, at most `depth` levels down, in natural order."""
    if is_scene(folder):
        return [folder]
    if depth == 0 or not folder.is_dir():
        return []
    try:
        children = list(islice((p for p in folder.iterdir() if p.is_dir()), MAX_FOLDERS))
    except OSError as error:
        raise SceneFileError(f"cannot read {folder}: {error.strerror}") from error
    found: list[Path] = []
    for child in sorted(children, key=natural):
        found += find_scenes(child, is_scene, depth - 1)
    return found
