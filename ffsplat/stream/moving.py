"""What has moved between views of one window: a person walking by, a door that opened.

A pixel of the new view is told by the old views that see its place. One that sees as far, or
farther, must know its colour somewhere around; where more views do not than do, something is there
that was not. What an old view cannot see, as another thing is before it, is not held against it.
The idea of free space as a witness is that of Merrell et al., "Real-Time Visibility-Based Fusion
of Depth Maps", ICCV 2007; that colours must lie between those around allows for cameras that are a
little off, as does the clipping of Karis, "High-quality temporal supersampling", SIGGRAPH 2014.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from ffsplat.consistency import FREE_SPACE
from ffsplat.stream.map.compiled import brief, lean
from ffsplat.stream.sight import SOME, THINNED, PosedViews, Sight

AROUND = 40
"""Part of the longer side of a view, in pixels to each side, that a colour may be off its place."""
TINT = 25
"""Difference of a channel, of 255, that light and sensor may make."""
WITNESS = 0.25
"""Share of what falls into an old view that must agree in depth with it to be told by it."""
SPOT = 16
"""Part of the longer side that a moving thing is wide at least."""


def find_moving(
    views: PosedViews, new_view: int, old_views: Sequence[int]
) -> Bool[np.ndarray, "h w"]:
    """Pixels of a new view that show what no old view of its window saw at their place.

    Every THINNED pixel is asked about. Measured with ffsplat-tiny in windows of four, of places at
    rest: 0.6 % of the pixels of procedural rooms are called moving, 1 % of two real desks, 5 % of a
    street, 7 % of a real office; of a disc that is put into each picture of a room elsewhere, 75 %
    (median of 56).
    """
    size = views.depth.shape[1:]
    own = views.colors[new_view][SOME]
    against = np.zeros(own.shape[:2], np.int32)
    reach = max(1, max(size) // AROUND)
    for old, sight in zip(old_views, views.sights(new_view, old_views), strict=True):
        agrees, image = sight.agrees, views.colors[old]
        if agrees.sum() < max(1, WITNESS * sight.inside.sum()):
            continue
        # Light and exposure change alike for all that is the same.
        colors = own - _usual_change(own, image, agrees, sight)
        near, wide = _bounds(image, 1), _bounds(image, reach)
        _ask(
            colors, near, wide, sight.inside, sight.x, sight.y, sight.nearer, sight.tolerance,
            against,
        )  # fmt: skip
    moving = np.empty(against.shape, bool)
    _majority(against > 0, max(3, max(moving.shape) // SPOT | 1) // 2, moving)
    return _whole(moving, size)


def _usual_change(
    colors: UInt8[np.ndarray, "y x 3"],
    image: UInt8[np.ndarray, "h w 3"],
    agrees: Bool[np.ndarray, "y x"],
    sight: Sight,
) -> Float32[np.ndarray, "3"]:
    """The median of each channel's change, of whole grey values, where both see one surface."""
    counts, found = np.zeros((3, 2 * 255 + 1), np.int64), np.empty(3, np.float32)
    _count_changes(colors, image, agrees, sight.x, sight.y, counts)
    _write_medians(counts, found)
    return found


@brief
def _count_changes(colors, image, agrees, x, y, counts):
    """Count how often each channel changes by how much; no change is in the middle."""
    for i in range(agrees.shape[0]):
        for j in range(agrees.shape[1]):
            if agrees[i, j]:
                row, column = int(y[i, j]), int(x[i, j])
                for k in range(3):
                    counts[k, 255 + int(colors[i, j, k]) - int(image[row, column, k])] += 1


@brief
def _write_medians(counts, found):
    """Write the median change of each channel, the mean of both in the middle."""
    for k in range(len(counts)):
        below = low = high = 0
        for step in range(counts.shape[1]):
            below += counts[k, step]
        number, below = below, 0
        for step in range(counts.shape[1]):
            below += counts[k, step]
            low += below <= (number - 1) // 2
            high += below <= number // 2
        found[k] = np.float32((low + high) / 2 - 255)


def _bounds(image: UInt8[np.ndarray, "h w 3"], reach: int) -> UInt8[np.ndarray, "2 h w 3"]:
    """The least and the most of each channel within some pixels to all sides."""
    flat = np.require(image, requirements=["C", "W"]).reshape(len(image), -1)
    bounds, line = np.empty((2, *flat.shape), np.uint8), np.empty((2, flat.shape[1]), np.uint8)
    _write_bounds(flat, reach, line, bounds)
    return bounds.reshape(2, *image.shape)


@brief
def _write_bounds(image, reach, line, bounds):
    """Rows above and below first, then what lies beside: loops along rows, many values at once."""
    h, w = image.shape
    for i in range(h):
        for j in range(w):
            line[0, j] = line[1, j] = image[i, j]
        for row in range(max(i - reach, 0), min(i + reach + 1, h)):
            _take_bounds(image[row], image[row], line[0], line[1])
        for j in range(w):
            bounds[0, i, j], bounds[1, i, j] = line[0, j], line[1, j]
        for step in range(3, min(3 * reach, w - 1) + 1, 3):
            least, most = bounds[0, i], bounds[1, i]
            _take_bounds(line[0, step:], line[1, step:], least, most)
            _take_bounds(line[0], line[1], least[step:], most[step:])


@lean
def _take_bounds(low, high, least, most):
    """Widen some bounds, as far as both are there."""
    for j in range(min(len(low), len(least))):
        least[j], most[j] = min(least[j], low[j]), max(most[j], high[j])


@brief
def _ask(colors, near_bounds, wide_bounds, inside, x, y, nearer, tolerance, against):
    """Add what one old view says of each pixel: 1 that it knows no such thing, -1 that it does."""
    for i in range(inside.shape[0]):
        for j in range(inside.shape[1]):
            if not inside[i, j] or nearer[i, j] <= -tolerance[i, j]:
                continue
            # A point in free space is wrong anyway, in depth if it did not move.
            free = nearer[i, j] > max(tolerance[i, j], FREE_SPACE)
            row, column = int(y[i, j]), int(x[i, j])
            known = is_between(colors, i, j, near_bounds if free else wide_bounds, row, column)
            against[i, j] += -1 if known else 1


@lean
def is_between(colors, i, j, bounds, row, column):
    """Whether a colour lies between those of an image around a place."""
    for k in range(3):
        least, most = math.floor(colors[i, j, k] - TINT), math.ceil(colors[i, j, k] + TINT)
        if not (bounds[1, row, column, k] > least and bounds[0, row, column, k] < most):
            return False
    return True


@brief
def _majority(marked, reach, most):
    """Marked pixels in whose window most pixels are marked: spots and lines are errors of depth."""
    h, w = marked.shape
    for i in range(h):
        for j in range(w):
            most[i, j] = marked[i, j]
            if not marked[i, j]:
                continue
            count = number = 0
            for y in range(max(i - reach, 0), min(i + reach + 1, h)):
                for x in range(max(j - reach, 0), min(j + reach + 1, w)):
                    number += 1
                    count += marked[y, x]
            most[i, j] = 2 * count > number


def _whole(thinned: Bool[np.ndarray, "y x"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """A thinned mask at its full size; what is left over is False."""
    whole = np.zeros(size, dtype=bool)
    blocks = thinned.repeat(THINNED, axis=0).repeat(THINNED, axis=1)[: size[0], : size[1]]
    whole[: blocks.shape[0], : blocks.shape[1]] = blocks
    return whole
