"""A scene as a compact `.npz`: `numpy.load` opens it, without pickle and without ffsplat.

The arrays are those of `ffsplat.formats.columns`, 12 bytes of codes a Gaussian at K = 4.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ffsplat.errors import SceneFileError
from ffsplat.formats.columns import SHAPES, check_columns, columns_of, scene_of
from ffsplat.formats.packing import check_promise
from ffsplat.io.atomic import atomic_output
from ffsplat.io.header import open_regular
from ffsplat.types import Scene

_BLOCK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write(scene: Scene, path: str | Path, *, overwrite: bool = False) -> None:
    """Write all of the scene, uncompressed; the same scene is the same file.

    Raises OutputError as `atomic_output`, and for Gaussians that are not finite.
    """
    columns = columns_of(scene)
    size = sum(column.nbytes for column in columns.values())
    with atomic_output(path, overwrite, size) as file, zipfile.ZipFile(file, "w") as archive:
        for name, column in columns.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, column, allow_pickle=False)


def read(path: str | Path) -> Scene:
    """Read what `write` wrote, or the same arrays compressed; SceneFileError says what is wrong.

    Types, shapes and sizes are checked before an array is allocated; a pickle is never read.
    """
    path = Path(path)
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return _read(archive, path)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError) as error:
        raise SceneFileError(f"{path.name} is not a scene: {str(error)[:200]}") from error
    except (RuntimeError, OSError, MemoryError) as error:  # encrypted, or offsets that lie
        raise SceneFileError(f"{path.name} cannot be unpacked: {str(error)[:200]}") from error


def _read(archive: zipfile.ZipFile, path: Path) -> Scene:
    entries = archive.infolist()
    names = [entry.filename.removesuffix(".npy") for entry in entries]
    if len(entries) > len(SHAPES) or len(set(names)) != len(names):
        raise SceneFileError(f"{path.name} is not a scene: {len(entries)} arrays")
    found, headers, promised = {}, {}, 0
    for name, entry in zip(names, entries, strict=True):
        with archive.open(entry) as stream:
            shape, fortran, kind = _array_header(stream)
        if fortran and len(shape) > 1:
            raise SceneFileError(f"{path.name}: {name[:40]} is in Fortran order")
        found[name] = kind.str, shape
        headers[name] = kind, shape
        promised += _size(kind, shape)
    check_columns(found, path.name)
    check_promise(promised, path.stat().st_size)
    columns = {}
    for name, entry in zip(names, entries, strict=True):
        with archive.open(entry) as stream:
            _array_header(stream)
            columns[name] = _array(stream, *headers[name])
    return scene_of(columns, path.name)


def _array_header(stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an array, as numpy wrote them in front of it."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"version {version} of an array")


def _size(kind: np.dtype, shape: tuple[int, ...]) -> int:
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of the shape {shape}")
    size = kind.itemsize
    for length in shape:
        size *= length
    return size


def _array(stream, kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The rest of the stream as an array; its memory grows with what is really there."""
    left, content = _size(kind, shape), bytearray()
    while left:
        block = stream.read(min(left, _BLOCK))
        if not block:
            raise ValueError(f"an array lacks {left} bytes")
        content += block
        left -= len(block)
    return np.frombuffer(content, kind).reshape(shape)
