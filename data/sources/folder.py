"""A plain folder of RGB-D frames with poses, described by one `cameras.json`.

Layout: `cameras.json` with `frames`, each with `image`, `width`, `height`, `K` (3x3),
`cam_to_world` (4x4, OpenCV axes), optional `depth`, `label` and `instance` files; beside them
`depth_scale` (unit of a depth value), `label_names` and `metric`. Pixel (0, 0) is there the CENTRE
of the top-left pixel, so half a pixel is added. Frames without a camera are left out and counted.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from data.sources.files import checked_size, find_scenes, inside, pinhole
from data.sources.frame import DepthMap, Frame, LabelMap, SourceScene
from ffsplat.errors import SceneFileError
from ffsplat.io.text import matrix, read_object

CAMERAS = "cameras.json"
MAX_UNIT = 1000.0
"""Metres that one step of depth may be."""


def find(folder: Path) -> list[Path]:
    """Folders with `cameras.json`."""
    return find_scenes(folder, lambda path: (path / CAMERAS).is_file())


def read(folder: Path) -> SourceScene:
    """Read one set; SceneFileError names what is wrong."""
    content = read_object(folder / CAMERAS)
    listed = content.get("frames")
    if not isinstance(listed, list) or not all(isinstance(frame, dict) for frame in listed):
        raise SceneFileError(f"{folder / CAMERAS} has no list of frames")
    known = [frame for frame in listed if {"image", "K", "cam_to_world"} <= frame.keys()]
    unposed = len(listed) - len(known)
    scale = content.get("depth_scale", 0.001)
    if type(scale) not in (int, float) or not 0 < scale < MAX_UNIT:
        raise SceneFileError(f"{folder / CAMERAS}: depth_scale is {str(scale)[:40]}")
    return SourceScene(
        name=folder.name,
        source="folder",
        frames=tuple(_frame(folder, frame, scale) for frame in known),
        metric=bool(content.get("metric", any("depth" in frame for frame in known))),
        label_names=_names(content.get("label_names", {}), folder / CAMERAS),
        label_space="words",
        notes=(f"{unposed} frames have no camera",) if unposed else (),
    )


def _names(names: object, where: Path) -> dict[int, str]:
    """Names by label number; JSON has the numbers as strings."""
    if not isinstance(names, dict) or not all(re.fullmatch(r"[0-9]{1,9}", key) for key in names):
        raise SceneFileError(f"{where}: label_names are not names by number")
    return {int(number): str(name) for number, name in names.items()}


def _frame(folder: Path, item: dict[str, Any], scale: float) -> Frame:
    name = item["image"]
    where = f"{folder / CAMERAS}: {str(name)[:80]}"
    k = matrix(item["K"], 3, 3, where)
    lens = pinhole(k[0, 0], k[1, 1], k[0, 2], k[1, 2], where, integer_centres=True)
    depth, label, instance = (item.get(key) for key in ("depth", "label", "instance"))
    return Frame(
        name=Path(str(name)).stem,
        image=inside(folder, name),
        size=checked_size(item.get("width"), item.get("height"), where),
        intrinsics=lens,
        world_from_camera=matrix(item["cam_to_world"], 4, 4, where).astype(np.float64),
        depth=DepthMap(inside(folder, depth), float(scale)) if depth else None,
        labels=LabelMap(inside(folder, label)) if label else None,
        instances=inside(folder, instance) if instance else None,
    )
