"""Windows: which keyframes go through the network with new frames, and where that lies in the map.

What a window says of its keyframes is compared with what the map knows of them already
(`chunks.place`): that places the new frames, in pose and in scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64

from ffsplat.alignment import Similarity
from ffsplat.chunks.place import FIRST, Placement, Shared, place_by_cameras, shared_views
from ffsplat.geometry import transform_points, unproject
from ffsplat.prediction import Prediction
from ffsplat.pruning import keep_pixels
from ffsplat.stream.canvas import Picture, gather
from ffsplat.stream.keyframes import Keyframe, choose_views, sight_distances
from ffsplat.stream.predictor import Predictor
from ffsplat.types import Views

MIN_CONFIDENCE, MIN_OPACITY = 0.05, 0.005
"""Pixels that are less sure or less opaque become no Gaussians, as in `merge.to_scene`."""

SPREAD = 0.1
"""Sight distance, over the median depth, that two keyframes of one window should have."""


def as_picture(keyframe: Keyframe) -> Picture:
    """A keyframe as it went through the network the first time."""
    intrinsics = keyframe.intrinsics
    if not keyframe.known_intrinsics:
        intrinsics = np.full((3, 3), np.nan, np.float32)
    return Picture(keyframe.pixels, keyframe.valid, intrinsics, keyframe.source)


def world_poses(
    keyframes: Sequence[Keyframe], submaps: Mapping[int, Similarity]
) -> Float64[np.ndarray, "v 4 4"]:
    """world_from_camera of keyframes, given where their submaps lie."""
    poses = [submaps[one.submap].poses(one.submap_from_camera[None])[0] for one in keyframes]
    return np.stack(poses) if poses else np.zeros((0, 4, 4))


def known_views(keyframes: Sequence[Keyframe], submaps: Mapping[int, Similarity]) -> Shared:
    """What the map says of its keyframes, in the world."""
    scales = np.array([submaps[one.submap].scale for one in keyframes], np.float32)
    depth = np.stack([one.depth.astype(np.float32) for one in keyframes]) * scales[:, None, None]
    errors = np.stack([one.depth_error.astype(np.float32) for one in keyframes])
    poses = world_poses(keyframes, submaps)
    intrinsics = torch.from_numpy(np.stack([one.intrinsics for one in keyframes]))
    local = unproject(torch.from_numpy(depth), intrinsics)
    world = transform_points(torch.from_numpy(poses).float(), local.flatten(1, 2))
    return Shared(
        world.reshape(local.shape).numpy(), depth, local.norm(dim=-1).numpy() * errors, poses
    )


def near_keyframes(
    pose: Float64[np.ndarray, "4 4"],
    keyframes: Sequence[Keyframe],
    submaps: Mapping[int, Similarity],
    count: int,
) -> list[Keyframe]:
    """Up to `count` keyframes that see best what a camera at `pose` (world) sees, the best first.

    The views of a window should overlap with the new frame and still see it from several places.
    """
    if not keyframes:
        return []
    poses = world_poses(keyframes, submaps)
    middle = np.array([one.middle * submaps[one.submap].scale for one in keyframes])
    apart = sight_distances(poses, pose[None], middle)[:, 0]
    rows = np.argsort(apart, kind="stable")[: 4 * count]
    between = sight_distances(poses[rows], poses[rows], middle[rows])
    spread = SPREAD * float(np.median(middle[rows]))
    return [keyframes[rows[i]] for i in choose_views(apart[rows], between, count, spread)]


@dataclass(frozen=True, eq=False)
class Arrival:
    """A frame that waits to be placed; `given` is a pose in the sender's world."""

    number: int
    time_ns: int
    picture: Picture
    given: Float64[np.ndarray, "4 4"] | None = None


@dataclass(frozen=True, eq=False)
class Window:
    """Some keyframes (`past`, the first rows) and new frames as the network saw them together.

    `kept` are the pixels that may become Gaussians, `placed` is how the window lies in the map.
    """

    prediction: Prediction
    views: Views
    past: tuple[Keyframe, ...]
    kept: Bool[torch.Tensor, "1 v h w"]
    placed: Placement

    def local_pose(self, row: int) -> Float64[np.ndarray, "4 4"]:
        """The pose of a view in the window's own world."""
        return self.prediction.world_from_camera[0, row].double().numpy()

    def pose(self, row: int) -> Float64[np.ndarray, "4 4"]:
        """The pose of a view in the world of the map."""
        return self.placed.similarity.poses(self.local_pose(row)[None])[0]

    def footprint(self) -> float:
        """The median side of what a pixel shows, in the window's own unit."""
        focal = self.prediction.intrinsics[0, :, 0, 0, None, None]
        return float((self.prediction.depth[0] / focal).median())

    def middle(self, row: int) -> float:
        """The median depth of a view, in the window's own unit."""
        depth = self.prediction.depth[0, row][self.kept[0, row]]
        return float(depth.median()) if len(depth) else 1.0


def see(predictor: Predictor, past: Sequence[Keyframe], arrivals: Sequence[Arrival]) -> Window:
    """Send keyframes and new frames through the network; the window is not placed yet."""
    pictures = [as_picture(one) for one in past] + [one.picture for one in arrivals]
    views = gather(pictures)
    prediction = predictor.predict(views)
    valid = torch.from_numpy(views.valid)[None]
    kept = keep_pixels(prediction, valid, MIN_CONFIDENCE, MIN_OPACITY, prune_edges=True)
    return Window(prediction, views, tuple(past), kept, FIRST)


def is_finite(prediction: Prediction) -> bool:
    """Whether all that places and shapes Gaussians is a number."""
    values = (
        prediction.depth, prediction.depth_error, prediction.world_from_camera,
        prediction.intrinsics, prediction.scales, prediction.quaternions_wxyz,
        prediction.opacities, prediction.colors,
    )  # fmt: skip
    return all(bool(torch.isfinite(one).all()) for one in values)


def lay(
    window: Window, rows: Sequence[int], submaps: Mapping[int, Similarity], scale: float | None
) -> Placement:
    """Where a window lies, by what the map knows of the keyframes in these of its rows.

    `scale` locks that of the window. Without rows it lies where it is.
    """
    if not rows:
        return FIRST
    known = known_views([window.past[row] for row in rows], submaps)
    found = shared_views(window.prediction, list(rows))
    return place_by_cameras(found, known, window.kept[0, list(rows)].numpy(), scale)
