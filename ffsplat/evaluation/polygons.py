"""The pixels of a polygon, to the pixel those of OpenCV: published overlaps depend on them."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

MAX_CORNER = 1 << 20


def polygon_mask(
    outline: Float64[np.ndarray, "n 2"], size: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """What `cv2.fillPoly` fills of an image of (width, height): the inside and its outline.

    Corners (x, y) lose their fraction. Inside are the pixels whose row crosses an odd number of
    edges to their right. Where an outline leaves the image, OpenCV cuts its edges first, which
    shifts some by a pixel.
    """
    corners = np.trunc(outline).clip(-MAX_CORNER, MAX_CORNER).astype(np.int64)
    width, height = size
    mask = np.zeros((height, width + 1), bool)
    line = np.zeros((height, width), bool)
    for one, other in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        (x0, y0), (x1, y1) = sorted((tuple(one), tuple(other)), key=lambda corner: corner[1])
        rows = np.arange(max(y0, 0), min(y1, height))
        if len(rows):
            crossed = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
            # Each edge flips all that lies left of it; a running parity does so at once.
            mask[rows, 0] ^= True
            mask[rows, np.ceil(crossed).clip(0, width).astype(int)] ^= True
        x, y = _edge(one, other).T
        kept = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        line[y[kept], x[kept]] = True
    return np.logical_xor.accumulate(mask, axis=1)[:, :width] | line


def _edge(one: Int64[np.ndarray, "2"], other: Int64[np.ndarray, "2"]) -> Int64[np.ndarray, "n 2"]:
    """The pixels of a line, from left to right; of two as near, the one it comes from.

    Source: Bresenham, "Algorithm for computer control of a digital plotter", 1965.
    """
    start, end = (one, other) if one[0] <= other[0] else (other, one)
    way = end - start
    length, steep = int(np.abs(way).max()), abs(way[1]) > abs(way[0])
    steps = np.arange(length + 1)
    across = abs(way[0]) if steep else abs(way[1])
    minor = -((length - 2 * across * steps) // max(2 * length, 1))
    major, minor = steps * np.sign(way[int(steep)]), minor * np.sign(way[1 - int(steep)])
    pair = (minor, major) if steep else (major, minor)
    return start + np.stack(pair, axis=1)
