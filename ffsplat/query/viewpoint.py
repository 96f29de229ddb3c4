"""Where a phrase is spoken from: which way is up, and who looks where."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from ffsplat.errors import UsageError
from ffsplat.types import Cameras, Scene

LEVELNESS = 0.05
"""How much the cameras' mean upward axis counts beside the level of their horizons."""

LEVEL_ROWS = ("floor", "ceiling")
"""Names of rows whose Gaussians lie in level planes."""

FLATNESS = 0.15
"""Thickness of a level plane over its width, at most."""

MOST_POINTS = 20_000
"""Gaussians that a plane is fitted to, evenly drawn."""

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
    taken. Up is the normal of the floor where the codes name one, else that of the cameras.
    Raises UsageError for a camera that the scene does not have.
    """
    if scene.cameras is None or not len(scene.cameras):
        if camera:
            raise UsageError("the scene has no cameras to look from")
        pose, up = np.eye(4), np.array([0.0, -1.0, 0.0])
        place, leveled = "the origin of the scene", "the upward axis there"
    else:
        index = _camera_number(scene.cameras, camera)
        pose = scene.cameras.world_from_camera[index].astype(np.float64)
        up = up_axis(scene.cameras.world_from_camera.astype(np.float64))
        place, leveled = f"camera {scene.cameras.names[index]}", "that of all cameras"
    if (normal := level_normal(scene, up)) is not None:
        up, leveled = normal, "the normal of the floor"
    ahead = pose[:3, 2] - up * (up @ pose[:3, 2])
    if np.linalg.norm(ahead) < 0.1:  # it looks straight up or down: what is above in its picture
        ahead = -pose[:3, 1] + up * (up @ pose[:3, 1])
    ahead /= np.linalg.norm(ahead)
    axes = np.stack([np.cross(ahead, up), ahead, up])
    said = f"seen from {place}; up is {leveled}"
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


def level_normal(scene: Scene, up: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3"] | None:
    """The upward normal of the floor, else of the ceiling, by the plane through its Gaussians.

    None where no row is so named, where few Gaussians (100) are mostly of it, and where they are
    not flat or lie further than 60 degrees from what the cameras take for level. The plane is
    fitted twice, without the farthest tenth of the points the second time.
    """
    if scene.codes is None or scene.codebook is None:
        return None
    leading = scene.codes.ids[:, 0]
    for name in LEVEL_ROWS:
        rows = [row for row, known in enumerate(scene.codebook.names) if known == name]
        members = np.flatnonzero(np.isin(leading, rows))
        if len(members) < 100:
            continue
        points = scene.gaussians.means[members[:: -(-len(members) // MOST_POINTS)]]
        normal, _ = _plane(points.astype(np.float64))
        far = np.abs((points - np.median(points, axis=0)) @ normal)
        normal, thickness = _plane(points[far <= np.quantile(far, 0.9)].astype(np.float64))
        normal *= np.sign(normal @ up) or 1.0
        if thickness < FLATNESS and normal @ up > 0.5:
            return normal
    return None


def _plane(points: Float64[np.ndarray, "n 3"]) -> tuple[Float64[np.ndarray, "3"], float]:
    """The normal of the best plane, and the spread along it over the next smallest spread."""
    centred = points - points.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    return vectors[:, 0], float(np.sqrt(max(values[0], 0) / max(values[1], 1e-18)))


def _camera_number(cameras: Cameras, camera: str) -> int:
    if not camera:
        return 0
    if camera in cameras.names:
        return cameras.names.index(camera)
    if camera.isdecimal() and int(camera) < len(cameras):
        return int(camera)
    raise UsageError(
        f"the scene has no camera {camera!r}",
        f"known are {cameras.names[0]} to {cameras.names[-1]}, or 0 to {len(cameras) - 1}",
    )


def _metre(scene: Scene, up: Float64[np.ndarray, "3"]) -> float:
    """World units in a metre: 1 where the scene says so, else by the height of a room."""
    if scene.metric or not len(scene):
        return 1.0
    low, high = np.percentile(scene.gaussians.means[:: max(1, len(scene) // 100_000)] @ up, [1, 99])
    return max(float(high - low) / ROOM_HEIGHT, 1e-9)
