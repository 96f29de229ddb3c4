"""Whether a frame is worth a pass through the network: covered, blurred, repeated ones are not.

All is decided on a small grey picture, in less than a millisecond.
"""

from collections import deque
from collections.abc import Collection

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image

from ffsplat.stream.frame import Dropped
from ffsplat.stream.map.compiled import lean

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
        grey = _reduced(Image.fromarray(pixels).convert("L"), SIDE)
        cells = _averaged(grey, max(1, round(max(grey.shape) / CELLS)))
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
    ordered, last = np.sort(cells, axis=None), cells.size - 1
    share = NEARLY / 100
    most, least = np.interp([share * last, (1 - share) * last], np.arange(cells.size), ordered)
    if most < DARK or least > BURNT:
        return True
    axes = [picture for picture in (cells, cells.T) if len(picture) > 2]
    shown = [np.abs(axis[1:-1] - (axis[:-2] + axis[2:]) / 2) > STEP for axis in axes]
    return all(differs.mean() < PLAIN for differs in shown)


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


@lean
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


def _reduced(picture: Image.Image, side: int) -> Float32[np.ndarray, "h w"]:
    factor = max(1, max(picture.size) // side)
    return np.asarray(picture.reduce(factor), dtype=np.float32)


def _averaged(grey: Float32[np.ndarray, "h w"], factor: int) -> Float32[np.ndarray, "y x"]:
    """Means of whole cells; pixels that are left at the right and below are not looked at."""
    rows, columns = max(1, grey.shape[0] // factor), max(1, grey.shape[1] // factor)
    whole = grey[: rows * factor, : columns * factor]
    return whole.reshape(rows, whole.shape[0] // rows, columns, -1).mean((1, 3))
