"""One long walk round a procedural room, with exact truth: the photos for long inputs."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data.rooms import SPLITS
from data.rooms.cameras import is_clear
from data.rooms.caster import Cameras
from data.rooms.path import camera_poses
from data.rooms.render import RoomBatch, render_views
from data.rooms.scene import build_scenes

TURN = np.radians(35.0)
"""How far the camera looks to the inner side of the way, from straight ahead."""
STEP = 16
"""Views that are rendered at once."""


def oval_poses(room: np.ndarray, views: int) -> np.ndarray:
    """Poses (views, 4, 4) on an oval round the middle of a room, from the start to the start."""
    angle = np.linspace(0, 2 * np.pi, views, endpoint=False)
    flat = [0.3 * room[0] * np.cos(angle), 0.3 * room[1] * np.sin(angle)]
    centres = np.stack([*flat, 1.5 + 0.1 * np.sin(5 * angle)], -1)
    pitch = np.radians(-12 + 6 * np.sin(3 * angle))
    return camera_poses(centres, angle + np.pi / 2 + TURN, pitch)


@torch.inference_mode()
def render_walk(number: int, views: int, height: int = 96, width: int = 128) -> RoomBatch:
    """One oval round through the room of this number of the split `preview`."""
    seed = SPLITS["preview"][number]
    scenes, (layout,) = build_scenes([seed])
    poses = torch.from_numpy(oval_poses(layout.room, views)).float()
    focal = torch.tensor([width / 2 / np.tan(np.radians(32))]).float()
    parts = [
        render_views(scenes, Cameras(part[None], focal, height, width), [seed], None)
        for part in poses.split(STEP)
    ]
    tensors = {name: torch.cat([getattr(p, name) for p in parts], 1) for name in vars(parts[0])}
    return RoomBatch(**tensors)


def clear_room(first: int) -> int:
    """The number of the first room, from `first` on, in which nothing blocks the oval."""
    number = first
    while not is_clear(render_walk(number, 24, 16, 16).depth[0]).all():
        number += 1
    return number


def save_photos(walk: RoomBatch, folder: Path) -> list[Path]:
    """Write the views as PNG files, in natural order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{view:04d}.png" for view in range(walk.image.shape[1])]
    for path, image in zip(paths, walk.image[0], strict=True):
        Image.fromarray((image * 255).round().byte().numpy()).save(path)
    return paths
