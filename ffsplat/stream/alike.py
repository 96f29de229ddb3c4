"""How alike two views are where both see one surface.

A network gives any two pictures some pose, at which their depths then agree; only what they look
like can confirm it. Points of one view are looked at in the other, and grey values correlated in
small windows, so that neither exposure nor a room's light walls and dark floor count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffsplat.consistency import SAME_SURFACE
from ffsplat.stream.map.compiled import lean, pixel
from ffsplat.stream.map.meeting import is_within
from ffsplat.stream.sight import PosedViews, fall, into_pixels

WINDOW = 10
"""Windows along the longer side of a view, in each of which grey values are correlated."""
FILLED = 0.6
"""Share of a window that must have been seen by both."""
CONTRAST = 0.02
"""Standard deviation of grey values, of 1, from which a window tells anything."""
EVIDENCE = 0.01
"""Share of a view that must be the middle of such windows."""

SUMS = 6
"""Sums of a window: how many, both greys, their squares, their product."""


@dataclass(frozen=True)
class Resemblance:
    """What another view sees of the points of one.

    `inside` of its pixels fall into the other on some depth, `agreeing` of these at the depth that
    is seen there. `likeness` is the correlation of grey values where they agree, in [-1, 1], by
    contrast; 0 where hardly anything is shown.
    """

    inside: int
    agreeing: int
    likeness: float


def compare(views: PosedViews, source: int, targets: Sequence[int]) -> list[Resemblance]:
    """Look at the points of view `source` in each of some others.

    Grey values are first blurred by about one pixel, which is how far off a match may be.
    """
    grey, shape = views.grey, views.grey.shape[1:]
    there, spare = np.empty((2, *shape), np.float32)
    agrees, line = np.empty(shape, bool), np.empty((2, shape[1]), np.float32)
    near, sums = np.empty(shape[1]), np.empty((SUMS, shape[1]))
    own = grey[source].copy()
    _blur(own, spare)
    reach = max(3, max(shape) // WINDOW | 1) // 2
    maps = views.depth, views.depth_error, views.usable, grey, own
    return [
        Resemblance(
            *_resemble(*maps, source, target, into, reach, there, spare, agrees, line, near, sums)
        )
        for target, into in zip(targets, into_pixels(views, source, targets), strict=True)
    ]


@lean
def _resemble(
    depth, error, usable, grey, own, source, target, into, reach, there, spare, agrees, line, near,
    sums,
):  # fmt: skip
    """The values of a `Resemblance`; `own` is the source's grey, blurred, the rest room."""
    inside, agreeing = _look(
        depth, error, usable, source, target, into, grey[target], there, agrees, line[0], line[1],
        near,
    )  # fmt: skip
    _blur(there, spare)
    return inside, agreeing, _correlate(own, there, agrees, reach, sums)


@lean
def _look(depth, error, usable, source, target, into, grey, there, agrees, x, y, near):
    """Write what another view shows where points fall, and where it sees them; count both."""
    inside = agreeing = 0
    for row in range(len(there)):
        fall(depth[source], into, row, 0, 1, x, y, near)
        seen, same = _look_along(
            x, y, near, usable[source, row], error[source, row], depth[target], error[target],
            usable[target], grey, there[row], agrees[row],
        )  # fmt: skip
        inside, agreeing = inside + seen, agreeing + same
    return inside, agreeing


@lean
def _look_along(x, y, near, usable, error, theirs, their_error, usable_there, grey, there, agrees):
    """The same for the points of one row, which fall at `x`, `y`, `near` over their depth there."""
    h, w = theirs.shape
    inside = agreeing = 0
    for j in range(len(x)):
        agrees[j] = False
        if not (usable[j] and 0 <= x[j] < w and 0 <= y[j] < h):
            there[j] = grey[0, 0]
            continue
        there[j] = between(grey, x[j], y[j])
        row, column = pixel(y[j]), pixel(x[j])
        if usable_there[row, column]:
            tolerance = max(error[j] + their_error[row, column], np.float32(SAME_SURFACE))
            agrees[j] = is_within(np.float32(theirs[row, column] * near[j]), tolerance)
            inside += 1
            agreeing += agrees[j]
    return inside, agreeing


@lean
def between(grey, x, y):
    """The grey value at a place between pixels; outside, that of the border."""
    h, w = grey.shape
    across = min(max(x - np.float32(0.5), np.float32(0)), np.float32(w - 1))
    down = min(max(y - np.float32(0.5), np.float32(0)), np.float32(h - 1))
    row, column = pixel(min(down, np.float32(h - 2))), pixel(min(across, np.float32(w - 2)))
    below, right = row + pixel(1), column + pixel(1)
    across, down = across - np.float32(column), down - np.float32(row)
    upper = grey[row, column] + (grey[row, right] - grey[row, column]) * across
    lower = grey[below, column] + (grey[below, right] - grey[below, column]) * across
    return upper + (lower - upper) * down


@lean
def _blur(values, spare):
    for _ in range(2):
        _average_three(values, spare)


@lean
def _average_three(values, spare):
    """Replace each value by the mean of those around it, 3x3 as far as the picture goes."""
    h, w = values.shape
    for i in range(h):
        above, below = max(i - 1, 0), min(i + 1, h - 1)
        rows = np.float32(below - above + 1)
        for j in range(w):
            total = values[above, j] + values[below, j]
            spare[i, j] = (total + (values[i, j] if 0 < i < h - 1 else 0)) / rows
    third = np.float32(1 / 3)
    for i in range(h):
        for j in range(1, w - 1):
            values[i, j] = (spare[i, j - 1] + spare[i, j] + spare[i, j + 1]) * third
        values[i, 0] = (spare[i, 0] + spare[i, 1]) / 2
        values[i, w - 1] = (spare[i, w - 2] + spare[i, w - 1]) / 2


@lean
def _correlate(one, other, compared, reach, sums):
    """Mean correlation of windows around the pixels that are compared, by their contrast.

    A window goes `reach` pixels to all sides; `sums` is room for SUMS of each column.
    """
    h, w = one.shape
    sums[:] = 0
    total = weight = 0.0
    used = 0
    for i in range(-reach, h):
        if i + reach < h:
            add_row(sums, one[i + reach], other[i + reach], compared[i + reach], 1.0)
        if i > reach:
            add_row(sums, one[i - reach - 1], other[i - reach - 1], compared[i - reach - 1], -1.0)
        if i < 0:
            continue
        rows = min(i + reach, h - 1) - max(i - reach, 0) + 1
        more = add_windows(sums, compared[i], reach, rows)
        total, weight, used = total + more[0], weight + more[1], used + more[2]
    return total / weight if used > 0 and used >= EVIDENCE * h * w else 0.0


@lean
def add_windows(sums, compared, reach, rows):
    """The windows around one row of pixels: correlations by contrast, contrasts, their number."""
    w = len(compared)
    total = weight = 0.0
    used = 0
    window = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for j in range(-reach, w):
        if j + reach < w:
            window = moved_on(window, sums, j + reach, 1.0)
        if j > reach:
            window = moved_on(window, sums, j - reach - 1, -1.0)
        columns = min(j + reach, w - 1) - max(j - reach, 0) + 1
        if j >= 0 and compared[j] and window[0] > FILLED * rows * columns:
            contrast, correlation = correlation_of(window)
            if contrast > CONTRAST:
                total += contrast * correlation
                weight += contrast
                used += 1
    return total, weight, used


@lean
def moved_on(window, sums, column, sign):
    """The sums of a window with those of a column, or without them."""
    n, a, b, aa, bb, ab = window
    return (
        n + sign * sums[0, column],
        a + sign * sums[1, column],
        b + sign * sums[2, column],
        aa + sign * sums[3, column],
        bb + sign * sums[4, column],
        ab + sign * sums[5, column],
    )


@lean
def correlation_of(window):
    """The larger standard deviation of both greys, and their correlation, by sums of a window."""
    n, a, b, aa, bb, ab = window
    one, other = max(aa - a * a / n, 0.0), max(bb - b * b / n, 0.0)
    # A picture that is plain where the other is not correlates with nothing.
    least = 0.1 * CONTRAST**2 * n
    both = math.sqrt(max(one, least) * max(other, least))
    return math.sqrt(max(one, other) / n), min(max((ab - a * b / n) / both, -1.0), 1.0)


@lean
def add_row(sums, one, other, compared, sign):
    """Add a row of pixels to the sums of their columns, or take it away."""
    for j in range(len(one)):
        a, b = np.float64(one[j]), np.float64(other[j])
        share = sign if compared[j] else 0.0
        sums[0, j] += share
        sums[1, j] += share * a
        sums[2, j] += share * b
        sums[3, j] += share * a * a
        sums[4, j] += share * b * b
        sums[5, j] += share * a * b
