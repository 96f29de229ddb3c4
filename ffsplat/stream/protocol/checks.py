"""What the values of a delta must be, whoever made it: nothing that a map cannot hold goes on."""

import numpy as np

from ffsplat.codebook import validate
from ffsplat.errors import SceneFileError
from ffsplat.stream.delta import FramePoses, MapDelta, SplatRows
from ffsplat.stream.protocol.errors import MALFORMED, ProtocolError
from ffsplat.types import NO_ID

UNIT = 1e-3
"""How far the length of a quaternion of a pose may be from 1."""

FAR = 1e9
"""How far from an origin anything is at most, in units of the submap or the world; submaps are at
most so much larger or smaller than the world. So nothing overflows in float32 later."""

MAX_PIXELS = 1e6
"""Pixels of a side of a picture, or of a focal length."""


def check_delta(delta: MapDelta) -> None:
    """Raise ProtocolError (4400) that names the first value that is not what PROTOCOL.md allows."""
    _require(delta.number >= 0 and delta.epoch >= 0, "a number or an epoch is negative")
    _check_splats(delta.splats)
    _check_frames(delta.frames)
    poses = delta.submap_poses
    scales = poses[:, 0]
    _require(bool(((scales >= 1 / FAR) & (scales <= FAR)).all()), "the scale of a submap cannot be")
    _check_poses(poses[:, 1:], "a submap")
    if delta.row_map is not None:
        _require(bool((delta.row_map >= NO_ID).all()), "an ID in row_map is below -1")
    if delta.codebook is not None:
        try:
            with np.errstate(all="ignore"):  # what overflows is not of length 1 either
                validate(delta.codebook)
        except SceneFileError as error:
            raise ProtocolError(MALFORMED, str(error)) from error


def _check_splats(splats: SplatRows) -> None:
    _require(bool((np.abs(splats.means) <= FAR).all()), "a mean is too far away or not finite")
    scales = splats.scales
    _require(bool(((scales >= 0) & np.isfinite(scales)).all()), "a scale is negative or not finite")
    _require(bool(splats.quaternions_wxyz.any(1).all()), "a quaternion is zero")
    _require(bool((splats.ids >= NO_ID).all()), "an ID is below -1")
    unused = splats.ids == NO_ID
    _require(not splats.weights[unused].any(), "an unused pair has a weight")
    _require(bool((splats.instances >= NO_ID).all()), "an instance is below -1")


def _check_frames(frames: FramePoses) -> None:
    _require(bool((frames.numbers >= 0).all()), "the number of a frame is negative")
    _check_poses(frames.poses, "a frame")
    intrinsics = frames.intrinsics
    _require(bool((np.abs(intrinsics) <= MAX_PIXELS).all()), "an intrinsic is too large")
    _require(
        bool((intrinsics[:, [0, 1, 4, 5]] > 0).all()), "a focal length or side is not positive"
    )
    _require(bool((frames.keyframes <= 1).all()), "a keyframe is neither 0 nor 1")


def _check_poses(poses: np.ndarray, what: str) -> None:
    """Rows of a unit quaternion and a translation."""
    _require(bool((np.abs(poses) <= FAR).all()), f"{what} is too far away or its pose not finite")
    apart = np.abs(np.linalg.norm(poses[:, :4], axis=1) - 1)
    _require(bool((apart <= UNIT).all()), f"the quaternion of {what} is not of length 1")


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ProtocolError(MALFORMED, problem)
