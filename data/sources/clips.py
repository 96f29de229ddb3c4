"""Scenes cut into clips by how much of each other their views see."""

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

from data.landing import land, lift
from data.sources.frame import Frame, SourceScene
from data.sources.poses import pose_fault
from data.sources.view import Target, load_depth, scaled_intrinsics
from ffsplat.errors import UsageError

PROBE = Target(24, multiple=1)
"""Size of the views that overlap is measured on."""
MIN_POINTS = 12
"""A view that sees fewer sparse points than this is judged by its pose alone."""
AGREES = 0.1
"""Largest relative depth error of a point that still counts as seen."""
MAX_COMPARED = 600
"""Frames of a scene that are compared with each other; of longer ones every n-th is taken."""
WALL = 2.0
"""Metres to the wall that a view without depth or points is supposed to see."""


@dataclass(frozen=True)
class ClipRule:
    """How a scene is cut.

    Each clip has `views` views; every view overlaps another of its clip by at least `min_overlap`
    and none by more than `max_overlap`, as fractions of what it sees. Every `stride`-th frame is
    used. The same `seed` gives the same clips.
    """

    views: int = 4
    min_overlap: float = 0.3
    max_overlap: float = 0.9
    stride: int = 1
    seed: int = 0

    def __post_init__(self):
        if self.views < 1 or self.stride < 1:
            raise UsageError(f"clips of {self.views} views, every {self.stride}-th frame")
        if not 0 <= self.min_overlap <= self.max_overlap <= 1:
            raise UsageError(f"overlap from {self.min_overlap} to {self.max_overlap}")


def sound_frames(scene: SourceScene, stride: int) -> tuple[list[Frame], list[str]]:
    """The frames to use, and by name why each other one of them is dropped.

    Beside frames with broken poses those are dropped whose photos are not of the commonest size.
    """
    stride = max(stride, -(-len(scene.frames) // MAX_COMPARED))
    taken = scene.frames[::stride]
    sizes = [frame.size for frame in taken]
    common = max(dict.fromkeys(sizes), key=sizes.count, default=(0, 0))
    sound, dropped = [], []
    for frame in taken:
        fault = pose_fault(frame.world_from_camera)
        if fault:
            dropped.append(f"{frame.name}: pose is {fault}")
        elif frame.size != common:
            dropped.append(f"{frame.name}: {frame.size[0]} x {frame.size[1]} pixels")
        else:
            sound.append(frame)
    return sound, dropped


def overlap(scene: SourceScene, frames: list[Frame]) -> Float32[np.ndarray, "n n"]:
    """Which fraction of what one frame sees another sees too; the smaller of both directions.

    A frame sees the points of its depth map, else the sparse points that the source lists for it,
    else a wall in front of it: 2 m away in metric scenes, in others as far as cameras typically
    stand from their middle. A point is seen by another frame if it lies in its image and, where
    that frame has depth, at that depth; points that fall on unknown depth are not counted.
    """
    count = len(frames)
    depths = [load_depth(frame, PROBE) for frame in frames]
    intrinsics = np.array([scaled_intrinsics(frame, PROBE) for frame in frames])
    poses = np.array([frame.world_from_camera for frame in frames])
    width, height = PROBE.size(frames[0].size) if frames else (1, 1)
    unknown = np.zeros((height, width), np.float32)
    maps = np.array([unknown if depth is None else depth for depth in depths])
    wall = np.full((height, width), _wall(scene, poses))
    seen = np.zeros((count, count), np.float32)
    for row, frame in enumerate(frames):
        points = _points(scene, frame, maps[row], wall, intrinsics[row])
        seen[row] = _seen(points, intrinsics, poses, maps)
    return np.minimum(seen, seen.T)


def cut(overlaps: Float32[np.ndarray, "n n"], rule: ClipRule, name: str) -> list[tuple[int, ...]]:
    """Groups of frame indices, each in order, so that every frame is in a clip if one fits it.

    Frames that no clip holds yet start one, in an order drawn from the seed and the scene's name;
    further views are drawn from all that overlap with one of the clip enough and with none too
    much, unused frames first.
    """
    generator = np.random.default_rng([rule.seed, zlib.crc32(name.encode())])
    unused = np.ones(len(overlaps), bool)
    clips = []
    for start in generator.permutation(len(overlaps)):
        if not unused[start]:
            continue
        chosen = [int(start)]
        while len(chosen) < rule.views:
            near = overlaps[chosen]
            fits = (near.max(0) >= rule.min_overlap) & (near <= rule.max_overlap).all(0)
            fits[chosen] = False
            choice = np.flatnonzero(fits & unused)
            choice = choice if len(choice) else np.flatnonzero(fits)
            if not len(choice):
                break
            chosen.append(int(generator.choice(choice)))
        if len(chosen) == rule.views:
            unused[chosen] = False
            clips.append(tuple(sorted(chosen)))
    return list(dict.fromkeys(clips))


def _wall(scene: SourceScene, poses: Float64[np.ndarray, "n 4 4"]) -> float:
    if scene.metric or not len(poses):
        return WALL
    centres = poses[:, :3, 3]
    away = np.median(np.linalg.norm(centres - centres.mean(0), axis=1))
    return float(away) if away > 0 else 1.0


def _points(
    scene: SourceScene,
    frame: Frame,
    depth: Float32[np.ndarray, "h w"],
    wall: Float64[np.ndarray, "h w"],
    intrinsics: Float64[np.ndarray, "3 3"],
) -> Float64[np.ndarray, "n 3"]:
    """World points that a frame sees."""
    if (depth > 0).any():
        points = lift(depth.astype(np.float64), intrinsics, frame.world_from_camera)
        return points[depth.ravel() > 0]
    if scene.points is not None and frame.points is not None and len(frame.points) >= MIN_POINTS:
        return scene.points[frame.points]
    return lift(wall, intrinsics, frame.world_from_camera)


def _seen(
    points: Float64[np.ndarray, "m 3"],
    intrinsics: Float64[np.ndarray, "n 3 3"],
    poses: Float64[np.ndarray, "n 4 4"],
    maps: Float32[np.ndarray, "n h w"],
) -> Float[np.ndarray, " n"]:
    """The fraction of points that each camera sees."""
    landing = land(points, intrinsics, poses, maps.shape[1:])
    there = np.take_along_axis(maps.reshape(len(maps), -1), landing.index, axis=1)
    measured = maps.reshape(len(maps), -1).max(axis=1, keepdims=True) > 0
    unknown = landing.inside & measured & (there == 0)
    near = ~measured | (np.abs(there - landing.z) < AGREES * np.maximum(landing.z, 1e-9))
    counted = (~unknown).sum(1)
    return (landing.inside & ~unknown & near).sum(1) / np.maximum(counted, 1)
