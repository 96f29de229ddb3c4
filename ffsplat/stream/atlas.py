"""All that a mapper remembers: Gaussians, submaps, keyframes, places and the way, each bounded."""

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32, Float64

from ffsplat.alignment import Similarity
from ffsplat.prediction import PixelMeaning
from ffsplat.stream.beside import Beside
from ffsplat.stream.given import UNKNOWN
from ffsplat.stream.graph.graph import PoseGraph
from ffsplat.stream.joining import Joining
from ffsplat.stream.keyframes import (
    Keyframe,
    Keyframes,
    most_redundant,
    sight_distances,
)
from ffsplat.stream.loops import PlaceMemory, global_descriptor
from ffsplat.stream.map import SplatMap
from ffsplat.stream.placing import DOUBT, UNLIKE
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.submaps import FRAME, Submaps
from ffsplat.stream.trajectory import Trajectory
from ffsplat.stream.window import (
    Arrival,
    Window,
    as_arrival,
    by_one,
    near_rows,
)
from ffsplat.types import NO_ID, Codebook

RIGID = 0.15
"""Error of a pose, in radians, up to which a keyframe is part of the submap that proves it."""

FAR = 0.4
"""Sight distance, over the depth, from which keyframes are left out of a window but for BESIDE.

What does not show the same only confuses a network. Measured with ffsplat-tiny: where frames of an
office are half a metre apart, the way is off by 0.67 m so and by 0.71 m with all; frames of a shelf
12 degrees apart by 0.048 m and 0.061 m; walks through rooms do not tell.
"""

BESIDE = 2
"""Keyframes that see best what a new frame does, and are in its window however far they are."""

JOINING = 2
"""Keyframes that may be on their way into the map at a time, each with its window."""

SPARED = 8
"""Latest keyframes, which the next frames need, that are never forgotten."""


class Atlas:
    """A map with what it is made by; `now` counts keyframes.

    The pixels of a keyframe join the map in a thread beside the caller, who goes on with the next
    frame: `splats` waits for that.
    """

    def __init__(self, settings: MapperSettings, splats: SplatMap, graph: PoseGraph | None = None):
        """Begin with a map; `graph` is that of its submaps, if it has any."""
        self.settings = settings
        self._map = Beside(splats)
        self._joining: deque[Future] = deque()  # keyframes on their way into the map
        self.stamp = splats.clock
        """The map's time when the pixels of all keyframes are in."""
        self.submaps = Submaps(self._map, graph)
        self.submaps.on_move = self._take_frames_along
        self.keyframes = Keyframes(settings.max_keyframes)
        self.memory = PlaceMemory(settings.max_keyframes)
        self.trajectory = Trajectory(settings.max_frames)
        self.now = 0
        self.scale_error = UNKNOWN
        """Expected error of the log of its scale, where given poses tell that."""
        self.latest: Keyframe | None = None
        """The last frame that was placed, if it is no keyframe: all but its place in the map."""
        self._asked: tuple | None = None  # what `near` was asked last
        self._near: list[Keyframe] = []
        self.doubtful: Keyframe | None = None
        """The last frame, if nothing proves where it was taken."""

    def insert(
        self,
        window: Window,
        row: int,
        arrival: Arrival,
        others: Mapping[int, Keyframe],
        world_from_window: Similarity,
        codebook: Codebook | None,
        meaning: PixelMeaning | None,
        anchored: bool = False,
        moved: Bool[np.ndarray, "h w"] | None = None,
    ) -> Keyframe:
        """Make a view of a window a keyframe: its pixels join the map, but those in `moved`.

        `others` are the keyframes that show the same, by their rows of the window. `anchored` says
        that given poses are those of the world.
        """
        self.now, self.stamp = self.now + 1, self.stamp + 1
        pose = world_from_window.poses(window.local_pose(row)[None])[0]
        depth = world_from_window.scale * window.middle(row)
        for one in others.values():
            self.submaps.last_seen[one.submap] = self.now
        ties = self._ties(window) if row == len(window.past) and not anchored else []
        tied = [(self._node(window.past[i]), error) for i, error in ties]
        submap = self._submap_for(pose, depth, anchored and arrival.given is not None, tied)
        self._tie(window, ties, depth, submap)
        self.submaps.drift += window.placed.error**2
        keyframe = self._keyframe(window, row, arrival, world_from_window, submap)
        self.keyframes.add(keyframe)
        self.latest = None
        self.memory.add(keyframe.number, keyframe.descriptor)
        self._forget()
        if ties:  # first, as the next frame waits for it, if it comes at once
            self.submaps.smooth()
        while len(self._joining) >= JOINING:
            wait([self._joining.popleft()])
        joining = Joining(
            window, row, keyframe, dict(others), moved, world_from_window,
            codebook, meaning, self.now,
        )  # fmt: skip
        self._joining.append(self._map.begin(joining))
        return keyframe

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way into the map."""
        return self._map.idle

    @property
    def splats(self) -> SplatMap:
        """The Gaussians, when all keyframes are in."""
        return self._map.done()

    def count(self) -> int:
        """Gaussians in the map, without those of a keyframe that is on its way."""
        return len(self._map.undone)

    def last_pose(self) -> Float64[np.ndarray, "4 4"]:
        """Where the last frame was placed, in the world as it is now."""
        submap, pose = self.trajectory.newest()
        return self.submaps.poses[submap].poses(pose[None])[0]

    def record(
        self,
        arrival: Arrival,
        pose: Float64[np.ndarray, "4 4"],
        intrinsics: Float32[np.ndarray, "3 3"],
        keyframe: bool,
    ) -> None:
        """Add a frame at `pose`, in the world, to the way; `intrinsics` is in view pixels."""
        submap = self.submaps.current
        source = arrival.picture.source
        own = source.original_from_view @ intrinsics
        lens = [own[0, 0], own[1, 1], own[0, 2], own[1, 2], source.width, source.height]
        self.trajectory.add(
            arrival.number,
            arrival.time_ns,
            submap,
            self._local(submap, pose),
            np.array(lens, np.float32),
            keyframe,
            arrival.given,
        )

    def stand_as_given(self, submaps: Collection[int]) -> None:
        """Have all cameras with a pose, of some submaps, exactly there, in the sender's world.

        Gaussians stay where they are in their submaps.
        """
        for one in list(self.keyframes):
            if one.given is not None and one.submap in submaps:
                pose = self._local(one.submap, one.given)
                self.keyframes.add(replace(one, submap_from_camera=pose))
        self.submaps.leave_all()
        self.trajectory.stand_as_given(self.submaps.poses, self.submaps.current, submaps)

    def track(
        self,
        window: Window,
        row: int,
        arrival: Arrival,
        world_from_window: Similarity,
        anchored: bool = False,
    ) -> None:
        """Let the next frames be placed by a view, though none of its pixels is in the map.

        It is recorded next. `anchored` says that given poses are those of the world.
        """
        ties = self._ties(window) if row == len(window.past) and not anchored else []
        node = self.submaps.current
        if ties:
            pose = world_from_window.poses(window.local_pose(row)[None])[0]
            node = self.submaps.step(self.trajectory.added, pose)
            self._tie(window, ties, world_from_window.scale * window.middle(row), node)
        self.latest = self._keyframe(window, row, arrival, world_from_window, node)

    def near(
        self, pose: Float64[np.ndarray, "4 4"], count: int, but: int | None = None
    ) -> list[Keyframe]:
        """Up to `count` keyframes for a frame that was probably taken at `pose`, the best first.

        That numbered `but` is none of them. The same question is answered at once.
        """
        asked = pose.tobytes(), count, but, self.keyframes.changes, self.submaps.epoch
        if asked != self._asked:
            self._asked, self._near = asked, self._find_near(pose, count, but)
        return self._near

    def _find_near(
        self, pose: Float64[np.ndarray, "4 4"], count: int, but: int | None
    ) -> list[Keyframe]:
        poses, middle = self.keyframes.in_world(self.submaps.lies)
        numbers = self.keyframes.standing.number
        if but is not None:
            others = numbers != but
            numbers, poses, middle = numbers[others], poses[others], middle[others]
        best, apart = near_rows(pose, poses, middle, count)
        far = apart > FAR * middle[best]
        far[:BESIDE] = False
        return [self.keyframes[number] for number in numbers[best[~far]].tolist()]

    def last_placed(self) -> Keyframe:
        """The frame that was placed last."""
        return self.latest or self.keyframes[self.keyframes.last(1)[0]]

    def doubt(self, window: Window, arrival: Arrival) -> None:
        """Remember a frame, the first new one of a window, that nothing proves the place of."""
        row = len(window.past)
        lies, submap = window.placed.similarity, self.submaps.current
        self.doubtful = self._keyframe(window, row, arrival, lies, submap)

    def settle(self, past: Sequence[Keyframe]) -> None:
        """Now that a frame is placed by `past`: believe the doubtful one if it is of these.

        Two frames that prove each other are of one place; how that lies to the rest is as unsure as
        it was. Forget it otherwise.
        """
        one, self.doubtful = self.doubtful, None
        if one is None or one not in past:
            return
        submaps = self.submaps
        pose = submaps.poses[one.submap].poses(one.submap_from_camera[None])[0]
        node = submaps.step(self.trajectory.added, pose)
        scale = submaps.poses[one.submap].scale
        submaps.tie(one.submap, node, Similarity.identity(), scale * one.middle, UNLIKE)
        self.record(as_arrival(one), pose, one.intrinsics, False)
        self.latest = replace(
            one, submap=node, submap_from_camera=np.eye(4),
            depth=(scale * one.depth).astype(np.float16), middle=scale * one.middle,
        )  # fmt: skip

    def clear(self) -> None:
        """Forget keyframes and Gaussians; submaps stay where they are, and so does the way."""
        for one in list(self.keyframes):
            self.memory.remove(one.number)
        self.keyframes.remove([one.number for one in self.keyframes])
        for number in self.submaps.poses:
            self.splats.empty_submap(number)

    def drop_submap(self, number: int) -> None:
        """Forget a submap with its keyframes and Gaussians; its part of the way is kept."""
        gone = self.keyframes.of_submaps(number)
        for keyframe in gone:
            self.memory.remove(keyframe)
        self.keyframes.remove(gone)
        current = self.submaps.current
        back = self.submaps.poses[current].inverse() @ self.submaps.poses[number]
        self.trajectory.move(number, current, back)
        self.submaps.drop(number)

    def _ties(self, window: Window) -> list[tuple[int, float]]:
        """The rows whose views prove where a new frame is, with their errors: the surest at least.

        Views of one window err together: all of them tell as much as one does.
        """
        least = min((error for _, error in window.tied), default=0.0)
        sure = [(row, error) for row, error in window.tied if error <= max(DOUBT, least)]
        return [(row, error * math.sqrt(len(sure))) for row, error in sure]

    def _node(self, one: Keyframe) -> int:
        """The node that a view of a window is part of: its submap's, or its own."""
        latest = self.latest
        return latest.submap if latest is not None and latest.number == one.number else one.submap

    def _tie(
        self, window: Window, ties: Sequence[tuple[int, float]], depth: float, node: int
    ) -> None:
        """Tell what each view says of how a node, that of the new view, lies to its own."""
        back, places = window.placed.similarity.inverse(), self.submaps.places
        for row, error in ties:
            old = self._node(window.past[row])
            if old != node and old in places:
                self.submaps.tie(old, node, by_one(window, row, places) @ back, depth, error)

    def _take_frames_along(self) -> None:
        """Have the way know where frames are that have moved beside their submaps."""
        self.trajectory.stand(
            {node - FRAME: pose for node, pose in self.submaps.frames.items()},
            self.submaps.poses,
            self.submaps.current,
        )

    def _submap_for(
        self,
        pose: Float64[np.ndarray, "4 4"],
        depth: float,
        given: bool,
        tied: Sequence[tuple[int, float]],
    ) -> int:
        """The submap that a new keyframe belongs to: the current one until it is full.

        `tied` are the submaps of the views that prove where it is, with their errors. What is in
        one submap never moves again beside the rest of it: it must be sure where it is.
        """
        submaps, current = self.submaps, self.submaps.current
        full = len(self.keyframes.of_submaps(current)) >= self.settings.keyframes_a_submap
        loose = bool(tied) and min((e for n, e in tied if n == current), default=np.inf) > RIGID
        if current in submaps.poses and not full and not loose:
            submaps.last_seen[current] = self.now
            return current
        if len(submaps.poses) >= self.settings.max_submaps:
            self.drop_submap(submaps.least_recent())
        known = any(number in submaps.places for number, _ in tied)
        return submaps.open(pose, depth, self.now, given, known)

    def _keyframe(
        self,
        window: Window,
        row: int,
        arrival: Arrival,
        world_from_window: Similarity,
        submap: int,
    ) -> Keyframe:
        """A view to be remembered, whose pixels are nowhere in the map yet."""
        said, picture = window.prediction, arrival.picture
        pose = world_from_window.poses(window.local_pose(row)[None])[0]
        scale = world_from_window.scale / self.submaps.places[submap].scale
        return Keyframe(
            number=arrival.number,
            time_ns=arrival.time_ns,
            submap=submap,
            submap_from_camera=self._local(submap, pose),
            intrinsics=window.intrinsics(row),
            known_intrinsics=bool(np.isfinite(picture.intrinsics).all()),
            pixels=picture.pixels,
            inside=picture.valid,
            valid=picture.valid & window.kept[row],
            depth=(scale * said.depth[0, row].float().numpy()).astype(np.float16),
            middle=scale * window.middle(row),
            depth_error=said.depth_error[0, row].float().numpy().astype(np.float16),
            places=np.full(picture.valid.shape, NO_ID, np.int32),
            stamp=self.stamp,
            descriptor=global_descriptor(said, row),
            source=picture.source,
            given=arrival.given,
        )

    def _local(self, submap: int, pose: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
        return self.submaps.places[submap].inverse().poses(pose[None])[0]

    def _forget(self) -> None:
        """Let the keyframe go that the others replace best, if there are too many."""
        if len(self.keyframes) <= self.keyframes.most:
            return
        poses, middle = self.keyframes.in_world(self.submaps.lies)
        row = most_redundant(sight_distances(poses, poses, middle), SPARED)
        gone = int(self.keyframes.standing.number[row])
        self.keyframes.remove([gone])
        self.memory.remove(gone)
