"""Where `ffsplat render` looks from: an input camera, the first photo's place, or an orbit."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ffsplat.errors import UsageError

if TYPE_CHECKING:
    from ffsplat.types import Cameras, Scene

FIELD_OF_VIEW = 60.0
"""Horizontal, in degrees, where no camera says otherwise."""


def camera_path(
    scene: "Scene", view: int | None, frames: int | None, size: tuple[int, int]
) -> "Cameras":
    """An orbit of so many frames, or one camera if `frames` is None, as wide as the photos are."""
    from ffsplat.render import orbit

    if view is not None:
        if frames is not None:
            raise UsageError("--view draws one image", "end the name of --out in .png or .jpg")
        return input_camera(scene, view, size)
    # The world of a scene that a model made is the frame of its first photo.
    if scene.cameras is None and "model" in scene.provenance:
        scene = replace(scene, cameras=reference_camera(size))
        if frames is None:
            return reference_camera(size)
    return orbit(scene, frames or 1, size, _field_of_view(scene.cameras))


def _field_of_view(cameras: "Cameras | None") -> float:
    """The median of the cameras', horizontal, in degrees."""
    import numpy as np

    if cameras is None or not len(cameras):
        return FIELD_OF_VIEW
    half_widths = cameras.sizes[:, 0] / 2 / cameras.intrinsics[:, 0, 0]
    return float(np.degrees(2 * np.arctan(np.median(half_widths))))


def reference_camera(size: tuple[int, int]) -> "Cameras":
    """A camera of FIELD_OF_VIEW where the first photo was taken."""
    import numpy as np

    from ffsplat.types import Cameras

    focal = size[0] / 2 / np.tan(np.radians(FIELD_OF_VIEW) / 2)
    intrinsics = [[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]]
    return Cameras(
        np.eye(4, dtype=np.float32)[None],
        np.array([intrinsics], np.float32),
        np.array([size], np.int32),
        ("reference",),
    )


def input_camera(scene: "Scene", view: int, size: tuple[int, int]) -> "Cameras":
    """One of the scene's cameras, its whole image fitted into the size."""
    import numpy as np

    if scene.cameras is None:
        raise UsageError("--view needs --cameras", "infer again with --cameras-out cameras.json")
    if view >= len(scene.cameras):
        raise UsageError(f"there is no view {view}", f"views are 0 to {len(scene.cameras) - 1}")
    camera = scene.cameras[[view]]
    scale = (np.array(size) / camera.sizes[0]).min()
    margin = (np.array(size) - scale * camera.sizes[0]) / 2
    fit = np.array([[scale, 0, margin[0]], [0, scale, margin[1]], [0, 0, 1]])
    intrinsics = (fit @ camera.intrinsics).astype(np.float32)
    return replace(camera, intrinsics=intrinsics, sizes=np.array([size], np.int32))
