"""Where a pass lies in the map: by the views that it shares with the pass before it."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64

from ffsplat.alignment import (
    DegenerateAlignment,
    Similarity,
    camera_similarity,
    robust_similarity,
)
from ffsplat.geometry import transform_points, unproject
from ffsplat.prediction import Prediction

MAX_POINTS = 8192
"""Pairs of points that a pass is placed by; of more, evenly spaced ones are used."""

AGREE = 0.2
"""Two passes agree on a pixel if they place it within this share of its depth."""

MIN_AGREEMENT = 0.5
"""Share of pixels that must agree, weighed by confidence."""

MIN_POINTS = 50

JUDGED = 4096
"""Pairs of points that tell how well a placement by cameras fits."""

CAMERAS_PART = 0.2
"""Weight of the centres of the shared cameras, over that of all pixels."""


@dataclass(frozen=True, eq=False)
class Shared:
    """What one pass says of views that another sees too, in a world of its own.

    `errors` is the expected distance of each of the `points` from the truth, `depth` its depth; all
    three are in one unit, as are the `poses` (world_from_camera).
    """

    points: Float32[np.ndarray, "v h w 3"]
    depth: Float32[np.ndarray, "v h w"]
    errors: Float32[np.ndarray, "v h w"]
    poses: Float64[np.ndarray, "v 4 4"]

    def moved(self, by: Similarity) -> "Shared":
        """The same after a change of the world."""
        scale = np.float32(by.scale)
        return Shared(
            by.points(self.points), scale * self.depth, scale * self.errors, by.poses(self.poses)
        )


@dataclass(frozen=True, eq=False)
class Placement:
    """How a pass lies in the map, and how well it fits there.

    `agreement` is the share of shared pixels, by confidence, that lie within AGREE of their depth
    from where the map has them; `seam` the median distance from there, over depth.
    """

    similarity: Similarity
    by: Literal["first", "points", "cameras"]
    agreement: float
    seam: float
    turn: float = 0.0
    """Median angle, in radians, by which shared cameras are turned from where the map has them."""


FIRST = Placement(Similarity.identity(), "first", 1.0, 0.0)
"""The first pass is where the map begins."""


def shared_views(prediction: Prediction, rows: list[int]) -> Shared:
    """What a prediction says of these of its views, in its own world."""
    depth = prediction.depth[0, rows].float()
    poses = prediction.world_from_camera[0, rows].float()
    local = unproject(depth, prediction.intrinsics[0, rows].float())
    world = transform_points(poses, local.flatten(1, 2)).reshape(local.shape)
    errors = local.norm(dim=-1) * prediction.depth_error[0, rows].float()
    numpy = (value.cpu().numpy() for value in (world, depth, errors, poses.double()))
    return Shared(*numpy)


def place(
    found: Shared,
    known: Shared,
    valid: Bool[np.ndarray, "v h w"],
    scale: float | None = None,
) -> Placement:
    """The similarity from a new pass to the map, by the same views in both.

    Pixels are weighed by the errors that both passes expect of them, and robustly
    (`robust_similarity`); camera centres count a little. If these cannot settle it - too few
    pixels, or less than MIN_AGREEMENT of them agree in the end - cameras do, by their turns and
    centres and the ratio of depths. `scale` locks the scale.
    """
    usable = valid & np.isfinite(found.points).all(-1) & np.isfinite(known.points).all(-1)
    usable &= (found.depth > 0) & (known.depth > 0) & (found.errors > 0) & (known.errors > 0)
    rows = np.flatnonzero(usable)
    rows = rows[:: max(1, len(rows) // MAX_POINTS)]
    ratio = _ratio(found, known, rows) if scale is None else scale
    source, target = (one.points.reshape(-1, 3)[rows] for one in (found, known))
    depth = known.depth.ravel()[rows]
    errors = np.hypot(known.errors.ravel()[rows], ratio * found.errors.ravel()[rows])
    # No point may outweigh the others: what a network is surest of, it is still off by a percent.
    errors = np.maximum(errors, np.float32(0.01) * depth)
    try:
        if len(rows) < MIN_POINTS:
            raise DegenerateAlignment("too few points")
        similarity = _fit(found, known, source, target, errors, scale)
        placed = _judge(similarity, "points", source, target, depth, errors)
        if placed.agreement >= MIN_AGREEMENT:
            return placed
    except DegenerateAlignment:
        pass
    similarity = camera_similarity(found.poses, known.poses, ratio)
    return _judge(similarity, "cameras", source, target, depth, errors)


def place_by_cameras(
    found: Shared,
    known: Shared,
    valid: Bool[np.ndarray, "v h w"],
    scale: float | None = None,
) -> Placement:
    """The similarity by the turns and centres of shared cameras, and the ratio of their depths.

    Much quicker than `place`, and as good where cameras are surer than depths: on walks through
    rooms with ffsplat-tiny their turns keep the direction as well as 8192 points do. The agreement
    of the points is told all the same. `scale` locks the scale.
    """
    usable = valid & (found.depth > 0) & (known.depth > 0)
    usable &= np.isfinite(found.depth) & np.isfinite(known.depth)
    rows = np.flatnonzero(usable)
    rows = rows[:: max(1, len(rows) // JUDGED)]
    ratio = _ratio(found, known, rows) if scale is None else scale
    similarity = camera_similarity(found.poses, known.poses, ratio)
    turned = similarity.rotation @ found.poses[:, :3, :3]
    traces = np.einsum("vij,vij->v", turned, known.poses[:, :3, :3])
    turn = float(np.median(np.arccos(np.clip((traces - 1) / 2, -1, 1))))
    source, target = (one.points.reshape(-1, 3)[rows] for one in (found, known))
    errors = np.hypot(known.errors.ravel()[rows], ratio * found.errors.ravel()[rows])
    depth = known.depth.ravel()[rows]
    errors = np.maximum(errors, np.float32(0.01) * depth)
    return replace(_judge(similarity, "cameras", source, target, depth, errors), turn=turn)


def _fit(
    found: Shared,
    known: Shared,
    source: Float32[np.ndarray, "n 3"],
    target: Float32[np.ndarray, "n 3"],
    errors: Float32[np.ndarray, " n"],
    scale: float | None,
) -> Similarity:
    """By pixels and camera centres."""
    cameras = len(found.poses)
    weights = np.ones(len(source) + cameras)
    weights[len(source) :] = CAMERAS_PART * len(source) / cameras
    return robust_similarity(
        np.concatenate([source, found.poses[:, :3, 3]]),
        np.concatenate([target, known.poses[:, :3, 3]]),
        np.append(errors, np.full(cameras, np.median(errors))),
        weights,
        scale,
    ).similarity


def _ratio(found: Shared, known: Shared, rows: np.ndarray) -> float:
    """The map's unit over the pass's: the median ratio of depths, 1 if there is none."""
    if not len(rows):
        return 1.0
    logs = np.log(known.depth.ravel()[rows]) - np.log(found.depth.ravel()[rows])
    return float(np.exp(np.median(logs)))


def _judge(
    similarity: Similarity,
    by: Literal["points", "cameras"],
    source: Float32[np.ndarray, "n 3"],
    target: Float32[np.ndarray, "n 3"],
    depth: Float32[np.ndarray, " n"],
    errors: Float32[np.ndarray, " n"],
) -> Placement:
    if not len(source):
        return Placement(similarity, by, 0.0, np.inf)
    apart = np.linalg.norm(similarity.points(source) - target, axis=1) / depth
    weights = np.square(depth / errors, dtype=np.float64)
    agreement = 1 - float(weights[apart >= AGREE].sum() / weights.sum())
    return Placement(similarity, by, agreement, float(np.median(apart)))
