"""Axes and names of frames in ROS, and how a map's world lies in them.

A body has x forward, y left, z up. An optical frame has x right, y down, z forward, which are the
axes of our cameras (source: REP-103, "Axis Orientation" and "Suffix Frames"). Frames hang together
as map -> odom -> base_link (source: REP-105). ROS writes quaternions as (x, y, z, w).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64

from ffsplat.geometry import matrix_from_quaternion, quaternion_from_matrix

BODY_FROM_OPTICAL = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
"""Forward is the optical z, left is minus its x, up is minus its y."""

MAP_FROM_WORLD = BODY_FROM_OPTICAL
"""A map's world has the axes of its first camera, so `map` is what that camera calls forward, left
and up: level with the ground only as far as the camera was. A map whose world is the robot's own,
because its frames came with poses, lies in it as it is: `np.eye(4)` takes the place of this."""


@dataclass(frozen=True)
class FrameNames:
    """Names of the frames that are written.

    The camera's are our own by default: a robot has a tree of frames already, and in tf a frame
    has one parent only.
    """

    map: str = "map"
    odom: str = "odom"
    optical: str = "ffsplat_camera_optical_frame"
    body: str = "ffsplat_camera_link"


def quaternions_of(rotations: Float[np.ndarray, "n 3 3"]) -> Float64[np.ndarray, "n 4"]:
    """Unit quaternions (x, y, z, w) of rotation matrices; w is never negative."""
    wxyz = quaternion_from_matrix(torch.from_numpy(rotations.astype(np.float64))).numpy()
    return np.roll(np.where(wxyz[:, :1] < 0, -wxyz, wxyz), -1, axis=1)


def rotations_of(quaternions_xyzw: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n 3 3"]:
    """Rotation matrices of unit quaternions (x, y, z, w)."""
    wxyz = np.ascontiguousarray(np.roll(quaternions_xyzw, 1, axis=1))
    return matrix_from_quaternion(torch.from_numpy(wxyz)).numpy()


def slerp(
    first: Float64[np.ndarray, "4"], second: Float64[np.ndarray, "4"], share: float
) -> Float64[np.ndarray, "4"]:
    """The unit quaternion that lies `share` of the shorter way from one to another.

    Source: Shoemake, "Animating rotation with quaternion curves", 1985.
    """
    cosine = float(first @ second)
    if cosine < 0:
        second, cosine = -second, -cosine
    if cosine > 1 - 1e-10:
        mixed = (1 - share) * first + share * second
    else:
        angle = np.arccos(cosine)
        mixed = np.sin((1 - share) * angle) * first + np.sin(share * angle) * second
    return mixed / np.linalg.norm(mixed)


def correction(
    map_from_camera: Float64[np.ndarray, "4 4"], odom_from_camera: Float64[np.ndarray, "4 4"]
) -> Float64[np.ndarray, "4 4"]:
    """map_from_odom of a camera that stands in both: what a localizer publishes in REP-105."""
    return map_from_camera @ np.linalg.inv(odom_from_camera)
