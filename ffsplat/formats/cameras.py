"""Cameras for files that need some, and poses in the forms that other tools have them in."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float64, Int32

from ffsplat.errors import UsageError
from ffsplat.types import Cameras, Scene


def cameras_of(scene: Scene) -> Cameras:
    """The cameras of a scene; UsageError where it has none."""
    if scene.cameras is None or not len(scene.cameras):
        raise UsageError(
            "the scene has no cameras, and this format is made of views",
            "give --cameras FILE, from ffsplat infer --cameras-out",
        )
    return scene.cameras


def scaled(cameras: Cameras, factor: float) -> Cameras:
    """The same cameras with images of another size; UsageError if nothing of one remains."""
    sizes = np.rint(cameras.sizes * factor).astype(np.int32) if factor > 0 else 0 * cameras.sizes
    if (sizes < 1).any():
        raise UsageError(f"views scaled by {factor} have no pixels")
    return resized(cameras, sizes)


def at_most(cameras: Cameras, longest: int) -> Cameras:
    """The same cameras, those with a longer side made smaller, shapes kept to a pixel."""
    factor = np.minimum(1, longest / cameras.sizes.max(axis=1, keepdims=True))
    return resized(cameras, np.maximum(1, np.rint(cameras.sizes * factor)).astype(np.int32))


def resized(cameras: Cameras, sizes: Int32[np.ndarray, "v 2"]) -> Cameras:
    """The same cameras with images of these (width, height), each side by its own factor."""
    intrinsics = cameras.intrinsics.copy()
    intrinsics[:, :2] *= (sizes / cameras.sizes)[..., None]
    return replace(cameras, intrinsics=intrinsics, sizes=sizes)


def camera_from_world(cameras: Cameras) -> Float64[np.ndarray, "v 4 4"]:
    """The inverse poses, by transposition."""
    poses = np.tile(np.eye(4), (len(cameras), 1, 1))
    rotation = cameras.world_from_camera[:, :3, :3].astype(np.float64).transpose(0, 2, 1)
    poses[:, :3, :3] = rotation
    poses[:, :3, 3] = -np.einsum("vij,vj->vi", rotation, cameras.world_from_camera[:, :3, 3])
    return poses


def quaternions_wxyz(rotations: Float[np.ndarray, "v 3 3"]) -> Float64[np.ndarray, "v 4"]:
    """Unit quaternions with w >= 0, of the rotations nearest to the given matrices.

    Source: Bar-Itzhack, "New method for extracting the quaternion from a rotation matrix", 2000:
    the eigenvector of the largest eigenvalue of a symmetric 4x4 matrix.
    """
    m = rotations.astype(np.float64)
    trace = np.trace(m, axis1=1, axis2=2)
    system = np.empty((len(m), 4, 4))
    system[:, 1:, 1:] = m + m.transpose(0, 2, 1) - trace[:, None, None] * np.eye(3)
    axis = np.stack([m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], 1)
    system[:, 0, 1:] = system[:, 1:, 0] = axis
    system[:, 0, 0] = trace
    found = np.linalg.eigh(system)[1][:, :, -1]
    return np.where(found[:, :1] < 0, -found, found)


def rotations(quaternions: Float[np.ndarray, "v 4"]) -> Float64[np.ndarray, "v 3 3"]:
    """Rotation matrices of quaternions (w, x, y, z) of any length but zero (Hamilton)."""
    unit = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    w, (x, y, z) = unit[:, 0, None, None], unit[:, 1:].T
    zero = np.zeros_like(x)
    cross = np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]]).transpose(2, 0, 1)
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross
