"""Read a bundled SOG of version 2 by any tool, without trusting its sizes."""

import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt16
from PIL import Image, UnidentifiedImageError

from ffsplat.errors import SceneFileError
from ffsplat.formats.packing import MAX_GAUSSIANS, Parts, check_promise, readable, restore_largest
from ffsplat.formats.quantize import ENTRIES
from ffsplat.formats.sog import FIRST_TAG, LEVELS16, MAX_SIDE, ROW_OF_PALETTE
from ffsplat.io.header import open_regular
from ffsplat.types import Scene

MAX_META = 1 << 20
MALFORMED = (ValueError, TypeError, LookupError, OverflowError)
"""What wrong values of JSON raise where they are used."""

PIXEL_BYTES = 24
"""Bytes that a Gaussian takes in all images as they are decoded."""

FREE_PIXELS = 1 << 16
COEFFICIENTS = {1: 3, 2: 8, 3: 15}
MAX_PALETTE = 1 << 16
_ROOT2 = np.float32(np.sqrt(2))


def read(path: str | Path) -> Scene:
    """Read a `.sog` bundle; SceneFileError names what is wrong with it."""
    path = Path(path)
    try:
        quiet = np.errstate(all="ignore")  # numbers that are not finite are refused below
        with open_regular(path) as file, zipfile.ZipFile(file) as archive, quiet:
            parts = _Bundle(archive, path).parts()
    except (zipfile.BadZipFile, zlib.error, *MALFORMED) as error:
        raise SceneFileError(f"{path.name} is not a SOG bundle: {str(error)[:200]}") from error
    except (OSError, EOFError, RuntimeError, RecursionError, MemoryError) as error:
        raise SceneFileError(f"{path.name} cannot be unpacked: {str(error)[:200]}") from error
    return Scene(readable(parts, path.name))


class _Bundle:
    """The archive, and what its meta data promises."""

    def __init__(self, archive: zipfile.ZipFile, path: Path):
        self.archive = archive
        self.size = path.stat().st_size
        self.meta = json.loads(self._content("meta.json", MAX_META))
        if not isinstance(self.meta, dict) or self.meta.get("version") != 2:
            raise ValueError("meta.json is not that of version 2")
        self.count = self.meta["count"]
        if type(self.count) is not int or not 0 < self.count <= MAX_GAUSSIANS:
            raise ValueError(f"it has {str(self.count)[:20]} Gaussians")
        check_promise(self.count * PIXEL_BYTES, self.size)

    def parts(self) -> Parts:
        """The Gaussians, not checked yet."""
        means, scale, color = map(self._entry, ("means", "scales", "sh0"))
        sh0 = self._pixels(color, 0, 4)
        sh = [_table(color)[sh0[:, :3]][:, None]]
        if self.meta.get("shN"):
            sh.append(self._higher(self._entry("shN")))
        levels = self._pixels(means, 1).astype(np.uint16) << 8 | self._pixels(means, 0)
        scales = _table(scale)[self._pixels(scale, 0)]
        return Parts(
            _positions(levels, means),
            np.exp(scales.astype(np.float64)),
            _rotations(self._pixels(self._entry("quats"), 0, 4)),
            sh0[:, 3].astype(np.float32) / 255,
            np.concatenate(sh, axis=1),
        )

    def _entry(self, name: str) -> dict[str, Any]:
        """A part of the meta data; ValueError unless it is an object."""
        entry = self.meta[name]
        if not isinstance(entry, dict):
            raise ValueError(f"{name} is no object")
        return entry

    def _pixels(
        self, entry: dict[str, Any], index: int, channels: int = 3
    ) -> UInt8[np.ndarray, "n channels"]:
        """One row a Gaussian of the image with that index."""
        image = self._image(entry["files"][index], 2 * self.count + FREE_PIXELS, channels)
        pixels = image.reshape(-1, channels)
        if len(pixels) < self.count:
            raise ValueError(f"an image has {len(pixels)} pixels for {self.count} Gaussians")
        return pixels[: self.count]

    def _image(self, name: object, limit: int, channels: int) -> UInt8[np.ndarray, "h w channels"]:
        """An image of at most `limit` pixels, which is found out before it is decoded."""
        content = self._content(str(name), self.size)
        try:
            with Image.open(io.BytesIO(content), formats=["WEBP", "PNG"]) as image:
                width, height = image.size
                if max(width, height) > MAX_SIDE or width * height > limit:
                    raise ValueError(f"an image of {width} x {height} pixels")
                return np.asarray(image.convert("RGBA" if channels == 4 else "RGB"))
        except (UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"an image cannot be read: {error}") from error

    def _content(self, name: str, limit: int) -> bytes:
        """A file of the archive, as far as `limit` bytes go."""
        with self.archive.open(name) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise ValueError(f"{name[:40]} has more than {limit} bytes")
        return content

    def _higher(self, entry: dict[str, Any]) -> Float32[np.ndarray, "n k 3"]:
        """The higher SH: labels, the palette that they point into, the table of its bytes."""
        coefficients = COEFFICIENTS[entry["bands"]]
        palette = self._image(entry["files"][0], MAX_PALETTE * coefficients, 3)
        if palette.shape[1] != ROW_OF_PALETTE * coefficients:
            raise ValueError(f"a palette of {palette.shape[1]} pixels a row")
        entries = _table(entry)[palette.reshape(-1, coefficients, 3)]
        labels = self._pixels(entry, 1).astype(np.int64)
        numbers = labels[:, 0] | labels[:, 1] << 8
        if numbers.max() >= len(entries):
            raise ValueError(f"label {numbers.max()} of a palette of {len(entries)}")
        return entries[numbers]


def _table(entry: dict[str, Any]) -> Float32[np.ndarray, " entries"]:
    table = np.array(entry["codebook"][:ENTRIES], np.float32)
    if table.ndim != 1 or not len(table):
        raise ValueError("a codebook is no list of numbers")
    return np.pad(table, (0, ENTRIES - len(table)), constant_values=np.nan)


def _positions(
    levels: UInt16[np.ndarray, "n 3"], entry: dict[str, Any]
) -> Float[np.ndarray, "n 3"]:
    low, high = (np.array(entry[end], np.float64) for end in ("mins", "maxs"))
    if low.shape != (3,) or high.shape != (3,):
        raise ValueError("bounds of positions are not three numbers")
    logs = low + (high - low) * (levels / LEVELS16)
    return np.sign(logs) * np.expm1(np.abs(logs))


def _rotations(pixels: UInt8[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """Rotations by the smallest three; a tag that is none means no rotation, as for PlayCanvas."""
    tags = pixels[:, 3].astype(np.intp) - FIRST_TAG
    rest = (pixels[:, :3].astype(np.float32) / 255 - np.float32(0.5)) * _ROOT2
    quaternions = restore_largest(np.maximum(tags, 0), rest)
    quaternions[tags < 0] = (1, 0, 0, 0)
    return quaternions
