"""What a camera saw on its way, with the truth: walks through rooms, and folders of real frames."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8

from data.rooms import SPLITS
from data.rooms.cameras import is_clear
from data.rooms.path import closed_path, reach_around, smoothed
from data.rooms.scene import build_scenes
from data.rooms.walk import endless_walk, render_places
from ffsplat.errors import SceneFileError
from ffsplat.images import load_views
from train.evaluation.photos import Frame, view_truth

HELD_EVERY = 20
"""One frame in so many is kept back, to be looked at from the map: 2 s of a walk apart."""
ROOM_TO_WALK = 0.6
"""Metres to the nearest obstacle, all round the open middle, that a room needs to be walked in."""
AGAIN = 1.15
"""Times round its closed way that a walk goes: it comes back to where it was."""


@dataclass(frozen=True, eq=False)
class Footage:
    """n frames in their order, as a network sees them, and what is true of them.

    `world_from_camera` is in metres, `intrinsics` in these pixels; `depth` is 0 where nobody knows
    it, `whole` indexes the lexicon's rows of that level; both are None where a source has none.
    """

    name: str
    images: UInt8[np.ndarray, "n h w 3"]
    times_ns: Int64[np.ndarray, " n"]
    world_from_camera: Float64[np.ndarray, "n 4 4"]
    intrinsics: Float64[np.ndarray, "n 3 3"]
    depth: Float32[np.ndarray, "n h w"] | None = None
    whole: UInt8[np.ndarray, "n h w"] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def held(self) -> Int64[np.ndarray, " m"]:
        """Frames that no method is given: one in HELD_EVERY, or in 5 of short footage."""
        every = HELD_EVERY if len(self) >= 5 * HELD_EVERY else 5
        return np.arange(every // 2, len(self), every)

    @property
    def given(self) -> Int64[np.ndarray, " k"]:
        """All other frames."""
        return np.setdiff1d(np.arange(len(self)), self.held)

    def begun(self, starts: int) -> Iterator["Footage"]:
        """Both ways round, begun so many times, a frame later each time.

        On a short way that is off by much, errors cancel or add up by luck; this takes it out.
        """
        for word, step in (("from", 1), ("back from", -1)):
            for start in range(starts):
                shown = {
                    key: value[::step][start:].copy() if key != "times_ns" else value[start:]
                    for key, value in vars(self).items()
                    if isinstance(value, np.ndarray)
                }
                yield replace(self, name=f"{self.name}, {word} {start}", **shown)


def open_rooms(split: str, first: int = 0) -> Iterator[int]:
    """Seeds of the rooms of a split, from number `first` on, that have ROOM_TO_WALK.

    In none of them anything blocks a view of the walk, by pictures of 16 pixels.
    """
    for seed in SPLITS[split][first:]:
        _, (layout,) = build_scenes([seed])
        _, reach = reach_around(layout)
        if smoothed(reach).min() < ROOM_TO_WALK:
            continue
        some = render_places(seed, closed_path(layout, seed)[::8], 16, 16)
        if is_clear(torch.from_numpy(some.depth.astype(np.float32))).all():
            yield seed


def walk_footage(
    seed: int, frames: int | None = None, height: int = 96, width: int = 128, stride: int = 1
) -> Footage:
    """A walk through the room of a seed, AGAIN times round, or up to a frame; each `stride`-th."""
    walk = endless_walk(seed, height, width)
    seen = list(walk.frames(stop=frames or round(AGAIN * len(walk)), step=stride))
    return Footage(
        f"room {seed}",
        np.stack([frame.image for frame in seen]),
        np.array([frame.time_ns for frame in seen]),
        np.stack([frame.world_from_camera for frame in seen]),
        np.stack([frame.intrinsics for frame in seen]),
        np.stack([frame.depth for frame in seen]),
        np.stack([frame.whole for frame in seen]),
    )


def folder_footage(folder: Path, resolution: int, patch: int, stride: int = 1) -> Footage:
    """Every `stride`-th frame of a photo set (see `photos`), which may be without depth.

    The frames are resized as `infer` would, and taken for ten a second. Raises SceneFileError for a
    file that breaks the layout, and for photos of several shapes.
    """
    path = folder / "cameras.json"
    try:
        cameras = json.loads(path.read_text(encoding="utf-8"))
        frames = [
            Frame(
                folder / frame["image"],
                folder / frame.get("depth", ""),
                (int(frame["width"]), int(frame["height"])),
                np.array(frame["K"], dtype=np.float64).reshape(3, 3),
                np.array(frame["cam_to_world"], dtype=np.float64).reshape(4, 4),
            )
            for frame in cameras["frames"][::stride]
        ]
        scale = float(cameras.get("depth_scale") or 0)
        has_depth = all("depth" in frame for frame in cameras["frames"])
    except (KeyError, TypeError, ValueError) as error:
        raise SceneFileError(f"{path} breaks the layout ({error!r})") from error
    views = load_views(
        [frame.image for frame in frames], resolution=resolution, patch=patch, on_error="fail"
    ).views
    if not views.valid.all():
        raise SceneFileError(f"{folder} has photos of several shapes")
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    intrinsics = [
        np.linalg.inv(source.original_from_view) @ half @ frame.intrinsics
        for source, frame in zip(views.sources, frames, strict=True)
    ]
    depth = None
    if has_depth:
        depth = np.stack([view_truth(f, views, row, scale)[0] for row, f in enumerate(frames)])
    return Footage(
        folder.name,
        (views.pixels * 255).round().astype(np.uint8),
        np.arange(len(frames)) * 100_000_000,
        np.stack([frame.world_from_camera for frame in frames]),
        np.stack(intrinsics),
        None if depth is None else depth.astype(np.float32),
    )
