"""Where a pass lies in the map: by the views that it shares with the pass before it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from ffsplat.alignment import Similarity, camera_similarity
from ffsplat.compiled import exactly_compiled
from ffsplat.medians import weighted_median

AGREE = 0.2
"""Two passes agree on a pixel if they place it within this share of its depth."""

TURN_ERROR = 0.05
"""Error of the turn of a shared camera, in radians, if nothing is known of it."""

JUDGED = 4096
"""Pairs of points that tell how well a placement by cameras fits."""


@dataclass(frozen=True, eq=False)
class Shared:
    """What one pass says of views that another sees too, in a world of its own.

    `errors` is the expected error of the log of `depth`; `lenses` are (fx, fy, cx, cy) in pixels of
    these maps, `poses` world_from_camera.
    """

    depth: Float32[np.ndarray, "v h w"]
    errors: Float32[np.ndarray, "v h w"]
    lenses: Float64[np.ndarray, "v 4"]
    poses: Float64[np.ndarray, "v 4 4"]

    def points(self) -> tuple[Float32[np.ndarray, "v h w 3"], Float32[np.ndarray, "v h w"]]:
        """Where the pixels are in the world, and the expected distance of each from the truth."""
        points, distances = np.empty((*self.depth.shape, 3), np.float32), np.empty_like(self.depth)
        _write_points(self.depth, self.errors, self.lenses, self.poses, points, distances)
        return points, distances


@dataclass(frozen=True, eq=False)
class Placement:
    """How a pass lies in the map."""

    similarity: Similarity
    error: float = 0.0
    """What may be expected of the turn, in radians, and of the place over the depth."""
    judge: Callable[[], float] = lambda: 1.0
    """What tells `agreement`: a frame is placed without it."""

    @cached_property
    def agreement(self) -> float:
        """How well it fits there: the share of shared pixels, by confidence, that lie within AGREE
        of their depth from where the map has them.
        """
        return self.judge()


FIRST = Placement(Similarity.identity())
"""The first pass is where the map begins."""


def place(
    found: Shared,
    known: Shared,
    valid: Bool[np.ndarray, "v h w"],
    errors: Float64[np.ndarray, " v"] | None = None,
) -> Placement:
    """The similarity by the turns and centres of shared cameras, and the ratio of their depths.

    `errors` is what may be expected of each camera, in radians and over the depth (TURN_ERROR,
    unless given): they count by its inverse, not its square, for cameras of one pass err together;
    one that contradicts the surest by more than both may err counts less, as Cauchy has it. The
    ratio is a median by the same weights.

    A network tells turns better than depths: on walks through rooms with ffsplat-tiny they keep the
    direction as well as a robust fit to 8192 points does, in a tenth of the time.
    """
    errors = np.full(len(found.poses), TURN_ERROR) if errors is None else errors
    weights = _weights(found, known, errors)
    rows = _pairs(found, known, valid)
    counted = weights[rows // valid[0].size]
    ratio = _ratio(found, known, rows, counted)
    similarity = camera_similarity(found.poses, known.poses, ratio, weights)
    error = float(1 / np.sqrt((weights / errors).sum()))
    return Placement(
        similarity, error, partial(_agreement, similarity, found, known, rows, counted)
    )


def _weights(
    found: Shared, known: Shared, errors: Float64[np.ndarray, " v"]
) -> Float64[np.ndarray, " v"]:
    """How much each camera counts: less where it contradicts the surest one."""
    turns = known.poses[:, :3, :3] @ found.poses[:, :3, :3].transpose(0, 2, 1)
    surest = int(errors.argmin())
    traces = np.einsum("vij,ij->v", turns, turns[surest])
    off = np.arccos(np.clip((traces - 1) / 2, -1, 1))
    squared = np.square(errors)
    return 1 / (errors * (1 + np.square(off) / (squared + squared[surest])))


def _ratio(
    found: Shared, known: Shared, rows: Int64[np.ndarray, " n"], weights: Float64[np.ndarray, " n"]
) -> float:
    """The map's unit over the pass's: the median ratio of depths, 1 if there is none."""
    if not len(rows):
        return 1.0
    logs = np.log(known.depth.ravel()[rows]) - np.log(found.depth.ravel()[rows])
    return math.exp(weighted_median(logs, weights.copy()))


def _pairs(
    found: Shared, known: Shared, valid: Bool[np.ndarray, "v h w"]
) -> Int64[np.ndarray, " n"]:
    """Pixels, as flat indices, whose depth both know: all, or every second, third and so on."""
    rows = np.empty(valid.size, np.int64)
    count = _write_pairs(*(_flat(one) for one in (valid, found.depth, known.depth)), rows)
    return np.ascontiguousarray(rows[: count : max(1, count // JUDGED)])


def _agreement(
    similarity: Similarity,
    found: Shared,
    known: Shared,
    rows: Int64[np.ndarray, " n"],
    counted: Float64[np.ndarray, " n"],
) -> float:
    if not len(rows):
        return 0.0
    (points, errors), (targets, known_errors) = found.points(), known.points()
    turn = tuple((similarity.scale * similarity.rotation).ravel().tolist())
    return 1 - _contrary(
        _flat(points), _flat(targets), _flat(known.depth), _flat(errors), _flat(known_errors), rows,
        counted, similarity.scale, turn, tuple(similarity.translation.tolist()),
    )  # fmt: skip


_brief = partial(exactly_compiled, nogil=False)  # a frame does not wait to go on


def _flat(array: np.ndarray) -> np.ndarray:
    """All values one after the other, of the one kind that the kernels are compiled for."""
    return np.require(array, requirements=["C", "W"]).reshape(-1)


@_brief
def _write_pairs(valid, found, known, rows):
    """Write the indices of pixels that are valid and have two depths; how many there are."""
    count = 0
    for i in range(len(valid)):
        if valid[i] and 0 < found[i] < np.inf and 0 < known[i] < np.inf:
            rows[count] = i
            count += 1
    return count


@_brief
def _write_points(depth, errors, lenses, poses, points, distances):
    for view in range(len(depth)):
        fx, fy, cx, cy = lenses[view]
        pose = poses[view]
        for i in range(depth.shape[1]):
            for j in range(depth.shape[2]):
                z = depth[view, i, j]
                x, y = (j + 0.5 - cx) / fx * z, (i + 0.5 - cy) / fy * z
                for k in range(3):
                    across = pose[k, 0] * x + pose[k, 1] * y + pose[k, 2] * z
                    points[view, i, j, k] = across + pose[k, 3]
                distances[view, i, j] = math.sqrt(x * x + y * y + z * z) * errors[view, i, j]


@_brief
def _contrary(points, targets, depth, errors, known_errors, rows, counted, scale, turn, move):
    """The share of points that end far from their targets, over depth.

    Pairs weigh as much as their expected error is small, at least a hundredth of the depth.
    """
    contrary = total = 0.0
    for i in range(len(rows)):
        row = rows[i]
        x, y, z = points[3 * row], points[3 * row + 1], points[3 * row + 2]
        square = 0.0
        for k in range(3):
            there = turn[3 * k] * x + turn[3 * k + 1] * y + turn[3 * k + 2] * z + move[k]
            square += (there - targets[3 * row + k]) ** 2
        error = math.hypot(known_errors[row], scale * errors[row])
        weight = counted[i] * (depth[row] / max(error, 0.01 * depth[row])) ** 2
        total += weight
        contrary += weight if math.sqrt(square) >= AGREE * depth[row] else 0.0
    return contrary / total
