"""Pictures made smaller as Pillow makes them with its Lanczos filter, in a fifth of the time.

Columns first, then rows, each pixel a sum by whole weights that is rounded to 8 bits; both passes
go along memory, the first one on the turned picture. Source: Pillow, libImaging/Resample.c.
"""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Int32, Int64, UInt8
from PIL import Image

from ffsplat.stream.map.compiled import lean

LOBES = 3
"""Half the width of the filter, in pixels of the smaller picture."""

BITS = 22
"""Bits after the point of a weight: what 32 leave beside 8 of a pixel and 2 of overflow."""


GAP = 2.0
"""Times the new size that a picture keeps when a cheap filter reduces it first."""


def resized(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "y x 3"]:
    """A picture at another size (width, height), bit by bit as Pillow makes it."""
    if image.shape[1::-1] == size:
        return image
    return (lanczos if is_pillows(image.shape[1::-1], size) else _by_pillow)(image, size)


@lru_cache(16)
def is_pillows(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether `lanczos` does what Pillow does from one size (width, height) to another.

    Of some shapes Pillow, depending on its version, sums the rows first, and it reduces those that
    are much larger than needed; a picture of noise tells.
    """
    if max(before[0] / after[0], before[1] / after[1]) >= 2 * GAP:
        return False
    noise = np.random.default_rng(0).integers(0, 256, (before[1], before[0], 3), np.uint8)
    return bool((lanczos(noise, after) == _by_pillow(noise, after)).all())


def _by_pillow(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, None, GAP))


def lanczos(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "y x 3"]:
    """A picture at another size (width, height) by the filter, columns first."""
    (height, width), (across, down) = image.shape[:2], size
    turned, line = np.empty((width, 3 * height), np.uint8), np.empty(3 * height, np.int32)
    between, row = np.empty((height, 3 * across), np.uint8), np.empty(3 * across, np.int32)
    found = np.empty((down, 3 * across), np.uint8)
    _turn(np.require(image, requirements=["C", "W"]), turned)
    _sum_columns(turned, *weights(width, across), line, between)
    _sum_rows(between, *weights(height, down), row, found)
    return found.reshape(down, across, 3)


@lru_cache(16)
def weights(
    before: int, after: int
) -> tuple[Int64[np.ndarray, " after"], Int64[np.ndarray, " after"], Int32[np.ndarray, "after t"]]:
    """For each pixel along one axis: the first old one that counts, how many do, and how much."""
    scale = before / after
    stretch = max(1.0, scale)
    reach = LOBES * stretch
    first, count = np.zeros(after, np.int64), np.zeros(after, np.int64)
    found = np.zeros((after, 2 * math.ceil(reach) + 1), np.int32)
    for pixel in range(after):
        center = (pixel + 0.5) * scale
        start, end = max(0, int(center - reach + 0.5)), min(before, int(center + reach + 0.5))
        shares = [_lanczos((old - center + 0.5) * (1 / stretch)) for old in range(start, end)]
        total = 0.0
        for share in shares:
            total += share
        first[pixel], count[pixel] = start, end - start
        for tap, share in enumerate(shares):
            whole = share / total * (1 << BITS)
            found[pixel, tap] = int(whole - 0.5 if whole < 0 else whole + 0.5)
    return first, count, found


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / LOBES) if -LOBES <= x < LOBES else 0.0


def _sinc(x: float) -> float:
    return math.sin(x * math.pi) / (x * math.pi) if x else 1.0


@lean
def _turn(image, turned):
    """Write a picture with its columns as rows."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for k in range(3):
                turned[x, 3 * y + k] = image[y, x, k]


@lean
def _sum_columns(turned, first, count, shares, line, between):
    """Make a turned picture narrower, and turn it back."""
    for x in range(len(first)):
        _sum(turned, first[x], count[x], shares[x], line)
        for y in range(len(between)):
            for k in range(3):
                between[y, 3 * x + k] = _rounded(line[3 * y + k])


@lean
def _sum_rows(between, first, count, shares, row, found):
    for y in range(len(first)):
        _sum(between, first[y], count[y], shares[y], row)
        for j in range(len(row)):
            found[y, j] = _rounded(row[j])


@lean
def _sum(rows, first, count, shares, total):
    """Add up some rows by their shares; a half is there from the start, for rounding."""
    for j in range(len(total)):
        total[j] = 1 << (BITS - 1)
    for tap in range(count):
        share = shares[tap]
        for j in range(len(total)):
            total[j] += share * np.int32(rows[first + tap, j])


@lean
def _rounded(value):
    return np.uint8(min(max(value >> BITS, 0), 255))
