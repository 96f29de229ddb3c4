"""Poses that come with the frames: the world becomes the sender's, and scale no longer drifts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from ffsplat.alignment import DegenerateAlignment, Similarity, camera_similarity

ENOUGH = 3
"""Keyframes with given poses that the sender's world is found by."""

SPREAD = 0.1
"""Way between these, over the median depth, that tells the unit of length."""

BASELINE_ERROR = 1.0
"""Way, over the depth, at which baselines tell the scale of a window as well as depths do.

A window's way is a few tenths of the depth: scale is the mean of some ten windows. Measured with
ffsplat-tiny on the poses of two walks through rooms: the log of the scale of a keyframe is off by
0.21 from the mean of all where the two are even at a tenth of the depth, by 0.09 at half of it, by
0.05 here.
"""

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
    poses: Float64[np.ndarray, "v 4 4"], given: Float64[np.ndarray, "v 4 4"], middle: float
) -> Similarity | None:
    """The change of worlds that takes keyframes to the poses given for them, if they fix it.

    `middle` is the median depth in the unit of `poses`. Given poses that tell of another way than
    was seen fix nothing: whoever sends them may be lost.
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
    return moved if misfit <= MISFIT * _spread(given) else None


def window_scale(
    scale: float,
    found: Float[np.ndarray, "v 4 4"],
    given: Float[np.ndarray, "v 4 4"],
    middle: float,
) -> float:
    """The scale of a window by depths that the map knows (`scale`) and by given baselines.

    `found` are the poses in the window, `given` those of the same cameras in the world, `middle`
    the median depth in the window. Logarithms are weighed by their precision; baselines count for
    more the longer they are.
    """
    way = _spread(found)
    if len(found) < 2 or not way > 0:
        return scale
    ratio = _spread(given) / way
    if not LEAST <= ratio <= MOST:
        return scale
    part = 1 / (1 + (BASELINE_ERROR * middle / way) ** 2)
    return float(np.exp((1 - part) * np.log(scale) + part * np.log(ratio)))


def through(pose: Float[np.ndarray, "4 4"], to: Float[np.ndarray, "4 4"], scale: float):
    """The similarity of a scale that takes one camera pose exactly to another."""
    turn = to[:3, :3].astype(np.float64) @ pose[:3, :3].T.astype(np.float64)
    return Similarity(scale, turn, to[:3, 3] - scale * turn @ pose[:3, 3].astype(np.float64))


def _spread(poses: Sequence | np.ndarray) -> float:
    """Largest distance of a camera from the first."""
    centres = np.asarray(poses)[:, :3, 3]
    return float(np.linalg.norm(centres - centres[0], axis=1).max())
