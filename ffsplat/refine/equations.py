"""Cameras, what matches see of them, and the normal equations of a step."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ffsplat.refine.matches import Matches
from ffsplat.refine.residuals import sum_pairs


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
    """`Matches` of one set of views: eight numbers of each of n matches of p pairs.

    They are the point (3), where the target sees it (2) and in what log depth, the error of that
    depth, and the confidence.
    """

    source: Int64[np.ndarray, " p"]
    target: Int64[np.ndarray, " p"]
    matches: Float64[np.ndarray, "p 8 n"]
    cell: float

    @classmethod
    def of(cls, matches: Matches, row: int) -> "Sightings":
        """Those of one set; the matches are on the CPU."""
        points, places = matches.points[row].mT.numpy(), matches.places[row].mT.numpy()
        rest = (matches.log_depth, matches.error, matches.confidence)
        parts = [points, places, *(part[row, :, None].numpy() for part in rest)]
        ends = matches.source.numpy(), matches.target.numpy()
        return cls(*ends, np.concatenate(parts, axis=1), float(matches.cell[row]))


def normal_equations(
    cameras: CameraState, seen: Sightings, error: float
) -> tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, "m m"]]:
    """Gradient and Gauss-Newton matrix of half the weighted squared residuals, m = 7 a view.

    `error` is the standard deviation of a match on rays with z = 1.
    """
    source, target, views = seen.source, seen.target, len(cameras.zoom)
    ends = np.stack([source, target], axis=1)
    relative = inverse(cameras.poses[target]) @ cameras.poses[source]
    sums = sum_pairs(relative, cameras.zoom[ends], seen.matches, error)
    to_ends = _to_ends(relative)
    slopes = to_ends @ sums[:, :8, 8:]
    curvature = to_ends @ sums[:, :8, :8] @ to_ends.transpose(0, 2, 1)
    # Each pair of views adds to two rows of the gradient and to four blocks of the matrix.
    gradient, hessian = np.zeros((views, 7)), np.zeros((views, views, 7, 7))
    np.add.at(gradient, ends, slopes.reshape(-1, 2, 7))
    blocks = curvature.reshape(-1, 2, 7, 2, 7).transpose(0, 1, 3, 2, 4)
    np.add.at(hessian, (ends[:, :, None], ends[:, None]), blocks)
    return gradient.ravel(), hessian.transpose(0, 2, 1, 3).reshape(7 * views, 7 * views)


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
