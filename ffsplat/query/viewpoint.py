"""Where a phrase is spoken from: which way is up, and who looks where."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from ffsplat.errors import UsageError
from ffsplat.types import Cameras, Scene

LEVELNESS = 0.05
"""How much the cameras' mean upward axis counts beside the level of their horizons."""

ROOM_HEIGHT = 2.5
"""What a scene without a metre is taken to be high, in metres: a room."""


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """A viewer upright at a place: frame axes are right, ahead and up, in metres where `unit` says.

    `axes` are rows in world coordinates. `unit` is the length of a metre in world units, an
    estimate where the scene has none. `statement` says in words what was assumed.
    """

    place: Float64[np.ndarray, "3"]
    axes: Float64[np.ndarray, "3 3"]
    unit: float
    statement: str

    def local(self, points: Float[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """World points as metres to the right of, ahead of and above the viewer."""
        return (points - self.place) @ self.axes.T / self.unit


def viewpoint(scene: Scene, camera: str = "") -> Viewpoint:
    """The viewpoint of a camera, by name or number, the first unless given.

    A scene without cameras is seen from the origin of its world, which is where the first photo was
    taken. Raises UsageError for a camera that the scene does not have.
    """
    if scene.cameras is None or not len(scene.cameras):
        if camera:
            raise UsageError("the scene has no cameras to look from")
        axes = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float64)
        said = "seen from the origin of the scene; up is the upward axis of its first photo"
        return Viewpoint(np.zeros(3), axes, _metre(scene, axes[2]), said)
    cameras = scene.cameras
    index = _camera_number(cameras, camera)
    up = up_axis(cameras.world_from_camera.astype(np.float64))
    pose = cameras.world_from_camera[index].astype(np.float64)
    ahead = pose[:3, 2] - up * (up @ pose[:3, 2])
    if np.linalg.norm(ahead) < 0.1:  # it looks straight up or down: what is above in its picture
        ahead = -pose[:3, 1] + up * (up @ pose[:3, 1])
    ahead /= np.linalg.norm(ahead)
    axes = np.stack([np.cross(ahead, up), ahead, up])
    said = f"seen from camera {cameras.names[index]}; up is that of all cameras"
    return Viewpoint(pose[:3, 3], axes, _metre(scene, up), said)


def up_axis(world_from_camera: Float64[np.ndarray, "v 4 4"]) -> Float64[np.ndarray, "3"]:
    """The direction that is up if photos are taken upright: horizons level, tops above.

    The u that least turns the cameras' right axes r and misses their mean upward axis m:
    minimal mean (r . u)^2 + LEVELNESS |u - m|^2, a linear system. Cameras that all look down at an
    angle mislead m, but their right axes stay level.
    """
    right = world_from_camera[:, :3, 0]
    mean_up = -world_from_camera[:, :3, 1].mean(axis=0)
    level = right.T @ right / len(right)
    up = np.linalg.solve(level + LEVELNESS * np.eye(3), mean_up)
    length = np.linalg.norm(up)
    return up / length if length > 1e-9 else np.array([0.0, -1.0, 0.0])


def _camera_number(cameras: Cameras, camera: str) -> int:
    if not camera:
        return 0
    if camera in cameras.names:
        return cameras.names.index(camera)
    if camera.isdecimal() and int(camera) < len(cameras):
        return int(camera)
    raise UsageError(
        f"the scene has no camera {camera!r}", f"its {len(cameras)} are {cameras.names[0]} and on"
    )


def _metre(scene: Scene, up: Float64[np.ndarray, "3"]) -> float:
    """World units in a metre: 1 where the scene says so, else by the height of a room."""
    if scene.metric or not len(scene):
        return 1.0
    low, high = np.percentile(scene.gaussians.means[:: max(1, len(scene) // 100_000)] @ up, [1, 99])
    return max(float(high - low) / ROOM_HEIGHT, 1e-9)
