"""Where a pass lies in the map: by the views that it shares with the pass before it."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64

from ffsplat.alignment import Similarity, camera_similarity
from ffsplat.geometry import transform_points, unproject
from ffsplat.prediction import Prediction

AGREE = 0.2
"""Two passes agree on a pixel if they place it within this share of its depth."""

JUDGED = 4096
"""Pairs of points that tell how well a placement by cameras fits."""


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
    agreement: float
    seam: float
    turn: float = 0.0
    """Median angle, in radians, by which shared cameras are turned from where the map has them."""


FIRST = Placement(Similarity.identity(), 1.0, 0.0)
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
) -> Placement:
    """The similarity by the turns and centres of shared cameras, and the ratio of their depths.

    A network tells turns better than depths: on walks through rooms with ffsplat-tiny they keep the
    direction as well as a robust fit to 8192 points does, in a tenth of the time. The ratio is a
    median, and how well the points agree is told.
    """
    usable = valid & (found.depth > 0) & (known.depth > 0)
    usable &= np.isfinite(found.depth) & np.isfinite(known.depth)
    rows = np.flatnonzero(usable)
    rows = rows[:: max(1, len(rows) // JUDGED)]
    ratio = _ratio(found, known, rows)
    similarity = camera_similarity(found.poses, known.poses, ratio)
    turned = similarity.rotation @ found.poses[:, :3, :3]
    traces = np.einsum("vij,vij->v", turned, known.poses[:, :3, :3])
    turn = float(np.median(np.arccos(np.clip((traces - 1) / 2, -1, 1))))
    source, target = (one.points.reshape(-1, 3)[rows] for one in (found, known))
    errors = np.hypot(known.errors.ravel()[rows], ratio * found.errors.ravel()[rows])
    depth = known.depth.ravel()[rows]
    errors = np.maximum(errors, np.float32(0.01) * depth)
    return replace(_judge(similarity, source, target, depth, errors), turn=turn)


def _ratio(found: Shared, known: Shared, rows: np.ndarray) -> float:
    """The map's unit over the pass's: the median ratio of depths, 1 if there is none."""
    if not len(rows):
        return 1.0
    logs = np.log(known.depth.ravel()[rows]) - np.log(found.depth.ravel()[rows])
    return float(np.exp(np.median(logs)))


def _judge(
    similarity: Similarity,
    source: Float32[np.ndarray, "n 3"],
    target: Float32[np.ndarray, "n 3"],
    depth: Float32[np.ndarray, " n"],
    errors: Float32[np.ndarray, " n"],
) -> Placement:
    if not len(source):
        return Placement(similarity, 0.0, np.inf)
    apart = np.linalg.norm(similarity.points(source) - target, axis=1) / depth
    weights = np.square(depth / errors, dtype=np.float64)
    agreement = 1 - float(weights[apart >= AGREE].sum() / weights.sum())
    return Placement(similarity, agreement, float(np.median(apart)))
