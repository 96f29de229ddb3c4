"""How many Gaussians a page is given: few while its camera moves, all that it can bear at rest."""

from collections import deque
from statistics import median

import numpy as np
from jaxtyping import Float, Float32, Int

from ffsplat.types import Gaussians

MOVING_SECONDS = 0.25
"""For a trial picture of what is drawn while the camera moves. It waits for its sorting and comes
back over the network; the pictures of a motion do neither, and are several times as quick."""

REST_SECONDS = 1.0
"""For a trial picture of what is drawn at rest."""

FIRST = 100_000
"""Gaussians for a page of which nothing is known yet."""

FEWEST, FEWEST_AT_REST = 10_000, 50_000
"""Gaussians however slow a page is; at rest a picture rather takes longer than is a blur."""

STILL_SECONDS = 0.4
"""Without a message of its camera, a page is at rest."""

LONGEST_STILL = 2.0
"""The same for a page that takes longer for a picture: until it is drawn, no message comes."""

VIEW_COSINE = 0.5
"""Of the angle from the axis of a camera within which things are in view: 60 degrees."""

BESIDE = 0.1
"""Weight of what is beside the view, and may come into it while the camera turns."""

MAX_INFLATION = 16.0
"""Of the covariance of the Gaussians that stand for those left out."""

_KEPT = 32
"""Messages of one motion that count."""

_ENOUGH = 4
"""Messages of one motion from which their median says something."""


class Pace:
    """What a Gaussian costs the page that was tried last.

    `told` says how long a picture took in which so many Gaussians were drawn. Costs are linear in
    the number of Gaussians, which is what sorting and projecting them are. The messages of a
    camera say nothing of costs: a browser sends them while its pictures still queue.
    """

    def __init__(self) -> None:
        self.seconds_each: float | None = None

    def told(self, count: int, seconds: float) -> None:
        """Learn that a picture of `count` Gaussians took so long; small pictures say nothing."""
        if count >= FEWEST and seconds > 0:
            self.seconds_each = seconds / count

    def seconds(self, count: int) -> float:
        """How long a picture of so many Gaussians takes, 0 where that is not known."""
        return (self.seconds_each or 0.0) * count

    def budget(self, moving: bool) -> int:
        """How many Gaussians may be drawn."""
        if self.seconds_each is None:
            return FIRST
        seconds, fewest = (MOVING_SECONDS, FEWEST) if moving else (REST_SECONDS, FEWEST_AT_REST)
        return max(fewest, round(seconds / self.seconds_each))


class Motion:
    """Whether a camera moves, from the times (seconds) at which its messages came.

    A page that is slow sends them seldom: it is at rest after four times their median distance.
    """

    def __init__(self) -> None:
        self.is_moving = False
        self._last = self._picture = 0.0
        self._gaps: deque[float] = deque(maxlen=_KEPT)

    def note(self, now: float, picture: float = 0.0) -> bool:
        """A message came; True if with it a motion began. `picture`: seconds that one takes."""
        began = not self.is_moving
        if began:
            self._gaps.clear()
        else:
            self._gaps.append(now - self._last)
        self.is_moving, self._last, self._picture = True, now, picture
        return began

    @property
    def ends_at(self) -> float:
        """When the camera counts as at rest if no further message comes."""
        picture = min(self._picture, LONGEST_STILL)
        return self._last + max(STILL_SECONDS, picture, 4 * (self.seconds or 0.0))

    def rest(self, now: float) -> bool:
        """Whether a motion ends now."""
        if self.is_moving and now >= self.ends_at:
            self.is_moving = False
            return True
        return False

    @property
    def seconds(self) -> float | None:
        """The median time between two messages of this motion, None before there were enough."""
        return median(self._gaps) if len(self._gaps) >= _ENOUGH else None


def importance(
    gaussians: Gaussians, world_from_camera: Float[np.ndarray, "4 4"]
) -> Float32[np.ndarray, " n"]:
    """Opacity times projected area, up to a common factor; less for what is beside the view.

    The area is the product of the two largest scales over the squared distance.
    """
    eye, ahead = world_from_camera[:3, 3], world_from_camera[:3, 2]
    offsets = gaussians.means - eye.astype(np.float32)
    scales = gaussians.scales
    area = scales.prod(axis=1) / np.maximum(scales.min(axis=1), np.float32(1e-12))
    squares = np.einsum("ni,ni->n", offsets, offsets)
    seen = offsets @ ahead.astype(np.float32) >= VIEW_COSINE * np.sqrt(squares)
    # No nearer than its own size: what surrounds the eye hides nothing by being close.
    values = gaussians.presence * area / np.maximum(np.maximum(squares, area), np.float32(1e-12))
    return np.where(seen, values, np.float32(BESIDE) * values)


def sampled(values: Float32[np.ndarray, " n"], count: int) -> Int[np.ndarray, " kept"]:
    """`count` rows, rising, drawn by weight without replacement: the same at every call.

    So every surface keeps some of its Gaussians, where the largest alone would leave holes.
    Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006 (the key of a
    row is u^(1 / weight); here its logarithm).
    """
    if count >= len(values):
        return np.arange(len(values))
    logarithms = -np.random.default_rng(0).exponential(size=len(values)).astype(np.float32)
    keys = logarithms / np.maximum(values, np.float32(1e-30))
    return np.sort(np.argpartition(-keys, count - 1)[:count])


def inflation(shown: int, total: int) -> float:
    """The factor on covariances with which `shown` of `total` Gaussians cover as much."""
    return min(total / max(shown, 1), MAX_INFLATION)
