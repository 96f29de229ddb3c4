"""What has moved between views of one window: a person walking by, a door that opened.

A pixel of the new view is told by the old views that see its place. One that sees as far, or
farther, must know its colour somewhere around; where more views do not than do, something is there
that was not. What an old view cannot see, as another thing is before it, is not held against it.
The idea of free space as a witness is that of Merrell et al., "Real-Time Visibility-Based Fusion
of Depth Maps", ICCV 2007; that colours must lie between those around allows for cameras that are a
little off, as does the clipping of Karis, "High-quality temporal supersampling", SIGGRAPH 2014.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32

from ffsplat.consistency import FREE_SPACE
from ffsplat.prediction import Prediction
from ffsplat.stream.map.compiled import lean
from ffsplat.stream.sight import PosedViews, Sight, look

AROUND = 40
"""Part of the longer side of a view, in pixels to each side, that a colour may be off its place."""
TINT = 25
"""Difference of a channel, of 255, that light and sensor may make."""
WITNESS = 0.25
"""Share of what falls into an old view that must agree in depth with it to be told by it."""
SPOT = 16
"""Part of the longer side that a moving thing is wide at least."""
THINNED = 2
"""Pixels along both axes of which one is asked about: it stands for the others."""


@dataclass(frozen=True, eq=False)
class Moving:
    """Which pixels of a view have moved, of those that another view can see."""

    moving: Bool[np.ndarray, "h w"]
    seen: Bool[np.ndarray, "h w"]


def moving_pixels(
    prediction: Prediction,
    new_view: int,
    old_views: Sequence[int],
    pixels: Float32[np.ndarray, "v h w 3"],
    valid: Bool[np.ndarray, "v h w"],
) -> Bool[np.ndarray, "h w"]:
    """Pixels of a new view that show what no old view of its window saw at their place.

    `pixels` (sRGB) and `valid` are those of the views of the first set, on the CPU. Measured with
    ffsplat-tiny in windows of four, of places at rest: 0.6 % of the pixels of procedural rooms are
    called moving, 1 % of two real desks, 5 % of a street, 7 % of a real office; of a disc that is
    put into each picture of a room elsewhere, 75 % (median of 56).
    """
    return find_moving(PosedViews.of(prediction, pixels, valid), new_view, old_views).moving


def moving_share(
    prediction: Prediction,
    new_view: int,
    old_views: Sequence[int],
    pixels: Float32[np.ndarray, "v h w 3"],
    valid: Bool[np.ndarray, "v h w"],
) -> float:
    """Share of the pixels that old views can tell about which have moved; 0 if there are none."""
    told = find_moving(PosedViews.of(prediction, pixels, valid), new_view, old_views)
    return float(told.moving.sum() / max(1, told.seen.sum()))


def find_moving(views: PosedViews, new_view: int, old_views: Sequence[int]) -> Moving:
    """What the old views say of the pixels of the new one; every THINNED pixel is asked about."""
    h, w = views.depth.shape[1:]
    pixels = np.rint(255 * views.pixels)
    own = pixels[new_view, THINNED // 2 :: THINNED, THINNED // 2 :: THINNED]
    against, seen = np.zeros(own.shape[:2], np.int32), np.zeros(own.shape[:2], dtype=bool)
    reach = max(1, max(h, w) // AROUND)
    for old in old_views:
        sight = look(views, new_view, old, THINNED)
        if sight.agrees.sum() < max(1, WITNESS * sight.inside.sum()):
            continue
        # Light and exposure change alike for all that is the same.
        colors = own - _usual_change(own, pixels[old], sight)
        _ask(
            colors, pixels[old], sight.inside, sight.x, sight.y, sight.nearer, sight.tolerance,
            reach, against, seen,
        )  # fmt: skip
    moving = _majority(against > 0, max(3, max(own.shape) // SPOT | 1))
    return Moving(_whole(moving, (h, w)), _whole(seen, (h, w)))


def _usual_change(
    colors: Float32[np.ndarray, "y x 3"], image: Float32[np.ndarray, "h w 3"], sight: Sight
) -> Float32[np.ndarray, "3"]:
    """The median of each channel's change, of whole grey values, where both see one surface."""
    counts = np.zeros((3, 2 * 255 + 1), np.int64)
    _count_changes(colors, image, sight.agrees, sight.x, sight.y, counts)
    below = counts.cumsum(axis=1)
    number = below[0, -1]
    low, high = ((below <= rank).sum(axis=1) for rank in ((number - 1) // 2, number // 2))
    return ((low + high) / 2 - 255).astype(np.float32)


@lean
def _count_changes(colors, image, agrees, x, y, counts):
    """Count how often each channel changes by how much; no change is in the middle."""
    for i in range(agrees.shape[0]):
        for j in range(agrees.shape[1]):
            if agrees[i, j]:
                row, column = int(y[i, j]), int(x[i, j])
                for k in range(3):
                    counts[k, 255 + int(colors[i, j, k] - image[row, column, k])] += 1


@lean
def _ask(colors, image, inside, x, y, nearer, tolerance, reach, against, seen):
    """Add what one old view says of each pixel: 1 that it knows no such thing, -1 that it does."""
    for i in range(inside.shape[0]):
        for j in range(inside.shape[1]):
            if not inside[i, j] or nearer[i, j] <= -tolerance[i, j]:
                continue
            seen[i, j] = True
            # A point in free space is wrong anyway, in depth if it did not move.
            free = nearer[i, j] > max(tolerance[i, j], FREE_SPACE)
            row, column = int(y[i, j]), int(x[i, j])
            known = _is_around(colors, i, j, image, row, column, 1 if free else reach)
            against[i, j] += -1 if known else 1


@lean
def _is_around(colors, i, j, image, row, column, reach):
    """Whether a colour lies between those of an image within some pixels of a place."""
    h, w, _ = image.shape
    first, last = max(column - reach, 0), min(column + reach + 1, w)
    for k in range(3):
        least, most = colors[i, j, k] - TINT, colors[i, j, k] + TINT
        above = below = False
        for y in range(max(row - reach, 0), min(row + reach + 1, h)):
            for x in range(first, last):
                above |= image[y, x, k] > least
                below |= image[y, x, k] < most
            if above and below:
                break
        if not (above and below):
            return False
    return True


def _majority(marked: Bool[np.ndarray, "y x"], size: int) -> Bool[np.ndarray, "y x"]:
    """Marked pixels in whose window most pixels are marked: spots and lines are errors of depth."""
    given = torch.from_numpy(marked.astype(np.float32))[None, None]
    share = F.avg_pool2d(given, size, 1, size // 2, count_include_pad=False)[0, 0].numpy()
    return marked & (share > 0.5)


def _whole(thinned: Bool[np.ndarray, "y x"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """A thinned mask at its full size; what is left over is False."""
    whole = np.zeros(size, dtype=bool)
    blocks = thinned.repeat(THINNED, axis=0).repeat(THINNED, axis=1)[: size[0], : size[1]]
    whole[: blocks.shape[0], : blocks.shape[1]] = blocks
    return whole
