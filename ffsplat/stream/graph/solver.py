"""The poses that fit measured relative poses best: robust Levenberg-Marquardt on Sim(3).

    minimise  sum over edges of  rho(r' I_ij r),  r = log(Z_ij^-1 S_i^-1 S_j)

with S <- S exp(x); rho is the identity, and for loops the kernel of Geman and McClure, first so
wide that it is convex, then narrower from step to step (graduated non-convexity: Yang, Antonante,
Tzoumas and Carlone, RA-L 2020). Sources: Strasdat, Montiel and Davison, RSS 2010;
More, "The Levenberg-Marquardt algorithm", 1978.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ffsplat.stream.graph import lie, sim3
from ffsplat.stream.graph.elimination import Order, elimination_order, solve
from ffsplat.stream.map.compiled import lean

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

    def scaleless(self) -> "Constraints":
        """The same without what is measured of scales."""
        used = np.arange(sim3.DIMENSIONS) < sim3.DIMENSIONS - 1
        return replace(self, information=self.information * used * used[:, None])


class Fit:
    """A search for the poses world_from_node of the least robust cost, gone on with step by step.

    `poses` are the best so far; those that are `fixed` stay. With `lock_scale` scales stay, and
    what is measured of them is ignored. `done` says that steps change nothing any more.
    """

    def __init__(
        self,
        poses: Float64[np.ndarray, "n 4 4"],
        fixed: Bool[np.ndarray, " n"],
        constraints: Constraints,
        lock_scale: bool = False,
    ):
        self.poses, self.fixed, self.lock_scale = poses, fixed, lock_scale
        self.constraints = constraints.scaleless() if lock_scale else constraints
        self._free = np.flatnonzero(~fixed)
        self.done = not len(self._free) or not len(constraints.ends)
        self._places = np.where(fixed, -1, np.cumsum(~fixed) - 1)[self.constraints.ends]
        self._order = self._elimination()
        residuals = _residuals(poses, self.constraints)
        # Convex from twice the largest squared error on (Yang et al.).
        squares = _squares(residuals, self.constraints)[self.constraints.loops]
        self.width = max(1.0, 2 * squares.max(initial=0) / KERNEL)
        self.damping = DAMPING

    def step(self) -> bool:
        """Solve one system; whether that is the end."""
        if self.done:
            return True
        constraints, width = self.constraints, self.width
        residuals = _residuals(self.poses, constraints)
        moved = self.poses.copy()
        moved[self._free] = self.poses[self._free] @ sim3.exponential(self._change(residuals))
        found = _residuals(moved, constraints)
        gain = _cost(residuals, constraints, width) - _cost(found, constraints, width)
        small = _squares(found - residuals, constraints).sum() < CONVERGED
        if gain >= 0:
            self.poses, self.damping = moved, max(self.damping / 10, 1e-9)
        else:
            self.damping = min(self.damping * 10, 1e6)
        self.done = bool(small and width == 1)
        self.width = max(1.0, width / NARROWING)
        return self.done

    def run(self, steps: int) -> Float64[np.ndarray, "n 4 4"]:
        """The poses after at most so many steps."""
        for _ in range(steps):
            if self.step():
                break
        return self.poses

    def state(self) -> dict[str, np.ndarray]:
        """All that there is, as arrays; `from_state` goes on from them, to the last bit."""
        arrays = {one.name: getattr(self.constraints, one.name) for one in fields(Constraints)}
        names = ("poses", "fixed", "lock_scale", "width", "damping", "done")
        return arrays | {name: np.array(getattr(self, name)) for name in names}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray]) -> "Fit":
        """The search that `state` was asked of."""
        constraints = Constraints(**{one.name: arrays[one.name] for one in fields(Constraints)})
        fit = cls(arrays["poses"], arrays["fixed"], constraints, bool(arrays["lock_scale"]))
        fit.width, fit.damping = float(arrays["width"]), float(arrays["damping"])
        fit.done = bool(arrays["done"])
        return fit

    def _elimination(self) -> Order:
        count = len(self._free)
        adjacent = np.zeros((count + 1, count + 1), dtype=bool)
        i, j = self._places.T  # fixed ones are the last row, which is left out
        adjacent[i, j] = adjacent[j, i] = True
        return elimination_order(adjacent[:-1, :-1])

    def _change(self, residuals: Float64[np.ndarray, "m 7"]) -> Float64[np.ndarray, "f 7"]:
        """Gauss-Newton's step of the poses that may move, damped."""
        weights = _weights(residuals, self.constraints, self.width)
        jacobian = _jacobian(self.poses, self.constraints, residuals)
        if self.lock_scale:
            jacobian[..., [6, 13]] = 0
        matrix = self._order.empty(sim3.DIMENSIONS)
        vector = np.zeros((len(self._free), sim3.DIMENSIONS))
        weighted = np.empty((2 * sim3.DIMENSIONS, sim3.DIMENSIONS))
        add_edges(jacobian, residuals, weights, self._places, self._order, weighted, matrix, vector)
        diagonal = self._order.slots.diagonal()
        damp(matrix, diagonal.copy(), self.damping)
        return solve(self._order, matrix, vector)


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
    found = np.empty((len(residuals), sim3.DIMENSIONS, 2 * sim3.DIMENSIONS))
    room = np.empty((4, sim3.DIMENSIONS, sim3.DIMENSIONS))
    write_jacobian(poses, constraints.ends, residuals, room, found)
    return found


@lean
def write_jacobian(poses, ends, residuals, room, found):
    """J by the pose at j, and -J Ad(S_j^-1 S_i) by that at i; `room` is for four matrices."""
    size = residuals.shape[1]
    by_j, carry, back, relative = room[0], room[1], room[2, :4, :4], room[3, :4, :4]
    for edge in range(len(ends)):
        i, j = ends[edge, 0], ends[edge, 1]
        lie.invert(poses[j], back)
        lie.multiply(back, poses[i], relative)
        lie.adjoint(relative, carry)
        lie.inverse_right_jacobian(residuals[edge], room[2], room[3], by_j)
        for row in range(size):
            for column in range(size):
                total = 0.0
                for k in range(size):
                    total += by_j[row, k] * carry[k, column]
                found[edge, row, column] = -total
                found[edge, row, size + column] = by_j[row, column]


@lean
def add_edges(jacobian, residuals, weights, places, order, weighted, matrix, vector):
    """Add up Gauss-Newton's normal equations of the poses with a place; `weighted` is room."""
    size = vector.shape[1]
    for edge in range(len(places)):
        transposed = jacobian[edge].T
        lie.multiply(transposed, weights[edge], weighted)
        for one in range(2):
            i = places[edge, one]
            if i < 0:
                continue
            rows = weighted[one * size : (one + 1) * size]
            for a in range(size):
                for k in range(size):
                    vector[i, a] -= rows[a, k] * residuals[edge, k]
            for other in range(2):
                j = places[edge, other]
                if j >= 0 and order.place[i] <= order.place[j]:  # else kept the other way round
                    columns = jacobian[edge, :, other * size : (other + 1) * size]
                    lie.add_product(rows, columns, matrix[order.slots[i, j]])


@lean
def damp(matrix, diagonal, damping):
    """Hold each pose back by a share of its own curvature.

    A number that nothing measures, or that is locked, has none: it gets some, and stays.
    """
    for slot in diagonal:
        for k in range(matrix.shape[1]):
            value = matrix[slot, k, k]
            matrix[slot, k, k] = value * (1 + damping) if value > 0 else 1
