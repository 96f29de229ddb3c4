"""What matches say of cameras: residuals, their weights, and the normal equations of a step.

The covariance S = s^2 I + d^2 u u' of a match in the image holds its error s and, along the way
u = dr / dlog z that the target sees the point move with its depth, the error d that the network
expects of that depth: a match says where the epipolar line must pass even if its depth says little.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ffsplat.refine.matches import Matches

DEPTH_ERRORS = 2.0
"""Standard deviation of log depth over its expected absolute error: that of a Laplace density is
1.4, and neighbours err together."""
AGREEMENT = 0.5
"""Standard deviation of the difference of two views' log depths."""
OUTLIER = 2.0
"""Standard deviations at which a residual counts half."""
NEAREST = 1e-3
"""Depth below which a point is behind a camera."""


@dataclass(frozen=True, eq=False)
class CameraState:
    """Poses, and the log of each focal length over the one that the matches were made with."""

    poses: Float64[np.ndarray, "v 4 4"]
    zoom: Float64[np.ndarray, " v"]

    def moved(self, step: Float64[np.ndarray, "v 7"]) -> "CameraState":
        """T exp(twist) for each camera: rotation, then translation, then the log focal length."""
        poses = self.poses.copy()
        poses[:, :3, 3] += np.einsum("vij,vj->vi", self.poses[:, :3, :3], step[:, 3:6])
        poses[:, :3, :3] = self.poses[:, :3, :3] @ _rotations(step[:, :3])
        return CameraState(poses, self.zoom + step[:, 6])

    def from_start(self, start: "CameraState") -> Float64[np.ndarray, "v 7"]:
        """How far cameras are from others, as a step.

        Near the start the rotation vector is the skew part; a weak pull needs no more.
        """
        away = inverse(start.poses) @ self.poses
        turn, move = away[:, :3, :3], away[:, :3, 3]
        skew = 0.5 * (turn - turn.transpose(0, 2, 1))
        rotation = np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1)
        translation = np.einsum("vji,vj->vi", turn, move)
        return np.concatenate([rotation, translation, self.zoom[:, None]], axis=1)


@dataclass(frozen=True, eq=False)
class Sightings:
    """`Matches` of one set of views, coordinates first."""

    source: Int64[np.ndarray, " p"]
    target: Int64[np.ndarray, " p"]
    points: Float64[np.ndarray, "p 3 n"]
    places: Float64[np.ndarray, "p 2 n"]
    log_depth: Float64[np.ndarray, "p n"]
    error: Float64[np.ndarray, "p n"]
    confidence: Float64[np.ndarray, "p n"]
    cell: float

    @classmethod
    def of(cls, matches: Matches, row: int) -> "Sightings":
        """Those of one set; the matches are on the CPU."""
        points, places = (
            np.ascontiguousarray(part[row].mT.numpy()) for part in (matches.points, matches.places)
        )
        rest = (matches.log_depth, matches.error, matches.confidence)
        log_depth, error, confidence = (part[row].numpy() for part in rest)
        source, target = matches.source.numpy(), matches.target.numpy()
        cell = float(matches.cell[row])
        return cls(source, target, points, places, log_depth, error, confidence, cell)


def normal_equations(
    cameras: CameraState, seen: Sightings, error: float
) -> tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, "m m"]]:
    """Gradient and Gauss-Newton matrix of half the weighted squared residuals, m = 7 a view.

    `error` is the standard deviation of a match on rays with z = 1.
    """
    source, target, views = seen.source, seen.target, len(cameras.zoom)
    relative = inverse(cameras.poses[target]) @ cameras.poses[source]
    residual, weight, jacobian = linearize(
        relative, cameras.zoom[source], cameras.zoom[target], seen, error
    )
    flat = jacobian.reshape(len(source), 8, -1)
    weighted = (jacobian * weight[:, None]).reshape(flat.shape)
    to_ends = _to_ends(relative)
    slopes = to_ends @ (weighted @ residual.reshape(len(source), -1, 1))
    curvature = to_ends @ (weighted @ flat.transpose(0, 2, 1)) @ to_ends.transpose(0, 2, 1)
    # Each pair of views adds to two rows of the gradient and to four blocks of the matrix.
    gradient, hessian = np.zeros((views, 7)), np.zeros((views, views, 7, 7))
    ends = np.stack([source, target], axis=1)
    np.add.at(gradient, ends, slopes.reshape(-1, 2, 7))
    blocks = curvature.reshape(-1, 2, 7, 2, 7).transpose(0, 1, 3, 2, 4)
    np.add.at(hessian, (ends[:, :, None], ends[:, None]), blocks)
    return gradient.ravel(), hessian.transpose(0, 2, 1, 3).reshape(7 * views, 7 * views)


def linearize(
    relative: Float64[np.ndarray, "p 4 4"],
    zoom_source: Float64[np.ndarray, " p"],
    zoom_target: Float64[np.ndarray, " p"],
    seen: Sightings,
    error: float,
) -> tuple[
    Float64[np.ndarray, "p 3 n"], Float64[np.ndarray, "p 3 n"], Float64[np.ndarray, "p 8 3 n"]
]:
    """Residuals in standard deviations, their weights and their Jacobian.

    The first two residuals are the place in the target, the third is the log of its depth. The
    Jacobian is by a twist of the points in the target's frame (rotation, translation), then by the
    log focal lengths of source and target. `relative` is target_from_source.
    """
    turn, move = relative[:, :3, :3], relative[:, :3, 3, None]
    points = seen.points.copy()
    points[:, :2] *= np.exp(-zoom_source)[:, None, None]
    turned = turn @ points
    local = turned + move
    depth = np.maximum(local[:, 2], NEAREST)
    lens = np.exp(zoom_target)[:, None] / depth
    x, y = lens * local[:, 0], lens * local[:, 1]
    residual = np.stack([x - seen.places[:, 0], y - seen.places[:, 1], np.log(depth)], axis=1)
    residual[:, 2] -= seen.log_depth
    # Each column of the Jacobian is a direction that points move in, with its slope in the image
    # and in the log depth; the last row of `directions` is for `moved`.
    directions = np.zeros((len(x), 8, 3, x.shape[1]))
    for axis, (a, b) in enumerate(((1, 2), (2, 0), (0, 1))):
        # The unit vector of the axis, crossed with the point, and the unit vector itself.
        directions[:, axis, b], directions[:, axis, a] = local[:, a], -local[:, b]
        directions[:, 3 + axis, axis] = 1
    directions[:, 6] = -turn[:, :, :2] @ points[:, :2]
    directions[:, 7] = turned
    jacobian = directions
    jacobian[:, :, 2] /= depth[:, None]
    for row, image in enumerate((x, y)):
        jacobian[:, :, row] *= lens[:, None]
        jacobian[:, :, row] -= image[:, None] * jacobian[:, :, 2]
    moved = jacobian[:, 7, :2].copy()
    jacobian[:, 7, 0], jacobian[:, 7, 1], jacobian[:, 7, 2] = x, y, 0
    whiten(residual[:, None], moved, error, DEPTH_ERRORS * seen.error)
    whiten(jacobian, moved, error, DEPTH_ERRORS * seen.error)
    trusted = seen.confidence * (local[:, 2] > NEAREST)
    trusted = trusted / (1 + (residual[:, :2] ** 2).sum(1) / OUTLIER**2)
    agreeing = trusted / (1 + residual[:, 2] ** 2 / OUTLIER**2)
    return residual, np.stack([trusted, trusted, agreeing], axis=1), jacobian


def whiten(
    rows: Float64[np.ndarray, "p k 3 n"],
    moved: Float64[np.ndarray, "p 2 n"],
    error: float,
    depth_error: Float64[np.ndarray, "p n"],
) -> None:
    """Multiply in place by the root of S^-1 (see above), and depth by that of 1 / AGREEMENT^2.

    `moved` is u, `error` s and `depth_error` d.
    """
    squared = (moved**2).sum(1)
    shrink = 1 - error / np.sqrt(error**2 + depth_error**2 * squared)
    shrink /= np.maximum(squared, 1e-12)
    u, v = moved[:, None, 0], moved[:, None, 1]
    along = shrink[:, None] * (rows[:, :, 0] * u + rows[:, :, 1] * v)
    rows[:, :, 0] = (rows[:, :, 0] - along * u) / error
    rows[:, :, 1] = (rows[:, :, 1] - along * v) / error
    rows[:, :, 2] /= AGREEMENT


def _to_ends(relative: Float64[np.ndarray, "p 4 4"]) -> Float64[np.ndarray, "p 14 8"]:
    """Takes slopes by a twist in the target's frame and two zooms to those by steps of both views.

    A step of the source moves its points as R w and t x R w + R v do in the target's frame, one of
    the target moves them back.
    """
    turn, move = relative[:, :3, :3], relative[:, :3, 3]
    ends = np.zeros((len(relative), 14, 8))
    ends[:, 0:3, 0:3] = ends[:, 3:6, 3:6] = turn.transpose(0, 2, 1)
    ends[:, 0:3, 3:6] = (_crosses(move) @ turn).transpose(0, 2, 1)
    ends[:, 6, 6] = ends[:, 13, 7] = 1
    ends[:, 7:13, :6] = -np.eye(6)
    return ends


def inverse(poses: Float64[np.ndarray, "v 4 4"]) -> Float64[np.ndarray, "v 4 4"]:
    """The inverses of rigid transforms."""
    found = poses.copy()
    found[:, :3, :3] = poses[:, :3, :3].transpose(0, 2, 1)
    found[:, :3, 3] = -np.einsum("vij,vj->vi", found[:, :3, :3], poses[:, :3, 3])
    return found


def _rotations(vectors: Float64[np.ndarray, "v 3"]) -> Float64[np.ndarray, "v 3 3"]:
    """Rotations by vectors: axis times angle in radians (Rodrigues' formula)."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    cross = _crosses(vectors)
    half = np.sinc(angle / (2 * np.pi))
    return np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * half**2 * (cross @ cross)


def _crosses(vectors: Float64[np.ndarray, "v 3"]) -> Float64[np.ndarray, "v 3 3"]:
    """The matrices of cross products with vectors."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return np.stack(rows, axis=1).reshape(-1, 3, 3)
