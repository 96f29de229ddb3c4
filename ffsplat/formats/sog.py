"""SOG version 2 of PlayCanvas: a zip of lossless WebP images and `meta.json`.

A pixel of each image is a Gaussian. Positions are 16-bit in the logarithm, rotations the smallest
three, scales and colours point into tables of 256, higher SH into a palette. The axes are those
of the PLY, as splat-transform writes them.
Source: PlayCanvas, "The SOG format" (2026); splat-transform 3 is its reference.
"""

import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from ffsplat.errors import OutputError
from ffsplat.formats.packing import along_morton_curve, byte, drop_largest, writable
from ffsplat.formats.quantize import nearest, palette_of, table_of
from ffsplat.io.atomic import atomic_output
from ffsplat.io.layout import MAX_THREADS
from ffsplat.types import Gaussians, Scene

MAX_SIDE = 16383
"""Pixels: the largest WebP."""

ROW_OF_PALETTE = 64
"""Entries of the SH palette in one row of its image."""

FIRST_TAG = 252
"""Alpha of a rotation whose largest component is w; x, y, z follow."""

EFFORT = 20
"""Of 100: at 50 the images take 0.8 % less, and twice the time."""

LEVELS16 = 65535
_EPOCH = (1980, 1, 1, 0, 0, 0)
_ROOT2 = np.float32(np.sqrt(2))


def write(scene: Scene, path: str | Path, *, overwrite: bool = False) -> None:
    """Write the Gaussians along a Morton curve, so that neighbouring pixels are alike.

    Raises OutputError as `atomic_output`, and for Gaussians that are not finite.
    """
    gaussians = writable(scene)
    if len(gaussians) > (MAX_SIDE - 3) ** 2:
        raise OutputError(f"{len(gaussians)} Gaussians are more than SOG holds")
    gaussians = along_morton_curve(gaussians)
    images, meta = _images(gaussians)
    side = 4 * int(np.ceil(np.sqrt(len(gaussians)) / 4))
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        files = list(pool.map(lambda pixels: _webp(pixels, side), images.values()))
    meta = {"version": 2, "asset": {"generator": "ffsplat"}, "count": len(gaussians), **meta}
    text = json.dumps(meta, allow_nan=False).encode()
    size = len(text) + sum(map(len, files))
    with atomic_output(path, overwrite, size) as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in zip([*images, "meta.json"], [*files, text], strict=True):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)


def read(path: str | Path) -> Scene:
    """Read a bundle by any tool; see `ffsplat.formats.sog_read.read`."""
    from ffsplat.formats import sog_read

    return sog_read.read(path)


def _images(gaussians: Gaussians) -> tuple[dict[str, UInt8[np.ndarray, "..."]], dict[str, Any]]:
    """Pixels of each image, a row a Gaussian (the palette's as an image), and the meta data."""
    positions, bounds = _positions(gaussians.means)
    logs = np.log(gaussians.scales)
    scales, colors = table_of(logs), table_of(gaussians.sh[:, 0])
    images = {
        "means_l.webp": positions & 255,
        "means_u.webp": positions >> 8,
        "quats.webp": _rotations(gaussians.quaternions_wxyz),
        "scales.webp": nearest(logs, scales),
        "sh0.webp": np.column_stack(
            [nearest(gaussians.sh[:, 0], colors), byte(gaussians.opacities * 255)]
        ),
    }
    meta: dict[str, Any] = {
        "means": {**bounds, "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scales.tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": colors.tolist(), "files": ["sh0.webp"]},
    }
    if gaussians.sh.shape[1] > 1:
        palette, labels, meta["shN"] = _higher(gaussians.sh[:, 1:])
        images |= {"shN_centroids.webp": palette, "shN_labels.webp": labels}
    return {name: pixels.astype(np.uint8) for name, pixels in images.items()}, meta


def _positions(
    means: Float32[np.ndarray, "n 3"],
) -> tuple[np.ndarray, dict[str, list[float]]]:
    """16-bit places between the bounds, both in sign(x) log(|x| + 1)."""
    logs = np.sign(means) * np.log1p(np.abs(means.astype(np.float64)))
    low, high = logs.min(axis=0), logs.max(axis=0)
    places = (logs - low) / np.where(high > low, high - low, 1)
    bounds = {"mins": low.tolist(), "maxs": high.tolist()}
    return np.rint(places * LEVELS16).astype(np.uint16), bounds


def _rotations(quaternions: Float32[np.ndarray, "n 4"]) -> UInt8[np.ndarray, "n 4"]:
    largest, rest = drop_largest(quaternions)
    tags = (FIRST_TAG + largest).astype(np.uint8)
    return np.column_stack([byte((rest / _ROOT2 + np.float32(0.5)) * 255), tags])


def _higher(
    rest: Float32[np.ndarray, "n k 3"],
) -> tuple[UInt8[np.ndarray, "h w 3"], np.ndarray, dict[str, Any]]:
    """The palette as an image, labels of two bytes, and their meta data."""
    count, coefficients = rest.shape[:2]
    size = min(64, 2 ** max(0, int(np.log2(max(count / 1024, 1))))) * 1024
    palette, labels = palette_of(rest.reshape(count, -1), min(size, count))
    table = table_of(palette)
    height = -(-len(palette) // ROW_OF_PALETTE)
    pixels = np.zeros((height * ROW_OF_PALETTE, coefficients, 3), np.uint8)
    pixels[: len(palette)] = nearest(palette, table).reshape(len(palette), coefficients, 3)
    meta = {
        "count": len(palette),
        "bands": {3: 1, 8: 2, 15: 3}[coefficients],
        "codebook": table.tolist(),
        "files": ["shN_centroids.webp", "shN_labels.webp"],
    }
    two_bytes = np.column_stack([labels & 255, labels >> 8, np.zeros_like(labels)])
    return pixels.reshape(height, ROW_OF_PALETTE * coefficients, 3), two_bytes, meta


def _webp(pixels: UInt8[np.ndarray, "..."], side: int) -> bytes:
    """A lossless image: rows of Gaussians become square, the palette is one already."""
    if pixels.ndim == 2:
        height = 4 * -(-len(pixels) // (4 * side))
        image = np.zeros((height * side, pixels.shape[1]), np.uint8)
        image[: len(pixels)] = pixels
        pixels = image.reshape(height, side, -1)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(
        stream, "WEBP", lossless=True, quality=EFFORT, method=2, exact=True
    )
    return stream.getvalue()
