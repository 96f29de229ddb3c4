"""Whether a frame is worth a pass through the network: covered, blurred, repeated ones are not.

All is decided on a small grey picture, in less than a millisecond.
"""

from collections import deque
from collections.abc import Collection

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from ffsplat.stream.frame import Dropped
from ffsplat.stream.map.compiled import brief

SIDE = 128
"""Pixels of the longer side of the small picture: at least this, and less than twice as many."""
CELLS = 16
"""Cells along the longer side in which noise is averaged out."""

DARK, BURNT = 12, 246
"""Grey values (of 255) below or above which a picture shows nothing, nearly everywhere."""
STEP = 3.0
"""Grey values by which a cell differs from the mean of those beside it if there is something."""
PLAIN = 0.02
"""Share of the cells that must do so."""
NEARLY = 98
"""Percentage that "nearly everywhere" is."""

FAR = 4
"""Distance, in pixels, that the coarse structure of a picture is measured at."""
SOFT = 0.5
"""Sharpness of a blurred picture over the running median.

Measured on 791 real frames of 128 to 160 pixels: a Gaussian blur of 2 pixels leaves less than this
of all of them. Three have less as they are, which motion blurs indeed, and so have 4 of 320
pictures of procedural rooms, which show little but a wall.
"""
MEMORY = 15
"""Frames that the running median is taken of."""
ENOUGH = 5
"""Frames that must be there to take it."""

STILL = 0.7
"""Root mean square change of the cells, in grey values, up to which a picture is the same again."""


class FrameCheck:
    """Judges the frames of one camera in order; it holds few numbers and one picture of cells."""

    def __init__(self):
        self._sharpness: deque[np.ndarray] = deque(maxlen=MEMORY)
        self._last: Float32[np.ndarray, "y x"] | None = None

    def judge(self, pixels: UInt8[np.ndarray, "h w 3"]) -> Dropped | None:
        """Why a frame should be left out: "covered", "repeated" or "blurred"; None to use it.

        A frame is covered if it is dark, burnt out or plain nearly everywhere, repeated if it shows
        the same as the last frame that was used, and blurred if it is much less sharp than the
        median of the frames before, blurred ones among them: a camera that stays soft is used again
        after half of MEMORY frames.
        """
        grey = greys(pixels, max(1, max(pixels.shape[:2]) // SIDE))
        cells = cell_means(grey, max(1, round(max(grey.shape) / CELLS)))
        if min(grey.shape) <= FAR or is_covered(cells):
            return "covered"
        if self._last is not None and _alike(cells, self._last):
            return "repeated"
        sharp = sharpness(grey)
        usual = _medians(self._sharpness) if len(self._sharpness) >= ENOUGH else sharp
        self._sharpness.append(sharp)
        # Motion blurs along one direction: the less sharp one counts.
        if (sharp < SOFT * usual).any():
            return "blurred"
        self._last = cells
        return None


def is_covered(cells: Float32[np.ndarray, "y x"]) -> bool:
    """Whether a picture, of means of cells in grey values, is dark, burnt out or plain.

    Shading that is even, as of a finger on the lens, is plain too.
    """
    ordered, share = np.sort(cells, axis=None), NEARLY / 100
    if _quantile(ordered, share) < DARK or _quantile(ordered, 1 - share) > BURNT:
        return True
    h, w = cells.shape
    asked = (h - 2) * w, h * (w - 2)
    pairs = zip(_differing(cells), asked, strict=True)
    return all(differing < PLAIN * number for differing, number in pairs if number > 0)


def _quantile(ordered: Float32[np.ndarray, " n"], share: float) -> float:
    """The value below which a share of some values lies, linear between them."""
    place = share * (len(ordered) - 1)
    lower = int(place)
    upper = min(lower + 1, len(ordered) - 1)
    return float(ordered[lower] + (place - lower) * (ordered[upper] - ordered[lower]))


def _alike(one: Float32[np.ndarray, "y x"], other: Float32[np.ndarray, "t u"]) -> bool:
    """Whether two pictures, of means of cells, have the same size and show the same."""
    return one.shape == other.shape and bool(np.sqrt(np.square(one - other).mean()) < STILL)


def sharpness(grey: Float32[np.ndarray, "h w"]) -> Float64[np.ndarray, "2"]:
    """Mean squared difference of neighbours over that of pixels FAR apart, down and across.

    What a picture shows, and its contrast, act on both alike. For a step the ratio is 1 / FAR, for
    a ramp its square; blur turns the former into the latter. The idea to compare a picture with a
    coarser one is that of Crete et al., "The blur effect", SPIE 6492, 2007.
    """
    h, w = grey.shape
    near_down, far_down, near_across, far_across = _add_differences(grey)
    down = near_down / ((h - 1) * w) / (far_down / ((h - FAR) * w) + 1)
    across = near_across / (h * (w - 1)) / (far_across / (h * (w - FAR)) + 1)
    return np.array([down, across])  # 1 is the square of one grey value


@brief
def _add_differences(grey):
    """Sums of squared differences of neighbours and of pixels FAR apart, down, then across."""
    h, w = grey.shape
    near_down = far_down = near_across = far_across = 0.0
    for i in range(h):
        for j in range(w):
            here = grey[i, j]
            if i + 1 < h:
                near_down += (grey[i + 1, j] - here) ** 2
            if i + FAR < h:
                far_down += (grey[i + FAR, j] - here) ** 2
            if j + 1 < w:
                near_across += (grey[i, j + 1] - here) ** 2
            if j + FAR < w:
                far_across += (grey[i, j + FAR] - here) ** 2
    return near_down, far_down, near_across, far_across


def _medians(rows: Collection[Float64[np.ndarray, " n"]]) -> Float64[np.ndarray, " n"]:
    ordered, last = np.sort(np.array(rows), axis=0), len(rows) - 1
    return (ordered[last // 2] + ordered[(last + 1) // 2]) / 2


def greys(pixels: UInt8[np.ndarray, "h w 3"], factor: int) -> Float32[np.ndarray, "y x"]:
    """Mean luma, in grey values, of whole squares of so many pixels a side. Source: ITU-R BT.601.

    Luma is rounded to 8 bits first.
    """
    grey = np.empty(pixels.shape[:2], np.float32)
    _write_luma(pixels.reshape(-1, 3), grey.reshape(-1))
    return grey if factor == 1 else cell_means(grey, factor)


def cell_means(grey: Float32[np.ndarray, "h w"], factor: int) -> Float32[np.ndarray, "y x"]:
    """Means of whole cells; pixels that are left at the right and below are not looked at."""
    down, across = (min(factor, side) for side in grey.shape)
    cells = np.empty((grey.shape[0] // down, grey.shape[1] // across), np.float32)
    _write_means(grey, down, across, cells)
    return cells


@brief
def _write_luma(pixels, grey):
    """Luma as Pillow has it: by weights of 16 bits, rounded."""
    for i in range(len(grey)):
        red, green, blue = np.int32(pixels[i, 0]), np.int32(pixels[i, 1]), np.int32(pixels[i, 2])
        luma = np.int32(19595) * red + np.int32(38470) * green + np.int32(7471) * blue
        grey[i] = np.float32((luma + np.int32(32768)) >> np.int32(16))


@brief
def _write_means(grey, down, across, cells):
    for i in range(cells.shape[0]):
        for j in range(cells.shape[1]):
            total = 0.0
            for y in range(i * down, i * down + down):
                for x in range(j * across, j * across + across):
                    total += grey[y, x]
            cells[i, j] = total / (down * across)


@brief
def _differing(cells):
    """How many cells differ by more than STEP from the mean of both beside them: down, across."""
    h, w = cells.shape
    down = across = 0
    for i in range(h):
        for j in range(w):
            if 0 < i < h - 1:
                down += abs(cells[i, j] - (cells[i - 1, j] + cells[i + 1, j]) / 2) > STEP
            if 0 < j < w - 1:
                across += abs(cells[i, j] - (cells[i, j - 1] + cells[i, j + 1]) / 2) > STEP
    return down, across
