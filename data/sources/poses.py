"""Poses of strangers: what is wrong with one, and rotations from quaternions."""

import numpy as np
from jaxtyping import Float64

from ffsplat.errors import SceneFileError

ORTHONORMAL = 1e-2
"""Largest entry of R^T R - 1 that still passes for rounding: published poses keep few digits."""


def pose_fault(world_from_camera: Float64[np.ndarray, "4 4"]) -> str:
    """Why a 4x4 matrix is not the pose of a camera, in a few words; "" if it is one."""
    if not np.isfinite(world_from_camera).all():
        return "not finite"
    if np.abs(world_from_camera[3] - [0, 0, 0, 1]).max() > 1e-6:
        return "last row is not 0 0 0 1"
    rotation = world_from_camera[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > ORTHONORMAL:
        return "not rigid"
    return "mirrored (determinant -1)" if np.linalg.det(rotation) < 0 else ""


def rotation_wxyz(
    quaternion: Float64[np.ndarray, "4"], where: object
) -> Float64[np.ndarray, "3 3"]:
    """Rotation matrix of a quaternion (w, x, y, z) of any length but zero.

    Source: Hamilton's convention, as Eigen and COLMAP have it.
    """
    length = np.linalg.norm(quaternion)
    if not np.isfinite(length):
        return np.full((3, 3), np.nan)
    if length < 1e-9:
        raise SceneFileError(f"{where} has a quaternion of length 0")
    w, x, y, z = quaternion / length
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def rigid(
    rotation: Float64[np.ndarray, "3 3"], translation: Float64[np.ndarray, "3"]
) -> Float64[np.ndarray, "4 4"]:
    """A 4x4 transform of its rotation and translation."""
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = translation
    return transform


def inverse(transform: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """The inverse of a rigid transform, by transposition; NaN stays NaN."""
    rotation = transform[:3, :3].T
    return rigid(rotation, -rotation @ transform[:3, 3])


def nearest_rigid(world_from_camera: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """A pose of few digits with the rotation nearest to its own (in the Frobenius norm).

    Source: Higham, "Matrix nearness problems and applications", 1989, section 3.
    """
    left, _, right = np.linalg.svd(world_from_camera[:3, :3])
    return rigid(left @ right, world_from_camera[:3, 3])
