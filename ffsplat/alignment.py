"""Similarity transforms between two views of one world: found by least squares, robustly, applied.

`points` that two runs of a network place at different spots tell how one run's world lies in the
other's. The functions are plain numpy in float64, and know nothing of networks or files.
"""

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64

from ffsplat.geometry import (
    quaternion_from_matrix,
    quaternion_multiply,
    vector_from_rotation,
)
from ffsplat.types import Cameras, Gaussians, Scene

COLLINEAR = 1e-3
"""Spread across a line over that along it, from which points no longer fix the turn about it."""

KERNEL = 3.0
"""Standard deviations at which a residual counts a quarter."""

MEDIAN_OF_MAXWELL = 1.538
"""Median length of a 3D vector whose coordinates have a standard deviation of 1."""

GUESSES = 128
"""Triples of points that are tried to begin with: of half of the points being wrong, all triples
would hold one with a probability of 4e-8."""

SCORED = 1000
"""Points, evenly spaced, that tell which of these to begin with."""

MAX_STEPS = 50


class DegenerateAlignment(ValueError):
    """The points, or the cameras, do not fix the transform."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """The map x -> scale * rotation @ x + translation, an element of Sim(3)."""

    scale: float
    rotation: Float64[np.ndarray, "3 3"]
    translation: Float64[np.ndarray, "3"]

    @classmethod
    def identity(cls) -> "Similarity":
        """The map that leaves all where it is."""
        return cls(1.0, np.eye(3), np.zeros(3))

    def __matmul__(self, other: "Similarity") -> "Similarity":
        """The map that applies `other` first, then this one."""
        return Similarity(
            self.scale * other.scale,
            self.rotation @ other.rotation,
            self.scale * self.rotation @ other.translation + self.translation,
        )

    def inverse(self) -> "Similarity":
        """The map that undoes this one."""
        turned = self.rotation.T @ self.translation
        return Similarity(1 / self.scale, self.rotation.T, -turned / self.scale)

    def points(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Points after the map, in the precision that they came in."""
        moved = self.scale * points @ self.rotation.T + self.translation
        return moved.astype(points.dtype)

    def poses(self, world_from_camera: Float[np.ndarray, "v 4 4"]) -> Float[np.ndarray, "v 4 4"]:
        """Camera poses after the map; they stay rigid, the scale acts on centres alone."""
        moved = world_from_camera.copy()
        moved[:, :3, :3] = self.rotation @ world_from_camera[:, :3, :3]
        moved[:, :3, 3] = self.points(world_from_camera[:, :3, 3])
        return moved

    def cameras(self, cameras: Cameras) -> Cameras:
        """Cameras after the map."""
        return replace(cameras, world_from_camera=self.poses(cameras.world_from_camera))

    def gaussians(self, gaussians: Gaussians) -> Gaussians:
        """Gaussians after the map: centres, sizes, axes, and colours that depend on direction."""
        turn = quaternion_from_matrix(torch.from_numpy(self.rotation)).float()
        quaternions = torch.from_numpy(gaussians.quaternions_wxyz)
        return replace(
            gaussians,
            means=self.points(gaussians.means),
            scales=gaussians.scales * np.float32(self.scale),
            quaternions_wxyz=quaternion_multiply(turn.expand_as(quaternions), quaternions).numpy(),
            sh=rotate_harmonics(gaussians.sh, self.rotation),
        )

    def scene(self, scene: Scene) -> Scene:
        """A scene after the map: its Gaussians and its cameras."""
        cameras = None if scene.cameras is None else self.cameras(scene.cameras)
        return replace(scene, gaussians=self.gaussians(scene.gaussians), cameras=cameras)


@dataclass(frozen=True, eq=False)
class Alignment:
    """A similarity, how far it leaves each point from its target, and how much each was trusted.

    `residuals` are in units of the target, `trust` is in [0, 1].
    """

    similarity: Similarity
    residuals: Float64[np.ndarray, " n"]
    trust: Float64[np.ndarray, " n"]


def fit_similarity(
    source: Float[np.ndarray, "n 3"],
    target: Float[np.ndarray, "n 3"],
    weights: Float[np.ndarray, " n"] | None = None,
    scale: float | None = None,
) -> Similarity:
    """The similarity with the least weighted sum of |s R source + t - target|^2.

    `weights` count a point as often; `scale` locks s. Raises DegenerateAlignment for fewer than
    three points of positive weight, points in one place or on one line, and values not finite.
    Source: Umeyama, IEEE TPAMI 13(4), 1991, equations 34-42.
    """
    source, target = source.astype(np.float64), target.astype(np.float64)
    weights = np.ones(len(source)) if weights is None else weights.astype(np.float64)
    if np.count_nonzero(weights) < 3:
        raise DegenerateAlignment("fewer than three points")
    if not (np.isfinite(source).all() and np.isfinite(target).all() and np.isfinite(weights).all()):
        raise DegenerateAlignment("a point is not finite")
    shares = weights / weights.sum()
    middle_source, middle_target = shares @ source, shares @ target
    source, target = source - middle_source, target - middle_target
    left, spread, right = np.linalg.svd((target * shares[:, None]).T @ source)
    # Singular values are products of two standard deviations.
    if not spread[1] > COLLINEAR**2 * spread[0]:
        raise DegenerateAlignment("the points lie on one line or in one place")
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    if scale is None:
        scale = float(spread @ signs / (shares @ np.square(source).sum(1)))
    return Similarity(scale, rotation, middle_target - scale * rotation @ middle_source)


def robust_similarity(
    source: Float[np.ndarray, "n 3"],
    target: Float[np.ndarray, "n 3"],
    errors: Float[np.ndarray, " n"] | None = None,
    weights: Float[np.ndarray, " n"] | None = None,
    scale: float | None = None,
) -> Alignment:
    """The similarity that most points agree on; the others hardly count.

    `errors` is the expected distance of a pair of points, in units of the target and up to one
    factor; the residuals themselves tell that. `weights` and `scale` are those of
    `fit_similarity`, as is what is raised. Of the fits to all points and to GUESSES triples, always
    the same ones, that with the least median error comes first; then points are weighed by Geman
    and McClure's kernel, as wide as the median error says, until nothing changes.
    Sources: Rousseeuw, "Least median of squares regression", 1984; Holland and Welsch, "Robust
    regression using iteratively reweighted least-squares", 1977.
    """
    source, target = source.astype(np.float64), target.astype(np.float64)
    errors = np.ones(len(source)) if errors is None else errors.astype(np.float64)
    weights = np.ones(len(source)) if weights is None else weights.astype(np.float64)
    base = weights / np.square(errors)

    def squared(fitted: Similarity, step: int = 1) -> Float64[np.ndarray, " n"]:
        apart = fitted.points(source[::step]) - target[::step]
        return np.square(apart).sum(1) / np.square(errors[::step])

    guesses = [fit_similarity(source, target, base, scale), *_guesses(source, target, scale)]
    step = max(1, len(source) // SCORED)
    fitted = min(guesses, key=lambda one: _weighted_median(squared(one, step), weights[::step]))
    # Exact points have no median error; what rounding leaves is none either.
    floor = 1e-12 * np.square(target - target.mean(0)).sum(1).max() / np.square(errors).max()
    trust = np.ones(len(source))
    for _ in range(MAX_STEPS):
        found = squared(fitted)
        variance = _weighted_median(found, weights) / MEDIAN_OF_MAXWELL**2
        width = max(KERNEL**2 * variance, floor)
        trust = np.square(width / (found + width))
        before, fitted = fitted, fit_similarity(source, target, base * trust, scale)
        if _nearly(before, fitted):
            break
    return Alignment(fitted, np.sqrt(squared(fitted)) * errors, trust)


def _guesses(
    source: Float64[np.ndarray, "n 3"], target: Float64[np.ndarray, "n 3"], scale: float | None
) -> list[Similarity]:
    """Fits to triples of points; those that fix no transform are left out."""
    guesses = []
    for rows in np.random.default_rng(0).integers(0, len(source), (GUESSES, 3)):
        with suppress(DegenerateAlignment):
            guesses.append(fit_similarity(source[rows], target[rows], None, scale))
    return guesses


def camera_similarity(
    source: Float[np.ndarray, "v 4 4"],
    target: Float[np.ndarray, "v 4 4"],
    scale: float | None = None,
    weights: Float[np.ndarray, " v"] | None = None,
) -> Similarity:
    """The similarity that best maps poses of the same cameras (world_from_camera) on each other.

    The turn is the chordal mean of the cameras' own, so that one camera is enough when `scale` is
    given; else the scale is the ratio of the spreads of the centres. `weights` count a camera as
    often. Raises DegenerateAlignment without a camera, and where centres in one place tell no
    scale.
    Source: Hartley et al., "Rotation averaging", IJCV 103, 2013, section 5.3.
    """
    if not len(source):
        raise DegenerateAlignment("no camera")
    source, target = source.astype(np.float64), target.astype(np.float64)
    shares = np.full(len(source), 1 / len(source)) if weights is None else weights / weights.sum()
    turns = target[:, :3, :3] @ source[:, :3, :3].transpose(0, 2, 1)
    left, _, right = np.linalg.svd(np.tensordot(shares, turns, 1))
    rotation = (left * np.array([1.0, 1.0, np.linalg.det(left) * np.linalg.det(right)])) @ right
    middle_source, middle_target = shares @ source[:, :3, 3], shares @ target[:, :3, 3]
    if scale is None:
        away = source[:, :3, 3] - middle_source, target[:, :3, 3] - middle_target
        spreads = [np.sqrt(shares @ np.square(one).sum(1)) for one in away]
        if not min(spreads) > 0:
            raise DegenerateAlignment("the cameras are in one place")
        scale = float(spreads[1] / spreads[0])
    return Similarity(scale, rotation, middle_target - scale * rotation @ middle_source)


def rotate_harmonics(
    sh: Float[np.ndarray, "n k 3"], rotation: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "n k 3"]:
    """Spherical harmonics of colours that turn with the scene: new(R d) = old(d) for directions d.

    Band l turns by exp(-i w J), w the rotation vector and J the angular momenta of spin l, taken
    to the real basis of 3DGS. Source: Sakurai, "Modern Quantum Mechanics", sections 3.5 and 3.6.
    """
    degree = int(np.sqrt(sh.shape[1])) - 1
    if not degree:
        return sh
    vector = vector_from_rotation(torch.from_numpy(np.ascontiguousarray(rotation)).double()).numpy()
    bands = [sh[:, :1]]
    for order in range(1, degree + 1):
        band = sh[:, order**2 : (order + 1) ** 2]
        bands.append(np.einsum("ij,njc->nic", _band_rotation(order, vector), band))
    return np.concatenate(bands, axis=1).astype(sh.dtype)


def _band_rotation(order: int, vector: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "m m"]:
    """The matrix that turns coefficients of one band, rows m = -order .. order."""
    m = np.arange(-order, order + 1)
    raising = np.diag(np.sqrt(order * (order + 1) - m[:-1] * (m[:-1] + 1)), -1)
    momenta = (raising + raising.T) / 2, (raising - raising.T) / 2j, np.diag(m)
    values, states = np.linalg.eigh(sum(w * j for w, j in zip(vector, momenta, strict=True)))
    turn = (states * np.exp(-1j * values)) @ states.conj().T
    real = np.zeros((2 * order + 1,) * 2, complex)
    real[order, order] = 1
    for k in range(1, order + 1):  # sqrt(2) times real and imaginary part of Y_k
        sign = (-1) ** k
        real[order + k, [order + k, order - k]] = np.array([1, sign]) / np.sqrt(2)
        real[order - k, [order + k, order - k]] = np.array([1, -sign]) / (1j * np.sqrt(2))
    return np.real(real.conj() @ turn @ real.T)


def _weighted_median(
    values: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, " n"]
) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(total, total[-1] / 2)]])


def _nearly(one: Similarity, other: Similarity) -> bool:
    """Whether two similarities are the same to nine digits."""
    change = np.abs(one.rotation - other.rotation).max()
    drift = np.abs(one.translation - other.translation).max()
    size = 1 + np.abs(other.translation).max()
    return bool(change < 1e-9 and drift < 1e-9 * size and abs(one.scale / other.scale - 1) < 1e-9)
