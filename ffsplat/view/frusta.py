"""The cameras of a scene as frusta, with their photos where these are found."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from ffsplat.decode import read_photo
from ffsplat.errors import ImageError
from ffsplat.stream.replica.scene import matrices
from ffsplat.types import Cameras, Scene

if TYPE_CHECKING:
    import viser

MOST = 200
"""Frusta; of more cameras every so manieth is shown."""

THUMBNAIL = 256
"""Pixels of the longer side of a photo in its frustum."""

_SIZE = 0.01
"""Length of a frustum over the extent of the scene."""

_COLOR = (250, 160, 40)

Photo = UInt8[np.ndarray, "h w 3"]


def photos_of(cameras: Cameras | None, folders: list[Path]) -> dict[str, Photo]:
    """Small photos by the name of their camera, from the first folder that has a file of that name.

    A photo that cannot be read, or that lies outside the folder, is left out.
    """
    found: dict[str, Photo] = {}
    for name in () if cameras is None else cameras.names:
        for folder in folders:
            path = folder / name
            if not path.is_file():
                path = folder / Path(name).name
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                try:
                    found[name] = read_photo(path, THUMBNAIL, 1, 64).pixels
                except ImageError:
                    continue
                break
    return found


def extent_of(scene: Scene) -> float:
    """The diagonal of the box of the inner 96 % of the means, 1 for an empty scene."""
    if not len(scene):
        return 1.0
    low, high = np.percentile(scene.gaussians.means, [2, 98], axis=0)
    return max(float(np.linalg.norm(high - low)), 1e-3)


class Frusta:
    """viser's nodes for cameras; `fly` is called with a camera's pose when it is clicked."""

    def __init__(
        self,
        server: "viser.ViserServer",
        photos: Mapping[str, Photo],
        fly: Callable[["viser.ClientHandle", Float[np.ndarray, "4 4"]], None],
    ):
        self._server, self.photos, self._fly = server, photos, fly
        self._handles: dict[str, viser.CameraFrustumHandle] = {}
        self._poses: dict[str, np.ndarray] = {}
        self._visible = True

    def show(self, scene: Scene) -> None:
        """Make the pages show the cameras of this scene; one that did not move is not sent."""
        cameras, extent = scene.cameras, extent_of(scene)
        count = 0 if cameras is None else len(cameras)
        rows = np.unique(np.linspace(0, count - 1, min(count, MOST)).astype(int)) if count else []
        names = set()
        for row in rows:
            assert cameras is not None  # for there are rows
            names.add(key := f"/cameras/{row}")
            self._put(key, cameras[[int(row)]], _SIZE * extent)
        for key in set(self._handles) - names:
            self._handles.pop(key).remove()
            del self._poses[key]

    def set_visible(self, visible: bool) -> None:
        """Show or hide all of them."""
        self._visible = visible
        for handle in self._handles.values():
            handle.visible = visible

    def _put(self, key: str, camera: Cameras, size: float) -> None:
        pose = camera.world_from_camera[0].astype(float)
        handle = self._handles.get(key)
        if handle is not None:
            if not np.array_equal(self._poses[key], pose):
                handle.wxyz, handle.position = wxyz_of(pose), pose[:3, 3]
                self._poses[key] = pose
            return
        width, height = (int(side) for side in camera.sizes[0])
        handle = self._server.scene.add_camera_frustum(
            key,
            fov=vertical_fov(camera),
            aspect=width / height,
            scale=size,
            thickness=2.0,
            thickness_units="screen",
            color=_COLOR,
            image=self.photos.get(camera.names[0]),
            wxyz=wxyz_of(pose),
            position=pose[:3, 3],
            visible=self._visible,
        )
        handle.on_click(lambda event: self._fly(event.client, self._poses[key]))
        self._handles[key], self._poses[key] = handle, pose


def vertical_fov(cameras: Cameras) -> float:
    """Of the first camera, in radians."""
    return 2 * float(np.arctan(cameras.sizes[0, 1] / 2 / cameras.intrinsics[0, 1, 1]))


def pose_of(
    wxyz: Float[np.ndarray, "4"], position: Float[np.ndarray, "3"]
) -> Float32[np.ndarray, "4 4"]:
    """The pose of a quaternion (w, x, y, z) and a place."""
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = matrices(np.asarray(wxyz, np.float64)[None])[0]
    pose[:3, 3] = position
    return pose


def wxyz_of(pose: Float[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4"]:
    """The unit quaternion (w, x, y, z) of the rotation of a pose, w >= 0."""
    import torch

    from ffsplat.geometry import quaternion_from_matrix

    quaternion = quaternion_from_matrix(torch.from_numpy(np.array(pose[:3, :3], np.float64)))
    return quaternion.numpy() * (1 if quaternion[0] >= 0 else -1)
