"""From a grid of features to the pixels: where a cell lies, and which cell a pixel belongs to."""

from itertools import product

import numpy as np
from jaxtyping import Bool, Float32, Int16, Int64

from ffsplat.types import NO_ID

COLOR_SPREAD = 0.15
"""Standard deviation, in sRGB, of colours that count as one surface."""

TINY = np.float32(1e-30)
"""Weight that a cell keeps however far it is: one of four must be the nearest."""


def centres(count: int, cells: int) -> Int64[np.ndarray, " cells"]:
    """The pixel in the middle of each cell, along an axis of `count` pixels cut into `cells`."""
    return ((2 * np.arange(cells) + 1) * count // (2 * cells)).astype(np.int64)


def at_centres(image: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """What an image (v, h, w, ...) shows in the middle of each cell: (v, y, x, ...)."""
    rows, columns = centres(image.shape[1], grid[0]), centres(image.shape[2], grid[1])
    return image[:, rows[:, None], columns]


def spacing(points: Float32[np.ndarray, "v y x 3"], used: Bool[np.ndarray, "v y x"]) -> float:
    """Median distance of points that lie side by side in a view, in world units; 1 without any."""
    gaps = []
    for axis in (1, 2):
        both = np.logical_and(*_sides(used, axis))
        gaps.append(np.linalg.norm(np.subtract(*_sides(points, axis))[both], axis=-1))
    gaps = np.concatenate(gaps)
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if len(gaps) else 1.0


def _sides(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """All but the last and all but the first along an axis."""
    count = values.shape[axis]
    return values.take(range(count - 1), axis), values.take(range(1, count), axis)


def upsample(
    ids: Int16[np.ndarray, "v y x"],
    points: Float32[np.ndarray, "v h w 3"],
    gap: float,
    colors: Float32[np.ndarray, "v h w 3"] | None = None,
) -> tuple[Int16[np.ndarray, "v h w"], Float32[np.ndarray, "v h w"]]:
    """The row of each pixel and its share of the votes of the four cells around the pixel.

    A cell votes with its bilinear weight, less for a centre that lies far from the pixel in space
    (standard deviation `gap`, in the unit of `points`) and, given `colors`, in colour: edges of
    depth and of colour cut. Cells of -1 abstain; a pixel without a vote has -1 and 0. Source: joint
    bilateral upsampling, Kopf et al., SIGGRAPH 2007.
    """
    grid = ids.shape[1], ids.shape[2]
    place = points / np.float32(gap)
    if colors is not None:
        place = np.concatenate([place, colors / np.float32(COLOR_SPREAD)], axis=-1)
    best = np.empty(points.shape[:3], np.int16)
    share = np.empty(points.shape[:3], np.float32)
    middle = at_centres(place, grid)
    for view, rows in enumerate(ids):
        best[view], share[view] = _most_votes(rows, place[view], middle[view])
    return best, share


def _most_votes(
    ids: Int16[np.ndarray, "y x"],
    place: Float32[np.ndarray, "h w c"],
    middle: Float32[np.ndarray, "y x c"],
) -> tuple[Int16[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """`upsample` of one view; places are in standard deviations."""
    height, width = place.shape[:2]
    votes, weights = [], []
    for (y, down), (x, across) in product(_taps(height, len(ids)), _taps(width, ids.shape[1])):
        cell = y[:, None], x
        distance = np.square(place - middle[cell]).sum(axis=-1)
        weight = down[:, None] * across * np.exp(np.maximum(-distance / 2, np.float32(-60)))
        votes.append(ids[cell])
        weights.append(np.where(votes[-1] == NO_ID, np.float32(0), weight + TINY))
    best, most = votes[0], np.zeros((height, width), np.float32)
    for vote in votes:
        agreeing = np.zeros_like(most)
        for other, weight in zip(votes, weights, strict=True):
            agreeing += weight * (other == vote)
        better = agreeing > most
        best, most = np.where(better, vote, best), np.where(better, agreeing, most)
    share = most / np.maximum(sum(weights), TINY)
    return np.where(most > 0, best, np.int16(NO_ID)), share


def _taps(
    count: int, cells: int
) -> list[tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]]:
    """Both neighbouring cells of each pixel along an axis, with their linear weights."""
    place = (np.arange(count) + 0.5) * cells / count - 0.5
    low = np.floor(place).astype(np.int64)
    upper = (place - low).astype(np.float32)
    last = cells - 1
    return [(np.clip(low, 0, last), 1 - upper), (np.clip(low + 1, 0, last), upper)]
