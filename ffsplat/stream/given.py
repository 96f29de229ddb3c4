"""Poses that come with the frames: the world becomes the sender's, and scale no longer drifts."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from ffsplat.alignment import DegenerateAlignment, Similarity, camera_similarity

ENOUGH = 3
"""Keyframes with given poses that the sender's world is found by."""

SPREAD = 0.1
"""Way between these, over the median depth, that tells the unit of length."""

UNKNOWN = 0.3
"""Error of the log of a map's scale when poses first tell where it lies."""

DRIFT = 0.05
"""The same of a window beside a map whose scale is known, at least: what it drifts by.

Measured by replays of windows of ffsplat-tiny, from walks through six rooms of the preview split at
every fourth frame: with parallax weighed so, and the views of a window grown together, the log of
the scale of a keyframe is off by 0.053, by 0.068 if past views stay, by 0.083 without parallax.
"""

BASELINE_ERROR = 0.05
"""Error of the log of a scale that a way as long as the depth tells; it grows as ways get shorter.

Poses of a network are fitted to its depths: what they say of scale is half of what these do.
"""

BELIEVED = 2.0
"""Standard deviations by which what is told may contradict the map before it counts less."""

RIGID = 1e-3
"""How far a given rotation may be from orthonormal."""

REACH = 1e7
"""How far from its origin a sender may be, in its unit: the Earth in metres fits in, and nothing
of the map comes near the bounds of what can be sent (PROTOCOL.md, section 6.2)."""

LEAST, MOST = 1e-4, 1e4
"""Scales between the world and a window that given poses may tell; others are mistakes."""

MISFIT = 0.3
"""Root mean square distance of cameras from where they are said to be, over the length of the way,
up to which the two are one way."""


def is_pose(pose: np.ndarray) -> bool:
    """Whether a matrix is rigid: a turn and a place within REACH."""
    if pose.shape != (4, 4) or not np.isfinite(pose).all() or np.abs(pose).max() > REACH:
        return False
    turn = pose[:3, :3]
    rigid = np.abs(turn @ turn.T - np.eye(3)).max() < RIGID and np.linalg.det(turn) > 0
    return bool(rigid and np.abs(pose[3] - [0, 0, 0, 1]).max() < RIGID)


def is_intrinsics(intrinsics: np.ndarray) -> bool:
    """Whether a matrix is that of a pinhole camera without skew."""
    if intrinsics.shape != (3, 3) or not np.isfinite(intrinsics).all():
        return False
    zeros = intrinsics[[0, 1, 2, 2], [1, 0, 0, 1]]
    return bool(min(intrinsics[0, 0], intrinsics[1, 1]) > 0 and not zeros.any())


def sender_from_map(
    poses: Float64[np.ndarray, "v 4 4"],
    given: Float64[np.ndarray, "v 4 4"],
    middle: float,
    proved: bool = True,
) -> Similarity | None:
    """The change of worlds that takes keyframes to the poses given for them, if they fix it.

    `middle` is the median depth in the unit of `poses`. Given poses that tell of another way than
    was seen fix nothing: whoever sends them may be lost. They do where the way is not `proved`.
    """
    if len(poses) < ENOUGH or _spread(poses) < SPREAD * middle:
        return None
    try:
        moved = camera_similarity(poses, given)
    except DegenerateAlignment:
        return None
    if not LEAST <= moved.scale <= MOST:
        return None
    apart = moved.points(poses[:, :3, 3]) - given[:, :3, 3]
    misfit = float(np.sqrt(np.square(apart).sum(1).mean()))
    return moved if misfit <= MISFIT * _spread(given) or not proved else None


class Told(NamedTuple):
    """What is told of a scale: its log, and the expected error of that."""

    log: float
    error: float


def by_baselines(
    found: Float[np.ndarray, "v 4 4"], given: Float[np.ndarray, "v 4 4"], middle: float
) -> Told | None:
    """The scale of a window by the way between its cameras, if there is any.

    `found` are the poses in the window, `given` those of the same cameras in the world, `middle`
    the median depth in the window.
    """
    way = _spread(found)
    if not way > 0 or not LEAST <= _spread(given) / way <= MOST:
        return None
    return Told(math.log(_spread(given) / way), BASELINE_ERROR * middle / way)


def weigh(scale: float, error: float, told: Told) -> tuple[float, float]:
    """A scale, the log of which has an `error`, and the error of it, once more is told of it.

    Both count by their precision (Kalman); what contradicts by more than BELIEVED counts less, as
    Cauchy has it. The error is never less than DRIFT.
    """
    off = told.log - math.log(scale)
    own, other = error**2, told.error**2
    other *= max(1.0, off**2 / (own + other) / BELIEVED**2)
    gain = own / (own + other)
    return scale * math.exp(gain * off), max(DRIFT, error * math.sqrt(1 - gain))


def through(pose: Float[np.ndarray, "4 4"], to: Float[np.ndarray, "4 4"], scale: float):
    """The similarity of a scale that takes one camera pose exactly to another."""
    turn = to[:3, :3].astype(np.float64) @ pose[:3, :3].T.astype(np.float64)
    return Similarity(scale, turn, to[:3, 3] - scale * turn @ pose[:3, 3].astype(np.float64))


def _spread(poses: Sequence | np.ndarray) -> float:
    """Largest distance of a camera from the first."""
    centres = np.asarray(poses)[:, :3, 3]
    return float(np.linalg.norm(centres - centres[0], axis=1).max())
