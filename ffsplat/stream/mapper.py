"""The online mapper: frames in, one after the other, and a bounded map that is always usable.

Each frame goes through the any-view network together with keyframes that see the same place. What
the network says of these is laid over what the map knows of them, by a robust similarity; that
places the frame. If it shows enough that is new, its pixels join the map.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, UInt8

from ffsplat.alignment import Similarity
from ffsplat.chunks.place import FIRST
from ffsplat.chunks.some import take_prediction, take_views
from ffsplat.errors import StreamError
from ffsplat.stream.atlas import Atlas
from ffsplat.stream.canvas import Canvas
from ffsplat.stream.clock import Clock
from ffsplat.stream.delta import FramePoses, MapDelta
from ffsplat.stream.frame import Dropped, Verdict
from ffsplat.stream.given import is_intrinsics, is_pose
from ffsplat.stream.graph.warm import warm_up as warm_up_graph
from ffsplat.stream.keyframes import Keyframe, sight_distances
from ffsplat.stream.map import SplatMap, warm_up
from ffsplat.stream.map.meeting import Meeting, meet
from ffsplat.stream.moving import moving_pixels
from ffsplat.stream.outlet import Outlet, scene_of
from ffsplat.stream.placing import DOUBT, Tie, lay, surest, ties
from ffsplat.stream.predictor import Predictor
from ffsplat.stream.quality import FrameCheck
from ffsplat.stream.resize import is_pillows
from ffsplat.stream.revisits import (
    Revisits,
    first_placed,
    stand_as_given,
    take_senders_world,
    where_given,
)
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.state import load_state, save_state
from ffsplat.stream.trajectory import Trajectory
from ffsplat.stream.window import Arrival, Window, as_arrival, is_finite, see
from ffsplat.types import Scene

PATIENCE = 10
"""Frames in a row that may be lost; the next one is believed."""

APART = 0.5
"""Sight distance from all keyframes, over the depth, from which a frame is one in any case."""

MOVING = 0.5
"""Share of a frame that may contradict what keyframes show; with more it is left out."""

SIZES = "splats", "submaps", "keyframes", "loops"

WARM_SPLATS = 100_000
"""Room of the map that is thrown away after warming up."""


class Mapper:
    """Maps one stream, in one thread; every bound of its memory is in the settings."""

    def __init__(self, predictor: Predictor, settings: MapperSettings | None = None):
        """A mapper with an empty map."""
        self.predictor = predictor
        self.settings = settings or MapperSettings()
        self.resolution = predictor.resolution
        self.canvas = Canvas(predictor.resolution, predictor.patch)
        self.atlas: Atlas | None = None
        self.anchored = False
        self.codebook = predictor.codebook
        self.placed = FIRST
        self._check = FrameCheck()
        self._last = -1
        self._lost = 0
        self.revisits = Revisits()
        self.outlet = Outlet()

    @property
    def epoch(self) -> int:
        """How often submaps have been moved."""
        return self.atlas.submaps.epoch if self.atlas else 0

    def warm(self) -> None:
        """Send pictures through everything, so that no frame finds anything not compiled.

        The map does not change.
        """
        learnt = self.predictor.state()
        every = replace(self.settings, max_splats=WARM_SPLATS, overlap=2.0, believe=True)
        spare = Mapper(self.predictor, every)
        shape = (3 * self.resolution // 4, self.resolution, 3)
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        for step in range(self.settings.window + 1):
            spare.add(np.roll(noise, step * self.resolution // 16, axis=1), 0)
            spare.revisits.candidate = 0  # the next window asks: is it the first place again?
        spare.take_delta()
        warm_up()
        warm_up_graph()
        is_pillows((4, 4), (2, 2))
        self.predictor.restore(learnt)

    def add(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        time_ns: int | None = None,
        pose: Float[np.ndarray, "4 4"] | None = None,
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        *,
        number: int | None = None,
        size: tuple[int, int] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Verdict:
        """Place a frame (sRGB), and fuse it if it is a keyframe.

        `time_ns` is now unless given, `number` one more than the last; `pose` is world_from_camera
        in a world of the sender. `size` (width, height) is that of the picture as it was sent, if
        `image` is a smaller version; `intrinsics` is in its pixels. `cancelled` is asked after the
        network: if true, the map stays as it was ("timeout"). Raises what the network raises.
        """
        number = self._last + 1 if number is None else number
        self._last = max(self._last, number)
        if (pose is not None and not is_pose(pose)) or (
            intrinsics is not None and not is_intrinsics(intrinsics)
        ):
            return Verdict(number, "invalid")
        clock = Clock()
        picture = self.canvas.fit(image, intrinsics, str(number), size)
        reason = self._check.judge(picture.pixels)
        clock.stop("place")
        if reason is not None:
            return Verdict(number, reason, seconds=clock.seconds)
        given = None if pose is None else pose.astype(np.float64)
        when = time.time_ns() if time_ns is None else time_ns
        return self.add_together([Arrival(number, when, picture, given)], cancelled, clock)[0]

    def add_together(
        self,
        arrivals: Sequence[Arrival],
        cancelled: Callable[[], bool] = lambda: False,
        clock: Clock | None = None,
    ) -> list[Verdict]:
        """Place several frames by one window; at least one view of it is left for keyframes.

        None is lost or moving if the settings say that all frames show one place.
        """
        clock = clock or Clock()
        self.revisits.settle(self.atlas)
        past = self._past(arrivals)
        starting = self._starting()
        window = see(self.predictor, past, arrivals, self.settings.min_confidence, clock, starting)
        reason: Dropped | None = None
        if cancelled():
            reason = "timeout"
        elif not is_finite(window.prediction, 0 if starting else len(past)):
            reason = "not_finite"
        else:
            if self.atlas is not None:
                self.atlas.submaps.advance()
            placed = self._laid(window, arrivals, clock)
            reason = "lost" if placed is None else None
            window = placed or window
        clock.stop("place")
        if reason is not None:
            return [Verdict(one.number, reason, seconds=clock.seconds) for one in arrivals]
        if starting:
            return self._start(window, arrivals, clock)
        return self._go_on(window, arrivals, clock)

    def _past(self, arrivals: Sequence[Arrival]) -> list[Keyframe]:
        """The keyframes of the next window: near ones, then perhaps one that closes a loop."""
        if self.atlas is None or not len(self.atlas.keyframes):
            return []
        room = max(1, self.settings.window - len(arrivals))
        candidate = self.revisits.candidate
        if candidate is not None and (candidate not in self.atlas.keyframes or room < 2):
            candidate = self.revisits.candidate = None
        guess, count = self._guess(arrivals[0]), room - (candidate is not None)
        latest = [self.atlas.latest] if self.atlas.latest is not None and count > 1 else []
        near = self.atlas.near(guess, count - len(latest), candidate)
        back = [] if candidate is None else [self.atlas.keyframes[candidate]]
        return [*near, *latest, *back]

    def _guess(self, arrival: Arrival) -> Float64[np.ndarray, "4 4"]:
        """Where a frame was probably taken: where its sender says, or where the last one was."""
        assert self.atlas is not None
        if self.anchored and arrival.given is not None:
            return arrival.given
        return self.atlas.last_pose()

    def _laid(self, window: Window, arrivals: Sequence[Arrival], clock: Clock) -> Window | None:
        """The window where it lies in the map, None if nothing proves that."""
        if self.atlas is None:
            return replace(window, placed=first_placed(window, [one.given for one in arrivals]))
        first = len(window.past)
        tied = ties(window, first, range(first - (self.revisits.candidate is not None)))
        if surest(tied) > DOUBT and first > 1 and not self._starting():
            window, tied = self._pair(window, tied, arrivals, clock)
        self.placed = lay(window, tied, self.atlas.submaps.places)
        sure = () if self._starting() else tuple((one.row, one.error) for one in tied)
        window = replace(window, placed=self.placed, tied=sure)
        given = arrivals[0].given is not None
        if surest(tied) > DOUBT and not (given or self.settings.believe or self._lost >= PATIENCE):
            self._lost += 1
            if not self._starting():
                self.atlas.doubt(window, arrivals[0])
            return None
        self._lost = 0
        self.atlas.settle(window.past)
        return window

    def _starting(self) -> bool:
        """Whether one window still sees all keyframes."""
        return self.atlas is None or len(self.atlas.keyframes) < self.settings.window - 1

    def _pair(
        self, window: Window, tied: list[Tie], arrivals: Sequence[Arrival], clock: Clock
    ) -> tuple[Window, list[Tie]]:
        """New frames beside the last one alone: views of something else only confuse a network."""
        assert self.atlas is not None
        before = self.atlas.doubtful or self.atlas.last_placed()
        pair = see(self.predictor, [before], arrivals, self.settings.min_confidence, clock)
        if not is_finite(pair.prediction):
            return window, tied
        self.revisits.candidate = None
        return pair, ties(pair, 1, [0])

    def _start(self, window: Window, arrivals: Sequence[Arrival], clock: Clock) -> list[Verdict]:
        """As long as there are few keyframes, one window sees them all: the map is made anew."""
        first = len(window.past)
        every = [as_arrival(one) for one in window.past] + list(arrivals)
        rows = list(range(first))
        for row in range(first, len(every)):
            meeting = meet(window.prediction, window.kept, row, rows)
            if self._is_new(window, row, meeting, rows):
                rows.append(row)
        chosen, lies = set(rows[first:]), dict.fromkeys(range(len(every)), window.placed.similarity)
        if chosen:
            if self.atlas is None:
                cell = self.settings.cell or self._cell(window)
                self.atlas = Atlas(self.settings, SplatMap(self.settings, cell))
            self.atlas.clear()
            said = stand_as_given(window, [one.given for one in every])
            lies, self.anchored = lies | said, bool(said)
            known: list[Keyframe] = []
            for row in rows:
                meeting = meet(window.prediction, window.kept, row, rows[: len(known)])
                known.append(self._insert(window, row, every[row], meeting, known, lies[row]))
            if self.anchored:
                self.atlas.stand_as_given()
        return [
            self._done(window, row, arrival, row in chosen, lies[row], clock)
            for row, arrival in enumerate(arrivals, first)
        ]

    def _cell(self, window: Window) -> float:
        return self.settings.coarse * window.placed.similarity.scale * window.footprint()

    def _go_on(self, window: Window, arrivals: Sequence[Arrival], clock: Clock) -> list[Verdict]:
        """Place new frames beside keyframes that stay; those that show enough become some."""
        assert self.atlas is not None
        first = len(window.past)
        known = list(window.past)
        if self.revisits.candidate is not None:
            self.revisits.close(self.atlas, window, first)
            known.pop()
        if known and known[-1].number not in self.atlas.keyframes:
            known.pop()  # the latest frame, which is not in the map
        rows = list(range(len(known)))
        verdicts = []
        for row, arrival in enumerate(arrivals, first):
            meeting = meet(window.prediction, window.kept, row, rows)
            new = self._is_new(window, row, meeting, rows)
            similarity = self._similarity(window, row, arrival, known)
            if new:
                meeting, share = self._still(window, row, rows, meeting)
                if share > MOVING and not self.settings.believe:
                    verdicts.append(Verdict(arrival.number, "moving", seconds=clock.seconds))
                    continue
                clock.stop("place")
                keyframe = self._insert(window, row, arrival, meeting, known, similarity)
                clock.stop("fuse")
                rows, known = [*rows, row], [*known, keyframe]
            else:
                self.atlas.track(window, row, arrival, similarity, self.anchored)
            verdicts.append(self._done(window, row, arrival, new, similarity, clock))
            if new:
                self.anchored = self.anchored or take_senders_world(self.atlas)
                if self.settings.loops and not self.anchored:
                    self.revisits.choose(self.atlas, known)
        return verdicts

    def _is_new(self, window: Window, row: int, meeting: Meeting, rows: Sequence[int]) -> bool:
        """Whether a view shows enough that no keyframe of the window does."""
        if not rows or meeting.known < self.settings.overlap:
            return True
        poses = window.prediction.world_from_camera[0, [row, *rows]].double().numpy()
        middle = window.middle(row)
        apart = sight_distances(poses[:1], poses[1:], np.array([middle]))
        return bool(apart.min() > APART * middle)

    def _still(
        self, window: Window, row: int, rows: Sequence[int], meeting: Meeting
    ) -> tuple[Meeting, float]:
        """The meeting without pixels of what moved, and how much of the view these are."""
        moving = moving_pixels(
            window.prediction, row, list(rows), window.views.pixels, window.views.valid
        ).ravel()
        share = float(moving.sum() / max(1, window.views.valid[row].sum()))
        return replace(meeting, kept=meeting.kept & ~moving), share

    def _similarity(
        self, window: Window, row: int, arrival: Arrival, known: Sequence[Keyframe]
    ) -> Similarity:
        """How a view lies in the world: as its window does, or where its sender says."""
        if not self.anchored or arrival.given is None:
            return window.placed.similarity
        return where_given(window, row, arrival.given, known)

    def _insert(
        self,
        window: Window,
        row: int,
        arrival: Arrival,
        meeting: Meeting,
        known: Sequence[Keyframe],
        similarity: Similarity,
    ) -> Keyframe:
        assert self.atlas is not None
        meaning = self.predictor.label(
            take_prediction(window.prediction, [row]), take_views(window.views, [row])
        )
        row_map = self.predictor.renumbered()
        if row_map is not None:
            self.atlas.splats.remap(row_map)
            self.outlet.renumber(row_map)
        if meaning is not None:
            self.codebook = meaning.codebook
        return self.atlas.insert(
            window, row, arrival, meeting, known, similarity, self.codebook, meaning, self.anchored
        )

    def _done(
        self, window: Window, row: int, arrival: Arrival, keyframe: bool,
        similarity: Similarity, clock: Clock,
    ) -> Verdict:  # fmt: skip
        assert self.atlas is not None
        pose = similarity.poses(window.local_pose(row)[None])[0]
        intrinsics = window.prediction.intrinsics[0, row].float().numpy()
        self.atlas.record(arrival, pose, intrinsics, keyframe)
        clock.stop("fuse" if keyframe else "place")
        reason = "keyframe" if keyframe else "tracked"
        return Verdict(arrival.number, reason, pose, dict(clock.seconds))

    def finish(self) -> None:
        """Bring to its end what the next frames would: the correction by a loop just closed."""
        self.revisits.settle(self.atlas)
        if self.atlas is not None:
            self.atlas.submaps.finish()

    def scene(self) -> Scene:
        """The map, finished: Gaussians in the world, their codes, and the cameras of keyframes."""
        if self.atlas is None:
            raise StreamError("nothing has been mapped yet", "the stream had no usable frame")
        self.finish()
        metric = self.predictor.metric or self.anchored
        return scene_of(self.atlas, self.codebook, metric, dict(self.predictor.provenance))

    def take_delta(self) -> MapDelta | None:
        """All that changed since the last call, None if nothing did."""
        return self.outlet.take(self.atlas, self.codebook) if self.atlas else None

    def trajectory(self) -> FramePoses:
        """The frames that were placed, each in the frame of a submap, the oldest first."""
        return Trajectory(1).frames() if self.atlas is None else self.atlas.trajectory.frames()

    def save(self, path: Path) -> Path:
        """Write the whole state to one file, atomically; see `state.save_state`."""
        return save_state(self, path)

    @classmethod
    def load(
        cls, path: Path, predictor: Predictor, settings: MapperSettings | None = None
    ) -> "Mapper":
        """Go on from a saved state; see `state.load_state`. The model must be the same."""
        mapper = cls(predictor, settings)
        load_state(mapper, path)
        return mapper

    def statistics(self) -> Mapping[str, int]:
        """Sizes of the map, for those who watch it."""
        if self.atlas is None:
            return dict.fromkeys(SIZES, 0)
        sizes = self.atlas.count(), len(self.atlas.submaps.poses), len(self.atlas.keyframes)
        return dict(zip(SIZES, (*sizes, self.revisits.closed), strict=True))
