"""The poses that fit measured relative poses best: robust Levenberg-Marquardt on Sim(3).

    minimise  sum over edges of  rho(r' I_ij r),  r = log(Z_ij^-1 S_i^-1 S_j)

with S <- S exp(x); rho is the identity, and for loops the kernel of Geman and McClure, first so
wide that it is convex, then narrower from step to step (graduated non-convexity: Yang, Antonante,
Tzoumas and Carlone, RA-L 2020). Sources: Strasdat, Montiel and Davison, RSS 2010;
More, "The Levenberg-Marquardt algorithm", 1978.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ffsplat.stream.graph import sim3
from ffsplat.stream.graph.elimination import Order, elimination_order, solve

KERNEL = 14.07
"""Squared error at which a loop counts a quarter: 95 % of chi-squared with 7 degrees of freedom."""
NARROWING = 3.0
"""Factor by which the kernel's square narrows in a step."""
DAMPING = 1e-4
"""Share of its own curvature that holds each pose back at first."""
CONVERGED = 1e-9
"""Sum of the squared changes of all residuals, in standard deviations, that counts as none."""


@dataclass(frozen=True, eq=False)
class Constraints:
    """Measured poses i_from_j as matrices, and the information (inverse covariance) at j."""

    ends: Int64[np.ndarray, "m 2"]
    measured: Float64[np.ndarray, "m 4 4"]
    information: Float64[np.ndarray, "m 7 7"]
    loops: Bool[np.ndarray, " m"]


@dataclass(frozen=True, eq=False)
class _System:
    """Normal equations of the poses that may move: matrix, and gradient with its sign turned.

    Fixed poses share one row and column more, the last.
    """

    matrix: Float64[np.ndarray, "f_1 f_1 7 7"]
    vector: Float64[np.ndarray, "f_1 7"]


def fit_poses(
    poses: Float64[np.ndarray, "n 4 4"],
    fixed: Bool[np.ndarray, " n"],
    constraints: Constraints,
    lock_scale: bool,
    steps: int,
) -> Float64[np.ndarray, "n 4 4"]:
    """Poses world_from_node with the least robust cost that is found from these in some steps.

    `fixed` ones stay; with `lock_scale` scales stay, and what is measured of them is ignored.
    """
    if fixed.all():
        return poses
    free = np.flatnonzero(~fixed)
    places = np.where(fixed, len(free), np.cumsum(~fixed) - 1)[constraints.ends]
    adjacent = np.zeros((len(free) + 1, len(free) + 1), dtype=bool)
    adjacent[places[:, 0], places[:, 1]] = adjacent[places[:, 1], places[:, 0]] = True
    order = elimination_order(adjacent[:-1, :-1])
    used = np.arange(sim3.DIMENSIONS) < (6 if lock_scale else 7)
    constraints = replace(constraints, information=constraints.information * used * used[:, None])
    residuals = _residuals(poses, constraints)
    # Convex from twice the largest squared error on (Yang et al.).
    squares = _squares(residuals, constraints)
    width = max(1.0, 2 * squares[constraints.loops].max(initial=0) / KERNEL)
    damping = DAMPING
    for _ in range(steps):
        weights = _weights(residuals, constraints, width)
        jacobian = _jacobian(poses, constraints, residuals) * np.tile(used, 2)
        system = _system(jacobian, residuals, weights, places, len(free))
        moved = poses.copy()
        moved[free] = poses[free] @ sim3.exponential(_step(system, order, damping))
        found = _residuals(moved, constraints)
        gain = _cost(residuals, constraints, width) - _cost(found, constraints, width)
        small = _squares(found - residuals, constraints).sum() < CONVERGED
        if gain >= 0:
            poses, residuals, damping = moved, found, max(damping / 10, 1e-9)
        else:
            damping = min(damping * 10, 1e6)
        if small and width == 1:
            break
        width = max(1.0, width / NARROWING)
    return poses


def _residuals(
    poses: Float64[np.ndarray, "n 4 4"], constraints: Constraints
) -> Float64[np.ndarray, "m 7"]:
    """What is left of each edge, as tangents."""
    i, j = constraints.ends.T
    return sim3.logarithm(sim3.inverse(poses[i] @ constraints.measured) @ poses[j])


def _squares(
    residuals: Float64[np.ndarray, "m 7"], constraints: Constraints
) -> Float64[np.ndarray, " m"]:
    """Squared lengths of residuals, in standard deviations."""
    return np.einsum("mi,mij,mj->m", residuals, constraints.information, residuals)


def _weights(
    residuals: Float64[np.ndarray, "m 7"], constraints: Constraints, width: float
) -> Float64[np.ndarray, "m 7 7"]:
    """The information of each edge, of loops as far as they are believed.

    Source: Yang et al., 2020, who derive it from the kernel.
    """
    kernel = width * KERNEL
    belief = np.square(kernel / (kernel + _squares(residuals, constraints)))
    return constraints.information * np.where(constraints.loops, belief, 1.0)[:, None, None]


def _cost(residuals: Float64[np.ndarray, "m 7"], constraints: Constraints, width: float) -> float:
    squares, kernel = _squares(residuals, constraints), width * KERNEL
    robust = kernel * squares / (kernel + squares)
    return float(np.where(constraints.loops, robust, squares).sum())


def _jacobian(
    poses: Float64[np.ndarray, "n 4 4"],
    constraints: Constraints,
    residuals: Float64[np.ndarray, "m 7"],
) -> Float64[np.ndarray, "m 7 14"]:
    """How the residual of each edge changes with the poses at its two ends."""
    i, j = constraints.ends.T
    by_j = sim3.inverse_right_jacobian(residuals)
    by_i = -by_j @ sim3.adjoint(sim3.inverse(poses[j]) @ poses[i])
    return np.concatenate([by_i, by_j], axis=-1)


def _system(
    jacobian: Float64[np.ndarray, "m 7 14"],
    residuals: Float64[np.ndarray, "m 7"],
    weights: Float64[np.ndarray, "m 7 7"],
    places: Int64[np.ndarray, "m 2"],
    count: int,
) -> _System:
    """Gauss-Newton's normal equations of `count` poses, those that may move."""
    size = sim3.DIMENSIONS
    weighted = jacobian.swapaxes(1, 2) @ weights
    slopes = -(weighted @ residuals[..., None]).reshape(-1, 2, size)
    curvature = (weighted @ jacobian).reshape(-1, 2, size, 2, size).swapaxes(2, 3)
    vector = np.zeros((count + 1, size))
    matrix = np.zeros((count + 1, count + 1, size, size))
    np.add.at(vector, places, slopes)
    np.add.at(matrix, (places[:, :, None], places[:, None]), curvature)
    matrix[-1], matrix[:, -1], vector[-1] = 0, 0, 0
    return _System(matrix, vector)


def _step(system: _System, order: Order, damping: float) -> Float64[np.ndarray, "f 7"]:
    """The damped step of the poses that may move."""
    diagonal = np.einsum("iikk->ik", system.matrix)[:-1]  # a view
    # A number that nothing measures, or that is locked, has no curvature: it gets some, and stays.
    diagonal[:] = np.where(diagonal > 0, diagonal * (1 + damping), 1)
    return solve(system.matrix, system.vector, order)
