"""A graph of poses in Sim(3): submaps, how they lie to each other, loops, and what is given.

What it weighs and how it removes is here; `graph_solver` finds the poses that fit best. Loops are
told from false ones in two ways. One that the chain of submaps cannot explain, by a chi-squared
test on the cycle it closes, is refused: a chain bends to any single loop (Latif, Cadena and Neira,
"Robust loop closing over time", RSS 2012). Of those that are let in, the solver follows the most.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from functools import partial

import numpy as np
from jaxtyping import Int64

from ffsplat.alignment import Similarity
from ffsplat.stream.graph import sim3
from ffsplat.stream.graph.edges import Edge, PoseError, along, continued, forest, joined, path
from ffsplat.stream.graph.solver import Constraints, Fit

WORLD = -1
"""The node that given poses are measured in; it is always there, and never moves."""

GONE = -2
"""What a fit knows a node as that was removed since it began."""

PLAUSIBLE = 24.3
"""Squared error of a cycle up to which a loop is let in: 99.9 % of chi-squared with 7 degrees of
freedom."""
CORRELATION = 0.25
"""Correlation of the errors of two edges of a chain: a network that shrinks the world, or bends it,
does so at each step."""


class PoseGraph:
    """Poses world_from_node and edges between them: at most `max_edges`, or a tree if that is more.

    With too many edges the least certain loop goes, and if there is none the least certain edge
    that does not hold the graph together.
    """

    def __init__(self, max_edges: int = 512):
        if max_edges < 1:
            raise ValueError(f"max_edges must be at least 1, not {max_edges}")
        self.max_edges = max_edges
        self._poses: dict[int, Similarity] = {}
        self._edges: dict[Edge, None] = {}
        self._spokes: dict[int, list[Edge]] = {}

    @property
    def poses(self) -> Mapping[int, Similarity]:
        """The poses world_from_node as they were added, set or adopted, in order of adding."""
        return dict(self._poses)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, priors among them, oldest first."""
        return tuple(self._edges)

    def add_node(self, node: int, pose: Similarity) -> None:
        """Add a node. Raises ValueError for one that is there already or has a negative number."""
        if node < 0 or node in self._poses:
            raise ValueError(f"node {node} is negative or already there")
        self._poses[node] = pose

    def set_pose(self, node: int, pose: Similarity) -> None:
        """Move a node; its edges stay. Raises KeyError for an unknown one."""
        self._require(node)
        self._poses[node] = pose

    def set_poses(self, poses: Mapping[int, Similarity]) -> None:
        """Move many nodes, such as `optimize` gives them."""
        self._require(*poses)
        self._poses |= poses

    def add_edge(
        self, i: int, j: int, measured: Similarity, error: PoseError, loop: bool = False
    ) -> bool:
        """Add a measured pose i_from_j; False if it is a loop that contradicts the chain.

        An edge between the same two as an older one joins it unless one of them is a loop: the
        mean of both by precision. Raises KeyError for an unknown node, ValueError for i = j.
        """
        self._require(i, j)
        if i == j:
            raise ValueError(f"an edge from {i} to itself")
        edge = Edge(i, j, measured, error.covariance(measured), loop)
        if loop and self.doubt(i, j, measured, error) > 1:
            return False
        self._insert(edge)
        self._bound()
        return True

    def add_prior(self, node: int, pose: Similarity, error: PoseError) -> None:
        """Add a given pose world_from_node, such as odometry or satellites know it."""
        self._require(node)
        self._insert(Edge(WORLD, node, pose, error.covariance(pose)))
        self._bound()

    def doubt(self, i: int, j: int, measured: Similarity, error: PoseError) -> float:
        """How far a loop contradicts the chain, in units of what is let in; 0 without a chain.

        The chain is the most certain way from i to j over edges that are no loops, given poses
        among them.
        """
        way = path(self._edges, i, j)
        if not way:
            return 0.0
        chain = along(way)
        off = sim3.logarithm(sim3.matrices([measured.inverse() @ chain.measured]))[0]
        # The variance of a sum of n numbers of which each two correlate.
        together = 1 + CORRELATION * (len(way) - 1)
        covariance = error.covariance(measured) + together * chain.covariance
        return float(off @ np.linalg.solve(covariance, off) / PLAUSIBLE)

    def remove_node(self, node: int) -> None:
        """Take a node out; its neighbours are joined over it, so that the graph stays in one piece.

        All are joined to the one that was known best, which counts the error of that edge several
        times: the smallest of all, and a graph of no more edges than before.
        """
        self._require(node)
        spokes = self._without(node)
        if not spokes:
            return
        hub = min(spokes, key=lambda one: (one.loop, one.size))
        center = hub.other(node)
        others = [spoke.seen_from(node) for spoke in spokes if spoke.other(node) != center]
        for edge in continued(hub.seen_from(center), others):
            self._insert(edge)
        self._bound()

    def pass_over(self, node: int) -> None:
        """Take a node out that ties what came after it to what came before.

        The former are joined to that of the latter which is known best; what it told of how those
        before lie to each other is lost. Edges lead from what came before to what came after.
        """
        self._require(node)
        before = [one for one in self._spokes.get(node, []) if one.j == node]
        if not before:
            self.remove_node(node)
            return
        hub = min(before, key=lambda one: (one.loop, one.size))
        after = [one for one in self._without(node) if one.i == node and one.j != hub.i]
        for edge in continued(hub, after):
            self._insert(edge)

    def optimize(
        self, fixed: Iterable[int] = (), lock_scale: bool = False, steps: int = 30
    ) -> dict[int, Similarity]:
        """The poses that fit the edges best; the graph itself keeps those it has.

        Nodes in `fixed` stay, and in a part of the graph without any, or a given pose, its first
        node does. With `lock_scale` no scale changes. At most `steps` systems are solved.
        """
        if not self._poses:
            return {}
        fit = self.fit(fixed, lock_scale)
        fit.run(steps)
        return self._poses | fit.found()

    def fit(self, fixed: Iterable[int] = (), lock_scale: bool = False) -> "GraphFit":
        """The search of `optimize`, to be gone on with step by step."""
        return self.later_fit(fixed, lock_scale)()

    def later_fit(
        self, fixed: Iterable[int] = (), lock_scale: bool = False
    ) -> Callable[[], "GraphFit"]:
        """What begins the same search of the graph as it is now, whatever it becomes."""
        held = set(fixed)
        self._require(*held)
        return partial(_begun, dict(self._poses), tuple(self._edges), held, lock_scale)

    def state(self) -> dict[str, np.ndarray]:
        """All that there is, as arrays; `from_state` goes on from them."""
        covariances = [edge.covariance for edge in self._edges]
        return {
            "nodes": np.array(list(self._poses), dtype=np.int64),
            "poses": sim3.rows(self._poses.values()),
            "ends": np.array([(e.i, e.j) for e in self._edges], dtype=np.int64).reshape(-1, 2),
            "measured": sim3.rows(edge.measured for edge in self._edges),
            "covariances": np.array(covariances, dtype=np.float64).reshape(-1, 7, 7),
            "loops": np.array([edge.loop for edge in self._edges], dtype=bool),
            "max_edges": np.array(self.max_edges, dtype=np.int64),
        }

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray]) -> "PoseGraph":
        """The graph that `state` was asked of."""
        graph = cls(int(arrays["max_edges"]))
        poses = sim3.from_rows(arrays["poses"])
        graph._poses = dict(zip(arrays["nodes"].tolist(), poses, strict=True))
        table = zip(
            arrays["ends"].tolist(), sim3.from_rows(arrays["measured"]),
            arrays["covariances"].copy(), arrays["loops"].tolist(), strict=True,
        )  # fmt: skip
        for (i, j), measured, covariance, loop in table:
            graph._add(Edge(i, j, measured, covariance, loop))
        return graph

    def _require(self, *nodes: int) -> None:
        for node in nodes:
            if node not in self._poses:
                raise KeyError(f"no node {node} in the graph")

    def _insert(self, edge: Edge) -> None:
        """Add an edge, or join it to the one that is there between the same nodes."""
        for old in self._spokes.get(edge.i, []):
            if old.other(edge.i) == edge.j and not (old.loop or edge.loop):
                self._remove(old)
                edge = joined(old, edge.seen_from(old.i))
                break
        self._add(edge)

    def _add(self, edge: Edge) -> None:
        self._edges[edge] = None
        for node in (edge.i, edge.j):
            self._spokes.setdefault(node, []).append(edge)

    def _remove(self, edge: Edge) -> None:
        del self._edges[edge]
        for node in (edge.i, edge.j):
            self._spokes[node].remove(edge)

    def _without(self, node: int) -> list[Edge]:
        """Take a node out with its edges, which are given back."""
        spokes = list(self._spokes.get(node, []))
        for edge in spokes:
            self._remove(edge)
        del self._poses[node]
        self._spokes.pop(node, None)
        return spokes

    def _bound(self) -> None:
        """Drop edges until there are few enough; a spanning forest of the best stays whole."""
        while len(self._edges) > self.max_edges:
            held = forest(self._edges)
            spare = [one for one in self._edges if one not in held]
            if not spare:
                return
            # Of equals the oldest goes.
            weakest = max(spare, key=lambda one: (one.loop, one.size))
            self._remove(weakest)


def _begun(
    poses: Mapping[int, Similarity], edges: Sequence[Edge], held: set[int], lock_scale: bool
) -> "GraphFit":
    """A search for the poses of a graph, of which some nodes are held."""
    nodes, fixed = [WORLD, *poses], {WORLD, *held}
    fixed.update(_loose_parts(poses, edges, fixed))
    start = sim3.matrices([Similarity.identity(), *poses.values()])
    place = {node: row for row, node in enumerate(nodes)}
    loose = [one for one in edges if not (one.i in fixed and one.j in fixed)]
    stay = np.array([node in fixed for node in nodes])
    return GraphFit(np.array(nodes), Fit(start, stay, _constraints(loose, place), lock_scale))


def _loose_parts(
    poses: Mapping[int, Similarity], edges: Sequence[Edge], fixed: Collection[int]
) -> list[int]:
    """The first node of each part of a graph that hangs on no node that is fixed."""
    part_of = {node: {node} for node in poses if node not in fixed}
    for edge in edges:
        one, other = part_of.get(edge.i), part_of.get(edge.j)
        if one is not None and other is not None and one is not other:
            small, large = sorted((one, other), key=len)
            large |= small
            part_of |= dict.fromkeys(small - {WORLD}, large)
        elif one is None or other is None:  # WORLD marks what hangs on something
            (one or other or set()).add(WORLD)
    parts = {id(part): part for part in part_of.values()}.values()
    return [next(n for n in poses if n in part) for part in parts if WORLD not in part]


def _constraints(edges: Sequence[Edge], place: Mapping[int, int]) -> Constraints:
    covariances = np.array([edge.covariance for edge in edges]).reshape(-1, 7, 7)
    return Constraints(
        ends=np.array([(place[edge.i], place[edge.j]) for edge in edges], np.int64).reshape(-1, 2),
        measured=sim3.matrices(edge.measured for edge in edges),
        information=np.linalg.inv(covariances),
        loops=np.array([edge.loop for edge in edges], dtype=bool),
    )


class GraphFit:
    """A search for the poses of a graph as it was; the graph may grow and shrink meanwhile."""

    def __init__(self, nodes: Int64[np.ndarray, " n"], fit: Fit):
        self.nodes, self._fit = nodes, fit
        self._free = sim3.similarities(fit.poses[~fit.fixed])  # here, where nobody waits for them

    def run(self, steps: int) -> None:
        """Take at most so many steps."""
        self._fit.run(steps)
        self._free = sim3.similarities(self._fit.poses[~self._fit.fixed])

    @property
    def done(self) -> bool:
        """Whether further steps would change nothing."""
        return self._fit.done

    def after(self, steps: int) -> "GraphFit":
        """The search after at most so many steps more; this one stays where it is.

        What either forgets, both do.
        """
        fit = copy(self._fit)
        fit.run(steps)
        return GraphFit(self.nodes, fit)

    def forget(self, node: int) -> None:
        """Say nothing of a node: it was removed, and its number may be given again."""
        self.nodes[self.nodes == node] = GONE

    def found(self) -> dict[int, Similarity]:
        """The best poses so far of the nodes that may move."""
        free = zip(self.nodes[~self._fit.fixed].tolist(), self._free, strict=True)
        return {node: pose for node, pose in free if node != GONE}

    def state(self) -> dict[str, np.ndarray]:
        """All that there is, as arrays; `from_state` goes on from them, to the last bit."""
        return self._fit.state() | {"nodes": self.nodes}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray]) -> "GraphFit":
        """The search that `state` was asked of."""
        return cls(arrays["nodes"], Fit.from_state(arrays))
