"""Measured relative poses with their errors: turned round, composed, averaged, and searched."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from ffsplat.alignment import Similarity
from ffsplat.stream.graph import sim3


@dataclass(frozen=True)
class PoseError:
    """Standard deviations of a measured pose i_from_j, the same on all axes.

    `rotation` is in radians, `translation` in the unit of i, `scale` in log scale. Raises
    ValueError unless all are positive.
    """

    rotation: float
    translation: float
    scale: float

    def __post_init__(self) -> None:
        if not all(np.isfinite(one) and one > 0 for one in vars(self).values()):
            raise ValueError(f"errors must be positive numbers, not {self}")

    def covariance(self, measured: Similarity) -> Float64[np.ndarray, "7 7"]:
        """That of the tangent x with true = measured exp(x), which is in the unit of j."""
        deviations = [self.rotation, self.translation / measured.scale, self.scale]
        return np.diag(np.square(np.repeat(deviations, [3, 3, 1])))


@dataclass(frozen=True, eq=False)
class Edge:
    """A measured pose i_from_j with the covariance of its tangent at j.

    `loop` says that it may be false.
    """

    i: int
    j: int
    measured: Similarity
    covariance: Float64[np.ndarray, "7 7"]
    loop: bool = False

    def reversed(self) -> "Edge":
        """The same edge seen from the other end: (Z exp(x))^-1 = Z^-1 exp(-Ad(Z) x)."""
        carry = sim3.adjoint(sim3.matrices([self.measured]))[0]
        covariance = carry @ self.covariance @ carry.T
        return Edge(self.j, self.i, self.measured.inverse(), covariance, self.loop)

    def seen_from(self, node: int) -> "Edge":
        """The same edge with `node`, one of its ends, as i."""
        return self if self.i == node else self.reversed()

    def other(self, node: int) -> int:
        """The end that is not `node`."""
        return self.j if self.i == node else self.i

    @cached_property
    def size(self) -> float:
        """The variance that orders edges: of directions and of sizes, which have no unit."""
        a, b, c, *_, scale = self.covariance.diagonal().tolist()
        return (a + b + c) / 3 + scale


def along(way: Sequence[Edge]) -> Edge:
    """The edge over a way of edges, each of which begins where the one before ends.

    Each error is carried to the last node, and there they add. Source: Barfoot, "State Estimation
    for Robotics", 2017, chapter 7, to first order.
    """
    stack = sim3.matrices(edge.measured for edge in way)
    rests = [np.eye(4)]  # what comes after each edge, the last first
    for matrix in stack[:0:-1]:
        rests.append(matrix @ rests[-1])
    carry = sim3.adjoint(sim3.inverse(np.stack(rests[::-1])))
    covariances = carry @ np.stack([edge.covariance for edge in way]) @ carry.swapaxes(1, 2)
    measured = sim3.similarity(stack[0] @ rests[-1])
    loop = any(edge.loop for edge in way)
    return Edge(way[0].i, way[-1].j, measured, covariances.sum(0), loop)


def continued(first: Edge, ways: Sequence[Edge]) -> list[Edge]:
    """`along` an edge and each of some that begin where it ends, of all at once."""
    if not ways:
        return []
    stack = sim3.matrices(one.measured for one in ways)
    carry = sim3.adjoint(sim3.inverse(stack))
    covariances = carry @ first.covariance @ carry.swapaxes(1, 2)
    measured = sim3.similarities(sim3.matrices([first.measured]) @ stack)
    return [
        Edge(first.i, one.j, pose, covariance + one.covariance, first.loop or one.loop)
        for one, pose, covariance in zip(ways, measured, covariances, strict=True)
    ]


def joined(old: Edge, new: Edge) -> Edge:
    """The mean of two measurements of one pose i_from_j by their information, to first order.

    Source: Barfoot and Furgale, "Associating uncertainty with three-dimensional poses for use in
    estimation problems", IEEE Transactions on Robotics, 2014.
    """
    information = np.linalg.inv(new.covariance)
    covariance = np.linalg.inv(np.linalg.inv(old.covariance) + information)
    way = sim3.logarithm(sim3.matrices([old.measured.inverse() @ new.measured]))[0]
    step = sim3.similarity(sim3.exponential((covariance @ information @ way)[None])[0])
    return Edge(old.i, old.j, old.measured @ step, covariance)


def forest(edges: Iterable[Edge]) -> set[Edge]:
    """The edges of a spanning forest: no loops if possible, the most certain first (Kruskal)."""
    root: dict[int, int] = {}

    def find(node: int) -> int:
        while root.setdefault(node, node) != node:
            node = root[node]
        return node

    chosen = set()
    for edge in sorted(edges, key=lambda one: (one.loop, one.size)):
        i, j = find(edge.i), find(edge.j)
        if i != j:
            root[i] = j
            chosen.add(edge)
    return chosen


def path(edges: Iterable[Edge], i: int, j: int) -> list[Edge]:
    """The most certain way from i to j without loops (Dijkstra), each edge seen along it."""
    beside: dict[int, list[Edge]] = {}
    for edge in edges:
        if not edge.loop:
            beside.setdefault(edge.i, []).append(edge)
            beside.setdefault(edge.j, []).append(edge)
    queue = [(0.0, i)]
    came: dict[int, float] = {}
    reached: dict[int, Edge] = {}
    done = set()
    while queue:
        length, node = heapq.heappop(queue)
        if node in done:
            continue
        done.add(node)
        if node == j:
            break
        for edge in beside.get(node, []):
            further, there = length + edge.size, edge.other(node)
            if there not in done and further < came.get(there, np.inf):
                came[there], reached[there] = further, edge
                heapq.heappush(queue, (further, there))
    way = []
    while j != i and j in reached:
        before = reached[j].other(j)
        way.append(reached[j].seen_from(before))
        j = before
    return way[::-1]
