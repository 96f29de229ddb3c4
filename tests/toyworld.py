"""An exact world for readers: cameras in a box whose depth, colour and labels are closed forms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from boxroom import HALF, cameras
from PIL import Image

from data.sources.frame import Frame, SourceScene
from data.sources.view import Target, load_view

SIZE = (80, 60)
INTRINSICS = np.array([[61.0, 0, 38.2], [0, 58.0, 31.7], [0, 0, 1]])
"""Off centre and with two focal lengths, so that swaps and shifts show."""
FULL = Target(80, multiple=1)
WALL_NAMES = {1: "wall", 2: "table", 3: "floor", 4: "chair", 5: "sofa", 6: "bed"}
"""One label a wall of the box: -x, +x, -y, +y, -z, +z."""


@dataclass(frozen=True)
class ToyView:
    """Truth about one view: pose (4, 4), depth (h, w), image (h, w, 3) uint8, labels (h, w)."""

    pose: np.ndarray
    depth: np.ndarray
    image: np.ndarray
    labels: np.ndarray


def trace(pose: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]) -> ToyView:
    """What a camera at any place inside the box sees, pixel centres at half-integers."""
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    return trace_rays(pose, np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(intrinsics).T)


def trace_rays(pose: np.ndarray, rays: np.ndarray) -> ToyView:
    """The same along given rays (h, w, 3) with z = 1."""
    half = HALF.double().numpy()
    direction = rays @ pose[:3, :3].T
    distances = (half * np.sign(direction) - pose[:3, 3]) / direction
    axis = distances.argmin(-1)
    depth = distances.min(-1)
    points = pose[:3, 3] + depth[..., None] * direction
    side = np.take_along_axis(direction, axis[..., None], -1)[..., 0] > 0
    return ToyView(pose, depth, paint(points), 2 * axis + side + 1)


def paint(points: np.ndarray) -> np.ndarray:
    """A colour (uint8) for any point, smooth but steep: up to 10 levels of 255 for 1 cm."""
    phase = points @ np.array([[8.0, 2, 0], [0, 8, 2], [2, 0, 8]])
    return np.round(127.5 + 120 * np.sin(phase)).astype(np.uint8)


def views(count: int = 4, seed: int = 3) -> list[ToyView]:
    """Views that overlap; the first camera stands away from the origin and is turned."""
    poses = cameras(count + 1, seed, turn=0.2, move=0.25).double().numpy()[0, 1:]
    for pose in poses:  # made in float32: rigid to rounding of float64
        left, _, right = np.linalg.svd(pose[:3, :3])
        pose[:3, :3] = left @ right
    return [trace(pose, INTRINSICS, SIZE) for pose in poses]


def save_image(path: Path, image: np.ndarray) -> None:
    """A photo, as its suffix says; JPEG so good that it counts as lossless here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 98, "subsampling": 0} if path.suffix.lower() != ".png" else {}
    Image.fromarray(image).save(path, **options)


def save_depth(path: Path, depth: np.ndarray, unit: float) -> None:
    """Depth as 16-bit PNG: value = depth / unit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(depth / unit).astype(np.uint16)).save(path)


def save_map(path: Path, values: np.ndarray) -> None:
    """Labels as 8- or 16-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = np.uint8 if values.max() < 256 else np.uint16
    Image.fromarray(values.astype(kind)).save(path)


def depth_error(scene: SourceScene, target: Target = FULL) -> float:
    """Largest relative difference between depth as read and the closed form of the camera read."""
    worst = 0.0
    for frame in scene.frames:
        view = load_view(frame, target)
        assert view.depth is not None
        height, width = view.depth.shape
        truth = trace(frame.world_from_camera, view.intrinsics, (width, height))
        edge = _edges(truth.labels)
        worst = max(worst, float(np.abs(view.depth / truth.depth - 1)[~edge].max()))
    return worst


def image_error(scene: SourceScene, target: Target = FULL) -> float:
    """Mean difference, in levels of 255, between photos as read and the world as painted."""
    differences = []
    for frame in scene.frames:
        view = load_view(frame, target)
        height, width = view.image.shape[:2]
        truth = trace(frame.world_from_camera, view.intrinsics, (width, height))
        difference = np.abs(view.image.astype(int) - truth.image.astype(int))
        differences.append(difference[~_edges(truth.labels)])
    return float(np.concatenate(differences).mean())


def labels_agree(scene: SourceScene, names: dict[int, str]) -> bool:
    """Whether every label read has the name of the wall that it lies on."""
    for frame in scene.frames:
        view = load_view(frame, FULL)
        assert view.labels is not None
        truth = trace(frame.world_from_camera, view.intrinsics, view.labels.shape[::-1])
        inner = ~_edges(truth.labels)
        read = [scene.label_names[number] for number in view.labels[inner]]
        if read != [names[number] for number in truth.labels[inner]]:
            return False
    return True


def _edges(labels: np.ndarray) -> np.ndarray:
    """Pixels next to the edge of another wall, where nearest neighbours may choose either."""
    padded = np.pad(labels, 1, mode="edge")
    h, w = labels.shape
    near = [padded[i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return (np.stack(near) != labels).any(0)


def half_pixel(frame: Frame) -> Frame:
    """The mistake of taking integer pixel centres for half-integers."""
    shift = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    return replace(frame, intrinsics=frame.intrinsics - shift)


def inverted(frame: Frame) -> Frame:
    """The mistake of taking camera_from_world for world_from_camera."""
    return replace(frame, world_from_camera=np.linalg.inv(frame.world_from_camera))


def opengl(frame: Frame) -> Frame:
    """The mistake of taking OpenGL's axes for OpenCV's."""
    turned = frame.world_from_camera @ np.diag([1.0, -1, -1, 1])
    return replace(frame, world_from_camera=turned)


MISTAKES: Sequence[Callable[[Frame], Frame]] = (half_pixel, inverted, opengl)


def assert_exact(
    scene: SourceScene,
    depth: float = 2e-3,
    image: float = 2.0,
    mistakes: Sequence[Callable[[Frame], Frame]] = MISTAKES,
) -> None:
    """The scene as read is the toy world, and each usual mistake would have been seen."""
    with_depth = scene.frames[0].depth is not None
    assert image_error(scene) < image
    if with_depth:
        assert depth_error(scene) < depth
    for mistake in mistakes:
        wrong = replace(scene, frames=tuple(mistake(frame) for frame in scene.frames))
        assert image_error(wrong) > 3 * image, mistake.__name__
        if with_depth:
            assert depth_error(wrong) > 2 * depth, mistake.__name__
