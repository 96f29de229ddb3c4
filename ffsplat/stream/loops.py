"""Whether two views see one place: what a network says of their cameras, proven by colours."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from ffsplat.prediction import Prediction
from ffsplat.stream.map.compiled import lean
from ffsplat.stream.places import PlaceMemory, global_descriptor
from ffsplat.stream.sight import PosedViews, look, sample

__all__ = ["LoopEvidence", "PlaceMemory", "confirm_loop", "global_descriptor"]

OVERLAP = 0.3
"""Share of either view that must be seen by the other."""
AGREEMENT = 0.7
"""Share of what falls into the other view that must lie at the depth that is seen there."""
LIKENESS = 0.6
"""Correlation of grey values around the points of one view with where the other sees them."""
WINDOW = 10
"""Windows along the longer side of a view, in each of which grey values are correlated."""
FILLED = 0.6
"""Share of a window that must have been seen by both."""
CONTRAST = 0.02
"""Standard deviation of grey values, of 1, from which a window tells anything."""
EVIDENCE = 0.01
"""Share of a view that must be the middle of such windows."""


@dataclass(frozen=True)
class LoopEvidence:
    """What two views of one prediction say of each other; the least of both directions.

    `overlap` is the share of a view's pixels whose points the other sees at the same depth,
    `agreement` their share of those that fall inside, `likeness` the correlation of grey values
    there, in [-1, 1]. `ok` says that all are enough for a loop.
    """

    overlap: float
    agreement: float
    likeness: float

    @property
    def ok(self) -> bool:
        """Whether the two views show one place, with their cameras about where they are said."""
        return self.overlap >= OVERLAP and self.agreement >= AGREEMENT and self.likeness >= LIKENESS


def confirm_loop(
    prediction: Prediction,
    view_old: int,
    view_new: int,
    pixels: Float32[np.ndarray, "v h w 3"],
    valid: Bool[np.ndarray, "v h w"],
) -> LoopEvidence:
    """Whether two views of one prediction, on the CPU, see the same place.

    A network gives any two pictures some pose, at which their depths then agree; only what they
    look like can confirm it. Points of one view are looked at in the other, and grey values
    correlated in small windows, so that neither exposure nor a room's light walls and dark floor
    count. Views that show next to nothing have a likeness of 0.

    Measured with ffsplat-tiny on pairs of views, 784 of 8 procedural rooms and 447 of a real
    office: of 679 that see nothing in common none was let in, of 148 whose pose was off by more
    than 15 degrees or a third of the depth 4 were, and of those within 8 degrees and a fifth 83 %
    in rooms and 66 % in the office. The likeness of unrelated views is at most 0.56.
    """
    views = PosedViews.of(prediction, pixels, valid)
    pairs = [(view_old, view_new), (view_new, view_old)]
    overlaps, agreements, likenesses = [], [], []
    for source, target in pairs:
        sight = look(views, source, target)
        agreeing = int(sight.agrees.sum())
        overlaps.append(agreeing / max(1, int(views.usable[source].sum())))
        agreements.append(agreeing / max(1, int(sight.inside.sum())))
        there = sample(views.pixels[target], sight.x, sight.y)
        likenesses.append(likeness(views.pixels[source], there, sight.agrees))
    return LoopEvidence(min(overlaps), min(agreements), min(likenesses))


def likeness(
    colors: Float32[np.ndarray, "h w 3"],
    others: Float32[np.ndarray, "h w 3"],
    compared: Bool[np.ndarray, "h w"],
) -> float:
    """Mean correlation of grey values in windows, by contrast; 0 where hardly anything is shown."""
    one, other = _softened(_grey(colors)), _softened(_grey(others))
    seen = compared.astype(np.float32)
    size = max(3, max(seen.shape) // WINDOW | 1)
    share = _box_mean(seen, size)

    def mean(values: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
        return _box_mean(values * seen, size) / np.maximum(share, 1e-6)

    mean_one, mean_other = mean(one), mean(other)
    variances = [
        np.maximum(mean(v * v) - m * m, 0) for v, m in ((one, mean_one), (other, mean_other))
    ]
    covariance = mean(one * other) - mean_one * mean_other
    contrast = np.sqrt(np.maximum(*variances))
    used = compared & (share > FILLED) & (contrast > CONTRAST)
    if np.count_nonzero(used) < EVIDENCE * used.size:
        return 0.0
    # A picture that is plain where the other is not correlates with nothing.
    floor = 0.1 * CONTRAST**2
    spread = np.sqrt(np.maximum(variances[0], floor) * np.maximum(variances[1], floor))
    correlation = np.clip(covariance / spread, -1, 1)
    return float(np.average(correlation[used], weights=contrast[used]))


def _grey(colors: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """Luma of sRGB colours. Source: ITU-R BT.601."""
    return colors @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _softened(grey: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Blurred by about one pixel, which is how far off a match may be."""
    return _box_mean(_box_mean(grey, 3), 3)


def _box_mean(values: Float32[np.ndarray, "h w"], size: int) -> Float32[np.ndarray, "h w"]:
    """Means of the windows of size x size pixels (odd) around each pixel, as far as they go."""
    values = np.ascontiguousarray(values)
    across, means = np.empty(values.shape), np.empty(values.shape, np.float32)
    _average(values, size // 2, across, np.zeros(values.shape[1]), means)
    return means


@lean
def _average(values, reach, across, down, means):
    """Running sums, along rows to `across`, then along columns in `down`, which is zeros."""
    h, w = values.shape
    for i in range(h):
        total = 0.0
        for j in range(-reach, w):
            total += values[i, j + reach] if j + reach < w else 0
            total -= values[i, j - reach - 1] if j - reach - 1 >= 0 else 0
            if j >= 0:
                across[i, j] = total
    for i in range(-reach, h):
        rows = min(i + reach, h - 1) - max(i - reach, 0) + 1
        for j in range(w):
            down[j] += across[i + reach, j] if i + reach < h else 0
            down[j] -= across[i - reach - 1, j] if i - reach - 1 >= 0 else 0
            if i >= 0:
                columns = min(j + reach, w - 1) - max(j - reach, 0) + 1
                means[i, j] = down[j] / (rows * columns)
