"""How alike two views are where both see one surface.

A network gives any two pictures some pose, at which their depths then agree; only what they look
like can confirm it. Points of one view are looked at in the other, and grey values correlated in
small windows, so that neither exposure nor a room's light walls and dark floor count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffsplat.stream.map.compiled import brief, lean, pixel
from ffsplat.stream.sight import SOME, THINNED, PosedViews

WINDOW = 10
"""Windows along the longer side of a view, in each of which grey values are correlated."""
FILLED = 0.6
"""Share of a window that must have been seen by both."""
CONTRAST = 0.02
"""Standard deviation of grey values, of 1, from which a window tells anything."""
EVIDENCE = 0.01
"""Share of a view that must be the middle of such windows."""

SIDE = np.float32(1 / THINNED)
"""Squares of grey values over pixels, along a side."""

SUMS = 6
"""Sums of a window: how many, both greys, their squares, their product."""


@dataclass(frozen=True)
class Resemblance:
    """What another view sees of the points of one, by every THINNED pixel.

    `usable` pixels have a depth, `inside` of these fall into the other on some depth, `agreeing` of
    these at the depth that is seen there. `likeness` is the correlation of grey values where they
    agree, in [-1, 1], by contrast; 0 where hardly anything is shown.
    """

    usable: int
    inside: int
    agreeing: int
    likeness: float


def compare(views: PosedViews, source: int, targets: Sequence[int]) -> list[Resemblance]:
    """Look at the points of view `source` in each of some others.

    Grey values are means of squares, linear in between: that blurs them by about one pixel, which
    is how far off a match may be.
    """
    asked = views.usable[source][SOME]
    usable, sums = int(np.count_nonzero(asked)), np.empty((SUMS, asked.shape[1]))
    own, there = np.empty((2, *asked.shape), np.float32)
    _sample_own(views.coarse[source], own)
    reach = max(3, max(own.shape) // WINDOW | 1) // 2
    return [
        Resemblance(
            usable,
            *_resemble(
                views.coarse[target], sight.inside, sight.agrees, sight.x, sight.y, own, reach,
                there, sums,
            ),
        )
        for target, sight in zip(targets, views.sights(source, targets), strict=True)
    ]  # fmt: skip


@brief
def _sample_own(grey, own):
    """Write what a view shows at every THINNED pixel; `grey` is of squares of them."""
    first = THINNED // 2 + 0.5
    for i in range(len(own)):
        for j in range(own.shape[1]):
            own[i, j] = between(
                grey, SIDE * np.float32(j * THINNED + first), SIDE * np.float32(i * THINNED + first)
            )


@brief
def _resemble(grey, inside, agrees, x, y, own, reach, there, sums):
    """The values of a `Resemblance` but the first; `own` is what the source shows itself."""
    seen = agreeing = 0
    for i in range(len(there)):
        for j in range(there.shape[1]):
            there[i, j] = between(grey, SIDE * x[i, j], SIDE * y[i, j])
            seen += inside[i, j]
            agreeing += agrees[i, j]
    return seen, agreeing, _correlate(own, there, agrees, reach, sums)


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
