"""What every reader gives: a scene of posed frames, of which nothing has been decoded yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64


@dataclass(frozen=True, eq=False)
class DepthMap:
    """A picture of z-depths: unit = value times `scale`; 0, `invalid` and NaN say nothing.

    It may differ from its photo in size: where `intrinsics` is None it covers the same field of
    view, else it has its own lens at the same place and with the same axes.
    """

    path: Path
    scale: float
    invalid: int | None = None
    intrinsics: Float64[np.ndarray, "3 3"] | None = None


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A picture of label numbers over the field of view of its photo.

    With a `divisor` a value is label * divisor + object number (0 = no object).
    """

    path: Path
    divisor: int = 1


@dataclass(frozen=True, eq=False)
class Frame:
    """One photo and what is known about it.

    `intrinsics` is in pixels of an image of `size` (width, height), pixel centres at half-integers;
    a stored photo of another size shows the same, scaled. `world_from_camera` has OpenCV axes and
    may still be broken (see `data.sources.poses`). `distortion` holds OpenCV's k1, k2, p1, p2, k3,
    or nothing for a pinhole. `timestamp` is in seconds. `instances` is a picture of object numbers,
    0 where there is none, the same in all frames: masks of a tracker will do. `points` are rows of
    `SourceScene.points` that this frame is known to see.
    """

    name: str
    image: Path
    size: tuple[int, int]
    intrinsics: Float64[np.ndarray, "3 3"]
    world_from_camera: Float64[np.ndarray, "4 4"]
    timestamp: float | None = None
    depth: DepthMap | None = None
    labels: LabelMap | None = None
    instances: Path | None = None
    distortion: tuple[float, ...] = ()
    points: Int64[np.ndarray, " seen"] | None = None


@dataclass(frozen=True, eq=False)
class SourceScene:
    """The frames of one place, in the order they were taken.

    `metric` says whether the unit of poses and depth is the metre. `label_names` gives the name of
    a label number and `label_space` the table in `data/labels` that knows these names, "" if none.
    `points` are sparse points of the world, where the source has some. `notes` says what was left
    out while reading.
    """

    name: str
    source: str
    frames: tuple[Frame, ...]
    metric: bool
    label_names: Mapping[int, str] = field(default_factory=dict)
    label_space: str = ""
    points: Float64[np.ndarray, "n 3"] | None = None
    notes: tuple[str, ...] = ()
