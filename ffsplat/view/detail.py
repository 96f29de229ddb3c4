"""How many Gaussians a page is given: few while its camera moves, all that it can bear at rest."""

from collections import deque
from statistics import median

import numpy as np
from jaxtyping import Float, Float32, Int

from ffsplat.types import Gaussians

MOVING_SECONDS = 0.1
"""For one picture while the camera moves: slower is no motion any more."""

REST_SECONDS = 1.0
"""For one picture at rest."""

FIRST = 100_000
"""Gaussians for a page of which nothing is known yet."""

FEWEST = 10_000
"""Gaussians however slow a page is."""

STILL_SECONDS = 0.4
"""Without a message of its camera, a page is at rest."""

MAX_INFLATION = 4.0
"""Of the covariance of the Gaussians that stand for those left out."""

_KEPT = 32
"""Pictures of one motion whose time counts."""

_ENOUGH = 4
"""Pictures of one motion from which its median says something."""


class Pace:
    """What a Gaussian costs the slowest page, learnt from pictures that it drew.

    `told` says how long pictures took in which so many Gaussians were drawn. Costs are linear in
    the number of Gaussians, which is what sorting and projecting them are.
    """

    def __init__(self) -> None:
        self.seconds_each: float | None = None

    def told(self, count: int, seconds: float) -> None:
        """Learn that a picture of `count` Gaussians took so long; small pictures say nothing."""
        if count >= FEWEST and seconds > 0:
            self.seconds_each = seconds / count

    def budget(self, moving: bool) -> int:
        """How many Gaussians may be drawn."""
        if self.seconds_each is None:
            return FIRST
        seconds = MOVING_SECONDS if moving else REST_SECONDS
        return max(FEWEST, round(seconds / self.seconds_each))


class Motion:
    """Whether a camera moves, from the times (seconds) at which its messages came.

    A page sends one with each picture while its camera moves, so the median time between two is
    the time of a picture. A slow page is given four of these before it counts as at rest.
    """

    def __init__(self) -> None:
        self.is_moving = False
        self._last = 0.0
        self._gaps: deque[float] = deque(maxlen=_KEPT)

    def note(self, now: float) -> bool:
        """A message came; True if with it a motion began."""
        began = not self.is_moving
        if began:
            self._gaps.clear()
        else:
            self._gaps.append(now - self._last)
        self.is_moving, self._last = True, now
        return began

    @property
    def ends_at(self) -> float:
        """When the camera counts as at rest if no further message comes."""
        return self._last + max(STILL_SECONDS, 4 * (self.seconds or 0.0))

    def rest(self, now: float) -> bool:
        """Whether a motion ends now."""
        if self.is_moving and now >= self.ends_at:
            self.is_moving = False
            return True
        return False

    @property
    def seconds(self) -> float | None:
        """The median time of a picture in this motion, None before there were enough."""
        return median(self._gaps) if len(self._gaps) >= _ENOUGH else None


def importance(gaussians: Gaussians, eye: Float[np.ndarray, "3"]) -> Float32[np.ndarray, " n"]:
    """Opacity times projected area from `eye`, up to a common factor.

    The area is the product of the two largest scales over the squared distance.
    """
    offsets = gaussians.means - np.asarray(eye, np.float32)
    scales = gaussians.scales
    area = scales.prod(axis=1) / np.maximum(scales.min(axis=1), np.float32(1e-12))
    # No nearer than its own size: what surrounds the eye hides nothing by being close.
    squares = np.maximum(np.einsum("ni,ni->n", offsets, offsets), area)
    return gaussians.presence * area / np.maximum(squares, np.float32(1e-12))


def most_important(values: Float32[np.ndarray, " n"], count: int) -> Int[np.ndarray, " kept"]:
    """The rows of the `count` largest values, rising."""
    if count >= len(values):
        return np.arange(len(values))
    return np.sort(np.argpartition(-values, count - 1)[:count])


def inflation(shown: int, total: int) -> float:
    """The factor on covariances with which `shown` of `total` Gaussians cover as much."""
    return min(total / max(shown, 1), MAX_INFLATION)
