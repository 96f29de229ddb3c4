"""The JSON part of a clip: all that is not pixels, and what a shard promises about it."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from data.clip import UNKNOWN, Clip
from data.shards.errors import ShardError

FORMAT = "ffsplat.clip 1"
LABELS = ("whole", "part", "instance")
MAX_VIEWS = 512
MAX_PIXELS = 1 << 26
"""Pixels of all views of a clip."""
MAX_META = 1 << 20
"""Bytes of JSON."""
MAX_NAME = 200
"""Characters in the name of a source or of a teacher."""
_RIGID = 1e-3


@dataclass(frozen=True, eq=False)
class Meta:
    """A clip without its pixels; see `Clip`. `maps` are those that every view has.

    A pixel of a depth map counts steps of `depth_step` world units.
    """

    source: str
    metric: bool
    height: int
    width: int
    intrinsics: Float32[np.ndarray, "v 3 3"]
    world_from_camera: Float32[np.ndarray, "v 4 4"]
    maps: tuple[str, ...]
    depth_step: float
    teachers: tuple[str, ...]

    def encode(self) -> bytes:
        """The part `meta.json`."""
        matrices = {name: getattr(self, name).tolist() for name in _MATRICES}
        content = {"format": FORMAT, **vars(self), **matrices}
        return json.dumps(content, allow_nan=False).encode()


_MATRICES = {"intrinsics": 3, "world_from_camera": 4}


def parse_meta(content: bytes) -> Meta:
    """Read the part `meta.json`; ShardError for other entries than those, or sizes over a limit."""
    if len(content) > MAX_META:
        raise ShardError(f"meta.json has {len(content)} bytes, more than {MAX_META}")
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ShardError(f"meta.json is not JSON: {str(error)[:80]}") from error
    match entries:
        case {
            "format": "ffsplat.clip 1",
            "source": str(),
            "metric": bool(),
            "height": int(height),
            "width": int(width),
            "intrinsics": [*rows],
            "world_from_camera": [*_],
            "maps": [*maps],
            "depth_step": int(step) | float(step),
            "teachers": [*teachers],
        } if set(entries) == {"format", *Meta.__dataclass_fields__}:
            entries.pop("format")
        case _:
            raise ShardError(f"meta.json has missing, unknown or mistyped entries for {FORMAT}")
    if not all(isinstance(name, str) for name in (*maps, *teachers)):
        raise ShardError("meta.json: maps and teachers are lists of names")
    if len({*maps}) < len(maps) or not {*maps} <= {"depth", *LABELS}:
        raise ShardError(f"meta.json: unknown or repeated maps {maps!r:.80}")
    if not 0 <= step <= 1e30:
        raise ShardError(f"meta.json: depth_step is {step!r:.20}")
    _check_size(len(rows), height, width)
    matrices = {name: _matrices(entries[name], len(rows), name) for name in _MATRICES}
    return Meta(**entries | matrices | {"maps": tuple(maps), "teachers": tuple(teachers)})


def check_clip(clip: Clip) -> None:
    """Raise ShardError unless a clip is within the limits and all its numbers make sense.

    Sides are at least one pixel; poses are rigid, intrinsics those of pinhole cameras, depth and
    teachers are finite, and labels are UNKNOWN or rows.
    """
    views, height, width, _ = clip.images.shape
    _check_size(views, height, width)
    for name in (clip.source, *clip.teachers):
        if not (name.isprintable() and 0 < len(name) <= MAX_NAME):
            raise ShardError(f"not a name for a source or teacher: {name!r:.80}")
    _check_cameras(clip, views)
    for name in ("depth", *LABELS):
        values = getattr(clip, name)
        if values is not None and values.shape != (views, height, width):
            raise ShardError(f"{name} has shape {values.shape}, unlike the images")
    if clip.depth is not None and not (np.isfinite(clip.depth).all() and clip.depth.min() >= 0):
        raise ShardError("depth is not finite or below 0")
    for name in LABELS:
        values = getattr(clip, name)
        if values is not None and values.min() < UNKNOWN:
            raise ShardError(f"{name} is below {UNKNOWN}")
    for name, features in clip.teachers.items():
        if len(features) != views or features.size == 0 or not np.isfinite(features).all():
            raise ShardError(f"teacher {name!r} is empty, not finite, or not one map a view")


def _check_size(views: int, height: int, width: int) -> None:
    if not (1 <= views <= MAX_VIEWS and height >= 1 and width >= 1):
        raise ShardError(f"{views} views of {width} x {height} pixels")
    if views * height * width > MAX_PIXELS:
        raise ShardError(
            f"{views} views of {width} x {height} pixels are more than {MAX_PIXELS} in all"
        )


def _check_cameras(clip: Clip, views: int) -> None:
    intrinsics, poses = clip.intrinsics, clip.world_from_camera
    if len(intrinsics) != views or len(poses) != views:
        raise ShardError(f"{len(intrinsics)} intrinsics and {len(poses)} poses, {views} images")
    if not (np.isfinite(intrinsics).all() and np.isfinite(poses).all()):
        raise ShardError("intrinsics or poses are not finite")
    focal = intrinsics[:, [0, 1], [0, 1]]
    if not ((focal > 0).all() and (intrinsics[:, 2] == [0, 0, 1]).all()):
        raise ShardError("intrinsics are not those of pinhole cameras")
    rotation = poses[:, :3, :3].astype(np.float64)
    if not (
        (np.abs(rotation) <= 1 + _RIGID).all()
        and np.allclose(rotation @ rotation.swapaxes(1, 2), np.eye(3), atol=_RIGID)
        and (np.linalg.det(rotation) > 0).all()
        and (poses[:, 3] == [0, 0, 0, 1]).all()
    ):
        raise ShardError("a pose is not a rigid transform")


def _matrices(rows: Any, views: int, name: str) -> Float32[np.ndarray, "v n n"]:
    """A list of `views` square matrices; numbers too large for float32 become infinite."""
    side = _MATRICES[name]
    try:
        with np.errstate(over="ignore"):
            matrices = np.array(rows, np.float64).astype(np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise ShardError(f"meta.json: {name} are not matrices of numbers") from error
    if matrices.shape != (views, side, side):
        raise ShardError(f"meta.json: {name} are not {views} matrices of {side} x {side}")
    return matrices
