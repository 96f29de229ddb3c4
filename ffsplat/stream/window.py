"""Windows: which keyframes go through the network with new frames, and where that lies in the map.

What a window says of its keyframes is compared with what the map knows of them already
(`chunks.place`): that places the new frames, in pose and in scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from ffsplat.alignment import Similarity
from ffsplat.chunks.place import FIRST, Placement, Shared
from ffsplat.chunks.some import take_prediction
from ffsplat.medians import median
from ffsplat.prediction import Prediction
from ffsplat.stream.canvas import Picture, gather
from ffsplat.stream.clock import Clock
from ffsplat.stream.given import through
from ffsplat.stream.keyframes import Keyframe, choose_views, sight_distances
from ffsplat.stream.map.compiled import brief
from ffsplat.stream.map.kept import kept_pixels
from ffsplat.stream.predictor import Predictor
from ffsplat.stream.sight import PosedViews
from ffsplat.types import Views

MIN_OPACITY = 0.005
"""Pixels that are less opaque become no Gaussians, as in `merge.to_scene`."""

STEP = 4
"""Of the pixels that tell how a window lies in the map, one in so many along each side is used."""

THINNED = (slice(STEP // 2, None, STEP),) * 2

SPREAD = 0.1
"""Sight distance, over the median depth, that two keyframes of one window should have."""


def as_picture(keyframe: Keyframe) -> Picture:
    """A keyframe as it went through the network the first time."""
    intrinsics = keyframe.intrinsics
    if not keyframe.known_intrinsics:
        intrinsics = np.full((3, 3), np.nan, np.float32)
    return Picture(keyframe.pixels, keyframe.inside, intrinsics, keyframe.source)


def world_poses(
    keyframes: Sequence[Keyframe], submaps: Mapping[int, Similarity]
) -> Float64[np.ndarray, "v 4 4"]:
    """world_from_camera of keyframes, given where their submaps lie."""
    if not keyframes:
        return np.zeros((0, 4, 4))
    own = [submaps[one.submap] for one in keyframes]
    poses = np.array([one.submap_from_camera for one in keyframes])
    scales = np.array([one.scale for one in own])
    turns = np.array([one.rotation for one in own])
    moves = np.array([one.translation for one in own])
    poses[:, :3, 3] = scales[:, None] * (turns @ poses[:, :3, 3:])[..., 0] + moves
    poses[:, :3, :3] = turns @ poses[:, :3, :3]
    return poses


def known_views(keyframes: Sequence[Keyframe], submaps: Mapping[int, Similarity]) -> Shared:
    """What the map says of its keyframes, in the world, at every STEP-th pixel."""
    scales = np.array([submaps[one.submap].scale for one in keyframes], np.float32)
    depth = np.stack([one.depth[THINNED].astype(np.float32) for one in keyframes])
    errors = np.stack([one.depth_error[THINNED].astype(np.float32) for one in keyframes])
    intrinsics = np.stack([one.intrinsics for one in keyframes])
    poses = world_poses(keyframes, submaps)
    return _shared(depth * scales[:, None, None], errors, intrinsics, poses)


def found_views(views: PosedViews, rows: Sequence[int]) -> Shared:
    """What a window says of some of its views, in its own world, at every STEP-th pixel."""
    rows = list(rows)
    depth, errors = (one[:, *THINNED][rows] for one in (views.depth, views.depth_error))
    return _shared(depth, errors, views.intrinsics[rows], views.world_from_camera[rows])


def _shared(
    depth: Float32[np.ndarray, "v h w"],
    errors: Float32[np.ndarray, "v h w"],
    intrinsics: Float[np.ndarray, "v 3 3"],
    poses: Float64[np.ndarray, "v 4 4"],
) -> Shared:
    """With lenses of the thinned maps; `intrinsics` is in pixels of the whole view."""
    lenses = intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]].astype(np.float64, order="C")
    lenses[:, 2:] -= (STEP // 2 + 0.5) - STEP / 2  # how far pixels are from the middle of STEP
    return Shared(depth, errors, lenses / STEP, poses)


def near_rows(
    pose: Float64[np.ndarray, "4 4"],
    poses: Float64[np.ndarray, "n 4 4"],
    middle: Float64[np.ndarray, " n"],
    count: int,
) -> tuple[Int64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """Up to `count` cameras that see best what one at `pose` sees, the best first; how far each is.

    `poses` are theirs, `middle` their median depths, `sight_distances` tell how far. The views of a
    window should overlap with the new frame and still see it from several places.
    """
    if not len(poses):
        return np.zeros(0, np.int64), np.zeros(0)
    apart = sight_distances(poses, pose[None], middle)[:, 0]
    rows = np.argsort(apart, kind="stable")[: 4 * count]
    between = sight_distances(poses[rows], poses[rows], middle[rows])
    chosen = rows[choose_views(apart[rows], between, count, SPREAD * median(middle[rows]))]
    return chosen, apart[chosen]


@dataclass(frozen=True, eq=False)
class Arrival:
    """A frame that waits to be placed; `given` is a pose in the sender's world."""

    number: int
    time_ns: int
    picture: Picture
    given: Float64[np.ndarray, "4 4"] | None = None


def as_arrival(keyframe: Keyframe) -> Arrival:
    """A keyframe as the frame that it was."""
    return Arrival(keyframe.number, keyframe.time_ns, as_picture(keyframe), keyframe.given)


@dataclass(frozen=True, eq=False)
class Window:
    """Some keyframes (`past`, the first rows) and new frames as the network saw them together.

    `posed` is the same as arrays, of keyframes only the pixels in the map; `kept` are the pixels
    that may become Gaussians, `placed` is how the window lies in the map, `tied` what is known of
    the first new frame beside the keyframes: (row, expected error of the pose in radians and over
    the depth).
    """

    prediction: Prediction
    views: Views
    posed: PosedViews
    past: tuple[Keyframe, ...]
    kept: Bool[np.ndarray, "v h w"]
    placed: Placement
    tied: tuple[tuple[int, float], ...] = ()
    _middles: dict[int, float] = field(default_factory=dict)

    def local_pose(self, row: int) -> Float64[np.ndarray, "4 4"]:
        """The pose of a view in the window's own world."""
        return self.posed.world_from_camera[row]

    def pose(self, row: int) -> Float64[np.ndarray, "4 4"]:
        """The pose of a view in the world of the map."""
        return self.placed.similarity.poses(self.local_pose(row)[None])[0]

    def intrinsics(self, row: int) -> Float32[np.ndarray, "3 3"]:
        """The lens of a view, in its pixels."""
        return self.prediction.intrinsics[0, row].float().numpy()

    def footprint(self) -> float:
        """The median side of what a pixel shows, in the window's own unit."""
        focal = self.prediction.intrinsics[0, :, 0, 0, None, None]
        return float((self.prediction.depth[0] / focal).median())

    def middle(self, row: int) -> float:
        """The median depth of a view, in the window's own unit."""
        if row not in self._middles:
            depth = self.posed.depth[row][self.kept[row]]
            self._middles[row] = median(depth) if len(depth) else 1.0
        return self._middles[row]


def by_one(window: Window, row: int, submaps: Mapping[int, Similarity]) -> Similarity:
    """How a window lies in the world by one of its keyframes alone: its pose and its depths."""
    one = window.past[row]
    known = one.depth[THINNED].astype(np.float32) * np.float32(submaps[one.submap].scale)
    found = window.posed.depth[row][THINNED]
    usable = window.kept[row][THINNED] & (known > 0) & (found > 0)
    ratios = known[usable] / found[usable]
    scale = median(ratios) if len(ratios) else window.placed.similarity.scale
    return through(window.local_pose(row), world_poses([one], submaps)[0], scale)


def see(
    predictor: Predictor,
    past: Sequence[Keyframe],
    arrivals: Sequence[Arrival],
    min_confidence: float,
    clock: Clock,
    anew: bool = False,
) -> Window:
    """Send keyframes and new frames through the network; the window is not placed yet.

    `anew` asks for the Gaussians of keyframes too, as if they were new.
    """
    pictures = [as_picture(one) for one in past] + [one.picture for one in arrivals]
    colors, views = gather(pictures)
    clock.stop("place")
    prediction = predictor.predict(views, 0 if anew else len(past))
    clock.stop("network")
    new = range(len(past), len(pictures))
    said, valid = take_prediction(prediction, new), views.valid[len(past) :]
    fresh = kept_pixels(said, valid, min_confidence, MIN_OPACITY)
    known = [one.valid[None] for one in past]
    # The network sees whole photos; the map compares only what it may hold of its keyframes.
    views = replace(views, valid=np.concatenate([*known, valid]))
    posed = PosedViews.of(prediction, colors, views.valid)
    return Window(prediction, views, posed, tuple(past), np.concatenate([*known, fresh]), FIRST)


def is_finite(prediction: Prediction, first: int = 0) -> bool:
    """Whether all that places, shapes and finds Gaussians is a number.

    Of views before the `first` one only what places them counts. Logits may be anything: what they
    are turned into is bounded.
    """
    placing = (
        prediction.depth, prediction.depth_error, prediction.world_from_camera,
        prediction.intrinsics,
    )  # fmt: skip
    shaping = (
        prediction.offsets, prediction.scales, prediction.quaternions_wxyz,
        prediction.opacities, prediction.colors, prediction.instances, prediction.descriptors,
        prediction.token_descriptors, prediction.features,
    )  # fmt: skip
    new = prediction.depth.shape[1] - first
    values = [*placing, *(one[:, -new:] for one in shaping if one is not None)]
    return all(are_finite(one.float().numpy().reshape(-1).view(np.int32)) for one in values)


@brief
def are_finite(bits):
    """Whether numbers are finite, by their bits in float32: in no finite one all exponent bits are.

    Without a branch compilers make one loop of it for many numbers at once.
    """
    all_set, found = np.int32(0x7F800000), False
    for i in range(len(bits)):
        found |= (bits[i] & all_set) == all_set
    return not found
