"""The pieces of a map: where each lies in the world, and what ties it to the others.

Gaussians and cameras live in the frames of submaps. When a place is seen again, the poses of all
submaps are corrected by a pose graph; nothing inside of them changes, and the epoch counts up.
The latest frames that are in no submap are nodes of the graph too: what ties them to each other
holds the way together, and by it the submaps.
What the frame that closes a loop leaves to the next ones is the fit of the graph, by a bounded
number of steps a frame (`correction`); it is adopted when it fits.
"""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import numpy as np
from jaxtyping import Float64

from ffsplat.alignment import Similarity
from ffsplat.stream.beside import Beside
from ffsplat.stream.correction import STEPS, Correction
from ffsplat.stream.graph.edges import PoseError
from ffsplat.stream.graph.graph import GraphFit, PoseGraph
from ffsplat.stream.map import SplatMap

T = TypeVar("T")

LEAST_TURN = 0.02
"""Radians by which a submap is off beside the one before it, however well its windows fit."""

SHARES = (1.0, 2.0, 2.0)
"""Expected errors for each radian of that: of the turn, of the place over depth, of log scale."""

LOOP = (0.03, 0.05, 0.05)
"""The same (radians, over the depth, log of scale) where one window sees both, if all agrees."""

GIVEN = (0.01, 0.01, 0.001)
"""The same of a pose that was given."""

MOST_EDGES = 1024
"""Edges of the graph: 256 submaps and some frames are tied to about three others; then loops."""

FRAME = 1 << 32
"""The node of a frame is this and its place on the way; those of submaps are less."""

MOST_FRAMES = 12
"""Latest frames in no submap that are nodes; older ones stay where they are in a submap.

Measured with ffsplat-tiny on walks through four rooms of the preview split, at every fourth frame:
neighbouring frames are off by 2.2 degrees with them, by 2.4 degrees without (submaps of two
keyframes).
"""

SMOOTHED = 12
"""Latest submaps that go, with each keyframe, where all views that tie them have them.

Measured with ffsplat-tiny on walks through four rooms of the preview split, at every fourth frame:
the ways are off by 0.18 m in the mean, 0.24 m where a submap stays where its window was placed.
"""


@dataclass(frozen=True)
class Loop:
    """Submap `new` lies otherwise to `old` than thought, as was found in an epoch of the submaps.

    `moved` takes the world as `new` has it to the world as `old` has it, `depth` is the median one
    there, `agreement` how sure that is.
    """

    old: int
    new: int
    moved: Similarity
    depth: float
    agreement: float
    epoch: int

    def __str__(self) -> str:
        return f"loop from submap {self.old} to {self.new}, {self.agreement:.0%} sure"


class Submaps:
    """World poses of the submaps of one map, with their pose graph."""

    def __init__(self, beside: Beside[SplatMap], graph: PoseGraph | None = None):
        """Submaps of a map; the thread beside, too, fits the graph.

        What they do to the map is done beside: a frame waits for none of it.
        """
        self._beside = beside
        self.graph = PoseGraph(MOST_EDGES) if graph is None else graph
        nodes = self.graph.poses
        self.poses: dict[int, Similarity] = {}
        self._lies, self._moved = np.zeros((0, 13)), dict[int, Similarity]()
        self._put({n: nodes[n] for n in nodes if n < FRAME})
        self.frames: dict[int, Similarity] = {n: nodes[n] for n in nodes if n >= FRAME}
        """Where the latest frames that are in no submap stand, by their nodes."""
        self.on_move: Callable[[], None] = lambda: None
        """Called when submaps, and frames, have moved."""
        self.last_seen: dict[int, int] = dict.fromkeys(self.poses, 0)
        self.current = max(self.poses, default=-1)
        self.epoch = 0
        self.stride = STEPS
        self.drift = 0.0
        """Variance of the turn, in square radians, that has come up since the last submap."""
        self.correction: Correction | None = None
        """What is on its way to where the submaps lie since a loop was closed, or a view came."""
        self._awaited = self._put_off = False

    @property
    def places(self) -> dict[int, Similarity]:
        """World poses of all nodes: submaps and frames."""
        return self.poses | self.frames

    def step(self, place: int, world_from_camera: Float64[np.ndarray, "4 4"]) -> int:
        """Make a frame, that at a `place` on the way, a node; `tie` ties it."""
        node = FRAME + place
        pose = Similarity(1.0, world_from_camera[:3, :3].copy(), world_from_camera[:3, 3].copy())
        self.graph.add_node(node, pose)
        self.frames[node] = pose
        if len(self.frames) > MOST_FRAMES:
            self._leave(next(iter(self.frames)))
        return node

    def leave_all(self) -> None:
        """Have no frames as nodes: where they are is known."""
        for node in list(self.frames):
            self._leave(node)

    def _leave(self, node: int) -> None:
        self.graph.pass_over(node)
        if self.correction is not None:
            self.correction.fit.forget(node)
        del self.frames[node]

    def open(
        self,
        world_from_camera: Float64[np.ndarray, "4 4"],
        depth: float,
        now: int,
        given: bool,
        tied: bool = False,
    ) -> int:
        """Begin a submap at a camera, in the unit of the world.

        It is tied to the current one where it stands, unless `tied` says that `tie` will be called
        for it. `depth` is the median one there; `given` says that the pose was. Raises ValueError
        for a pose that is not finite.
        """
        if not np.isfinite(world_from_camera).all():
            raise ValueError("a submap begins at a finite pose")
        pose = Similarity(1.0, world_from_camera[:3, :3].copy(), world_from_camera[:3, 3].copy())
        number = next(free for free in count() if free not in self.poses)  # as the map has it
        self.graph.add_node(number, pose)
        self._beside.begin(lambda splats: splats.add_submap(pose))
        if self.current in self.poses and not tied:
            before = self.poses[self.current]
            turn = max(LEAST_TURN, float(np.sqrt(self.drift)))
            error = _turned(turn, depth / before.scale)
            self.graph.add_edge(self.current, number, before.inverse() @ pose, error)
        if given:
            self.graph.add_prior(number, pose, _error(GIVEN, depth))
        self._put({number: pose})
        self.last_seen[number] = now
        self.current, self.drift = number, 0.0
        return number

    def drop(self, number: int) -> None:
        """Forget a submap and all its Gaussians; its neighbours stay tied to each other."""
        self._beside.begin(lambda splats: splats.remove_submap(number))
        self.graph.remove_node(number)
        if self.correction is not None:
            self.correction.fit.forget(number)
        del self.poses[number], self.last_seen[number]
        if self.current == number:
            self.current = -1

    def least_recent(self) -> int:
        """The submap that was not seen for longest, of all but the current one."""
        others = [number for number in self.poses if number != self.current]
        return min(others, key=lambda number: (self.last_seen[number], number))

    def tie(self, old: int, new: int, moved: Similarity, depth: float, error: float) -> None:
        """Take in that node `new` lies otherwise to `old` than thought, by one view.

        `moved` takes the world as `new` has it to the world as `old` has it, `depth` is the median
        one there, `error` the expected one of the turn, in radians.
        """
        places = self.places
        measured = places[old].inverse() @ moved @ places[new]
        turn = max(LEAST_TURN, error)
        spread = _turned(turn, depth / places[old].scale)
        self.graph.add_edge(old, new, measured, spread)

    def smooth(self) -> None:
        """Begin to correct the latest submaps by all that ties them to each other and to the rest.

        What a closed loop corrects goes first.
        """
        if self._awaited:
            self._put_off = True
        elif self.correction is None:
            self._correct(list(self.poses)[:-SMOOTHED])

    def await_loop(self, prove: Callable[[], T]) -> Future[T]:
        """Look beside for a loop that `take_loop` will close; nothing is smoothed until then."""
        self._awaited = True
        return self._beside.submit(prove)

    def take_loop(self, loop: Loop | None) -> bool:
        """Close the loop that was awaited, if one was found; whether that was done."""
        put_off, self._awaited, self._put_off = self._put_off, False, False
        closed = loop is not None and self.close_loop(loop)
        if put_off and not closed:
            self.smooth()
        return closed

    def close_loop(self, loop: Loop) -> bool:
        """Take in a loop, and begin to correct all poses; False if the rest contradicts it.

        False as well if what it was found in has been moved or forgotten since. The poses are
        corrected when `advance` has been called often enough, or by `finish`.
        """
        old, new = loop.old, loop.new
        if loop.epoch != self.epoch or not {old, new} <= self.poses.keys() or old == new:
            return False
        measured = self.poses[old].inverse() @ loop.moved @ self.poses[new]
        error = _error(LOOP, loop.depth / self.poses[old].scale / max(loop.agreement, 0.1))
        self.finish()
        if not self.graph.add_edge(old, new, measured, error, loop=True):
            return False
        self._correct([next(iter(self.poses))], -self.stride)
        return True

    def _correct(self, fixed: Collection[int], steps: int = 0) -> None:
        """Begin to move all submaps but some to where the graph, as it is now, has them."""
        begin = self.graph.later_fit(fixed)
        self.correction = Correction(begin, self._beside, steps, self.stride)

    def go_on(self, fit: GraphFit, steps: int) -> None:
        """Go on with a correction that has taken some steps already."""
        self.correction = Correction(lambda: fit, self._beside, steps, self.stride)

    def advance(self) -> None:
        """Go on with the correction that is on its way, if any, and adopt it if it has arrived."""
        if self.correction is not None and self.correction.advance():
            arrived, self.correction = self.correction, None
            self._follow(arrived.fit)

    def finish(self) -> None:
        """Adopt the correction that is on its way, if any, now."""
        while self.correction is not None:
            self.advance()

    def _follow(self, correction: GraphFit) -> None:
        """Move submaps to where a fit has them; younger ones go with the last that it knew."""
        found, places = correction.found(), self.places
        known = found.keys() & self.poses.keys()
        if not known:
            return
        younger = sorted(places.keys() - set(correction.nodes.tolist()))
        if younger:
            last = max(known, key=lambda number: (self.last_seen[number], number))
            along = found[last] @ self.poses[last].inverse()
            found |= {number: along @ places[number] for number in younger}
        self.adopt(found)

    def move_all(self, by: Similarity) -> None:
        """Another world: such as the sender's, when its poses tell where that is."""
        self.finish()
        self.adopt({number: by @ pose for number, pose in self.places.items()})

    def adopt(self, poses: Mapping[int, Similarity]) -> None:
        """Put submaps, and frames, elsewhere; this is a new epoch."""
        submaps = {number: pose for number, pose in poses.items() if number < FRAME}
        self._put(submaps)
        self.frames |= {number: pose for number, pose in poses.items() if number >= FRAME}
        # A frame that is to be placed does not wait for what the last one left to do.
        self._beside.begin(lambda splats: splats.move_submaps(list(submaps), [*submaps.values()]))
        self.graph.set_poses(poses)
        self.epoch += 1
        self.on_move()

    def _put(self, poses: Mapping[int, Similarity]) -> None:
        """Note where some submaps lie."""
        self.poses |= poses
        self._moved |= poses

    @property
    def lies(self) -> Float64[np.ndarray, "s 13"]:
        """Where submaps lie as numbers, by row: scale, rotation by rows, translation."""
        rows, poses = list(self._moved), list(self._moved.values())
        short = max(rows, default=-1) + 1 - len(self._lies)
        if short > 0:
            self._lies = np.concatenate([self._lies, np.zeros((short, 13))])
        if rows:
            self._lies[rows, 0] = [one.scale for one in poses]
            self._lies[rows, 1:10] = np.array([one.rotation for one in poses]).reshape(-1, 9)
            self._lies[rows, 10:] = np.array([one.translation for one in poses])
            self._moved = {}
        return self._lies


def _turned(turn: float, depth: float) -> PoseError:
    """The error that comes with one of the turn, in radians."""
    rotation, translation, scale = SHARES
    return _error((turn * rotation, turn * translation, turn * scale), depth)


def _error(shares: tuple[float, float, float], depth: float) -> PoseError:
    rotation, translation, scale = shares
    return PoseError(rotation, translation * depth, scale)
