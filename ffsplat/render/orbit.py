"""Camera paths that show a scene: a small loop where it was seen from, or a ring around it."""

import numpy as np
from jaxtyping import Float, Float32

from ffsplat.errors import UsageError
from ffsplat.types import Cameras, Scene

_SWAY = 0.12  # radius of the loop over the distance to the target
_ELEVATION = 20.0  # degrees that the ring looks down


def orbit(scene: Scene, frames: int, size: tuple[int, int], fov: float = 60.0) -> Cameras:
    """A closed, smooth path of `frames` cameras of `size` (width, height).

    `fov` is the horizontal field of view in degrees. A scene with cameras is seen from a small
    loop around their mean place, looking at its median point: the side that the photos show. One
    without is circled at the distance from which its bounding box fits, looking down a little;
    up is -y. Raises UsageError for no frames, no pixels, or a field of view outside (0, 180).
    """
    width, height = size
    if frames < 1 or width < 1 or height < 1 or not 0 < fov < 180:
        raise UsageError(f"no orbit of {frames} frames of {width} x {height} pixels, {fov} degrees")
    focal = width / 2 / np.tan(np.radians(fov) / 2)
    angles = np.linspace(0, 2 * np.pi, frames, endpoint=False)
    if scene.cameras is None or not len(scene.cameras):
        half_angle = np.arctan(min(width, height) / 2 / focal)
        places, target, up = _ring(scene.gaussians.means, angles, half_angle)
    else:
        places, target, up = _loop(scene, scene.cameras, angles)
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)
    return Cameras(
        world_from_camera=np.stack([look_at(place, target, up) for place in places]),
        intrinsics=np.tile(intrinsics, (frames, 1, 1)),
        sizes=np.tile(np.array([[width, height]], np.int32), (frames, 1)),
        names=tuple(f"orbit-{index:04d}" for index in range(frames)),
    )


def look_at(
    place: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"], up: Float[np.ndarray, "3"]
) -> Float32[np.ndarray, "4 4"]:
    """world_from_camera of a camera at `place` with `target` on its axis and `up` upwards."""
    forward = _unit(target - place, np.array([0.0, 0.0, 1.0]))
    sideways = np.cross(forward, up)
    spare = np.cross(forward, np.eye(3)[np.abs(forward).argmin()])  # for looking straight up
    right = _unit(sideways, _unit(spare, spare))
    matrix = np.eye(4, dtype=np.float32)
    matrix[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    matrix[:3, 3] = place
    return matrix


def _loop(
    scene: Scene, cameras: Cameras, angles: Float[np.ndarray, " f"]
) -> tuple[Float[np.ndarray, "f 3"], Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """A loop in the mean camera's plane, looking at the median point."""
    centre = cameras.world_from_camera[:, :3, 3].mean(0).astype(np.float64)
    up = _unit(-cameras.world_from_camera[:, :3, 1].mean(0), np.array([0.0, -1.0, 0.0]))
    ahead = _unit(cameras.world_from_camera[:, :3, 2].mean(0), np.array([0.0, 0.0, 1.0]))
    target = np.median(scene.gaussians.means, axis=0) if len(scene) else centre + ahead
    distance = np.linalg.norm(target - centre)
    if distance < 1e-6:
        target, distance = centre + ahead, 1.0
    frame = look_at(centre, target, up).astype(np.float64)
    right, down = frame[:3, 0], frame[:3, 1]
    sway = np.cos(angles)[:, None] * right + 0.5 * np.sin(angles)[:, None] * down
    return centre + _SWAY * distance * sway, target, up


def _ring(
    means: Float[np.ndarray, "n 3"], angles: Float[np.ndarray, " f"], half_angle: float
) -> tuple[Float[np.ndarray, "f 3"], Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """A circle around the box of the inner 96 % of the points, far enough to see it whole."""
    low, high = np.percentile(means, [2, 98], axis=0) if len(means) else (-np.ones(3), np.ones(3))
    target = (low + high) / 2
    radius = max(np.linalg.norm(high - low) / 2, 1e-3) / np.sin(half_angle)
    tilt = np.radians(_ELEVATION)
    ring = np.stack(
        [
            np.sin(angles) * np.cos(tilt),
            np.full_like(angles, -np.sin(tilt)),
            -np.cos(angles) * np.cos(tilt),
        ],
        axis=1,
    )
    return target + radius * ring, target, np.array([0.0, -1.0, 0.0])


def _unit(vector: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length > 1e-6 else otherwise
