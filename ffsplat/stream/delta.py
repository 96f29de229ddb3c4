"""What changed in a map between two moments, at the precision that goes over the wire.

A snapshot is the delta from nothing: what it holds is all that there is.
"""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float16, Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32

from ffsplat.types import Codebook

CODES = 4
"""Pairs of codebook ID and weight that a Gaussian of a map has."""


@dataclass(frozen=True, eq=False)
class SplatRows:
    """Gaussians in the frames of their submaps, 48 bytes each.

    `gids` are the places in the map: a place that is given again replaces what was there. Opacity,
    colour (sRGB) and weights are in steps of 1/255, unit quaternions (w, x, y, z) of 1/127. An
    unused pair has ID -1 and weight 0; `instances` is -1 for none.
    """

    gids: UInt32[np.ndarray, " n"]
    submaps: UInt16[np.ndarray, " n"]
    means: Float32[np.ndarray, "n 3"]
    scales: Float16[np.ndarray, "n 3"]
    quaternions_wxyz: Int8[np.ndarray, "n 4"]
    opacities: UInt8[np.ndarray, " n"]
    colors: UInt8[np.ndarray, "n 3"]
    ids: Int16[np.ndarray, "n 4"]
    weights: UInt8[np.ndarray, "n 4"]
    instances: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.gids)

    def __getitem__(self, rows: np.ndarray | slice) -> "SplatRows":
        """A subset by boolean mask, index array or slice."""
        return SplatRows(*(getattr(self, one.name)[rows] for one in fields(self)))


@dataclass(frozen=True, eq=False)
class FramePoses:
    """Cameras of frames, each in the frame of a submap, in the order in which they were placed.

    A pose is a unit quaternion (w, x, y, z) and the centre, submap_from_camera. `intrinsics` is
    (fx, fy, cx, cy, width, height) in pixels of the picture as it came.
    """

    numbers: Int64[np.ndarray, " c"]
    times_ns: Int64[np.ndarray, " c"]
    submaps: UInt16[np.ndarray, " c"]
    poses: Float64[np.ndarray, "c 7"]
    intrinsics: Float32[np.ndarray, "c 6"]
    keyframes: UInt8[np.ndarray, " c"]

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, eq=False)
class MapDelta:
    """What changed since the delta numbered one less.

    To be applied in this order: `row_map` gives the new codebook ID of each old one (-1: gone) in
    all Gaussians; `removed` Gaussians go, with those of `removed_submaps`; `submaps` appear or
    move, their poses world_from_submap as (scale, quaternion wxyz, translation); `splats` replace
    what is in their places or are new; `codebook`, if any, replaces the table; `frames` are newly
    placed cameras. `epoch` counts corrections of the poses: after one, submaps moved and nothing
    was sent again. `time_ns` is the time of the last frame that counts.
    """

    number: int
    epoch: int
    time_ns: int
    splats: SplatRows
    removed: UInt32[np.ndarray, " r"]
    submaps: UInt16[np.ndarray, " s"]
    submap_poses: Float64[np.ndarray, "s 8"]
    removed_submaps: UInt16[np.ndarray, " t"]
    frames: FramePoses
    row_map: Int16[np.ndarray, " old"] | None = None
    codebook: Codebook | None = None
