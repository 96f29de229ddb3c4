"""The online mapper: frames in, one after the other, and a bounded map that is always usable.

Each frame goes through the any-view network together with keyframes that see the same place. What
the network says of these is laid over what the map knows of them, by a robust similarity; that
places the frame. If it shows enough that is new, its pixels join the map.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, UInt8

from ffsplat.alignment import Similarity
from ffsplat.chunks.place import FIRST
from ffsplat.chunks.some import take_prediction, take_views
from ffsplat.errors import StreamError
from ffsplat.prediction import PixelMeaning
from ffsplat.stream.atlas import Atlas
from ffsplat.stream.beside import NICE_ANSWERS, Beside
from ffsplat.stream.canvas import Canvas
from ffsplat.stream.clock import Clock
from ffsplat.stream.delta import FramePoses, MapDelta
from ffsplat.stream.doubt import look_again
from ffsplat.stream.frame import Dropped, Verdict
from ffsplat.stream.given import is_intrinsics, is_pose
from ffsplat.stream.keyframes import Keyframe
from ffsplat.stream.map import SplatMap
from ffsplat.stream.novelty import News, is_new, news_of
from ffsplat.stream.outlet import Outlet, scene_of, sizes_of
from ffsplat.stream.past import choose_past, is_young
from ffsplat.stream.placing import DOUBT, lay, surest, ties
from ffsplat.stream.predictor import Predictor
from ffsplat.stream.quality import FrameCheck
from ffsplat.stream.revisits import (
    Revisits,
    first_placed,
    learn_scale,
    stand_as_given,
    take_senders_world,
    where_given,
)
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.state import load_state, save_state
from ffsplat.stream.trajectory import Trajectory
from ffsplat.stream.warm import warm_up
from ffsplat.stream.window import Arrival, Window, as_arrival, is_finite, see
from ffsplat.types import Scene

PATIENCE = 10
"""Frames in a row that may be lost; the next one is believed."""

UNPROVED = 3
"""Frames in a row, proved by nothing that they show, from which poses that come with them are
believed though they tell of another way."""

MOVING = 0.5
"""Share of a frame that may contradict what keyframes show; with more it is left out."""


class Mapper:
    """Maps one stream, in one thread; every bound of its memory is in the settings."""

    def __init__(self, predictor: Predictor, settings: MapperSettings | None = None):
        """A mapper with an empty map."""
        self.predictor = predictor
        self.settings = settings or MapperSettings()
        self.resolution = predictor.resolution
        self.canvas = Canvas(predictor.resolution, predictor.patch)
        self.atlas = None
        self.anchored = False
        self.codebook = predictor.codebook
        self.placed = FIRST
        self._check = FrameCheck()
        self._last = -1
        self._lost = 0
        self._sizes: Mapping[str, int] = {}
        self.revisits = Revisits()
        self.outlet = Outlet()

    @property
    def atlas(self) -> Atlas | None:
        """All that is remembered, once what the last frame left to do is done.

        What failed of that is raised here, once.
        """
        return self._beside.done()

    @atlas.setter
    def atlas(self, atlas: Atlas | None) -> None:
        self._beside = Beside(atlas, NICE_ANSWERS)

    @property
    def epoch(self) -> int:
        """How often submaps have been moved so far; any thread may ask, none waits."""
        atlas = self._beside.undone
        return 0 if atlas is None else atlas.submaps.epoch

    def warm(self) -> None:
        """Have everything compiled that a frame may need; the map does not change."""
        warm_up(self)

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
        tell: Callable[[Verdict], None] = lambda verdict: None,
    ) -> Verdict:
        """Place a frame (sRGB), and fuse it if it is a keyframe.

        `time_ns` is now unless given, `number` one more than the last, also where a sender begins
        anew with smaller ones; `pose` is world_from_camera in a world of the sender. `size` (width,
        height) is that of the picture as it was sent, if `image` is a smaller version; `intrinsics`
        is in its pixels. `cancelled` is asked after the network: if true, the map stays as it was
        ("timeout"). `tell` is called with the verdict once the pose is known. The map takes the
        frame in beside, while the caller goes on: whoever asks for the map waits for that. Raises
        what the network raises, or what the frame before failed to leave in the map.
        """
        number = self._last = max(self._last + 1, -1 if number is None else number)
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
        arrival = Arrival(number, when, picture, given)
        (verdict,) = self.add_together([arrival], cancelled, clock, tell)
        if not verdict.used:
            return verdict
        self._beside.begin(self._prepare)
        return _timed(verdict, clock)

    def _prepare(self, atlas: Atlas | None) -> None:
        """Find ahead what the next frame asks for, while nobody waits."""
        choose_past(atlas, self.revisits, self.settings.window, 1)
        self._sizes = sizes_of(atlas, self.revisits.closed)

    def add_together(
        self,
        arrivals: Sequence[Arrival],
        cancelled: Callable[[], bool] = lambda: False,
        clock: Clock | None = None,
        tell: Callable[[Verdict], None] = lambda verdict: None,
    ) -> list[Verdict]:
        """Place several frames by one window; at least one view of it is left for keyframes.

        None is lost or moving if the settings say that all frames show one place.
        """
        clock = clock or Clock()
        atlas, views = self.atlas, self.settings.window
        given = arrivals[0].given if self.anchored else None
        past = choose_past(atlas, self.revisits, views, len(arrivals), given)
        starting = is_young(atlas, views)
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
        return self._go_on(window, arrivals, clock, tell)

    def _laid(self, window: Window, arrivals: Sequence[Arrival], clock: Clock) -> Window | None:
        """The window where it lies in the map, None if nothing proves that."""
        if self.atlas is None:
            return replace(window, placed=first_placed(window, [one.given for one in arrivals]))
        first, young = len(window.past), is_young(self.atlas, self.settings.window)
        tied = ties(window, first, range(first - (self.revisits.candidate is not None)))
        if surest(tied) > DOUBT and first > 1 and not young:
            least, before = self.settings.min_confidence, window
            beside = partial(
                see, self.predictor, arrivals=arrivals, min_confidence=least, clock=clock
            )
            window, tied = look_again(self.atlas, window, tied, lambda one: beside([one]))
            if window is not before:
                self.revisits.candidate = None
        self.placed = lay(window, tied, self.atlas.submaps.places)
        sure = () if young else tuple((one.row, one.error) for one in tied)
        window = replace(window, placed=self.placed, tied=sure)
        given, proved = arrivals[0].given is not None, surest(tied) <= DOUBT
        if not (proved or given or self.settings.believe or self._lost >= PATIENCE):
            self._lost += 1
            if not young:
                self.atlas.doubt(window, arrivals[0])
            return None
        # Less than PATIENCE: after frames that their poses alone place, one without may be lost.
        self._lost = min(self._lost + 1, UNPROVED) if given and not proved else 0
        self.atlas.settle(window.past)
        return window

    def _start(self, window: Window, arrivals: Sequence[Arrival], clock: Clock) -> list[Verdict]:
        """As long as there are few keyframes, one window sees them all: the map is made anew."""
        first = len(window.past)
        every = [as_arrival(one) for one in window.past] + list(arrivals)
        before = rows = list(range(len(self._in_map(window.past))))
        for row in range(first, len(every)):
            if is_new(window, row, rows, self.settings.overlap):
                rows = [*rows, row]
        chosen = set(rows) - set(before)
        given = [one.given if self.anchored else None for one in every]
        lies = {row: where_given(window, row, pose) for row, pose in enumerate(given)}
        if chosen:
            if self.atlas is None:
                side = window.placed.similarity.scale * window.footprint()
                cell = self.settings.cell or self.settings.coarse * side
                self.atlas = Atlas(self.settings, SplatMap(self.settings, cell))
            self.atlas.clear()
            poses = [one.given for one in every]
            said = stand_as_given(self.atlas, window, poses, self._lost < UNPROVED)
            lies, self.anchored = lies | said, self.anchored or bool(said)
            known: dict[int, Keyframe] = {}
            for row in rows:
                meaning = self._meaning(window, row)  # it may change the codebook
                shown = known, lies[row], self.codebook, meaning
                known[row] = self.atlas.insert(window, row, every[row], *shown, self.anchored)
            if self.anchored:
                self.atlas.stand_as_given(self.atlas.submaps.poses)
        assert self.atlas is not None  # a first frame is always new
        verdicts = []
        for row, arrival in enumerate(arrivals, first):
            verdict = self._verdict(window, row, arrival, row in chosen, lies[row], clock)
            if row > rows[-1]:
                self.atlas.track(window, row, arrival, lies[row], self.anchored)
            pose = lies[row].poses(window.local_pose(row)[None])[0]
            self.atlas.record(arrival, pose, window.intrinsics(row), row in chosen)
            self._take_over(self.atlas, arrival)
            verdicts.append(_timed(verdict, clock))
        return verdicts

    def _in_map(self, past: Sequence[Keyframe]) -> list[Keyframe]:
        """The first views of a window: all but the latest frame, where that is no keyframe."""
        return [one for one in past if self.atlas and one.number in self.atlas.keyframes]

    def _go_on(
        self,
        window: Window,
        arrivals: Sequence[Arrival],
        clock: Clock,
        tell: Callable[[Verdict], None],
    ) -> list[Verdict]:
        """Place new frames beside keyframes that stay; those that show enough become some."""
        assert self.atlas is not None
        first = len(window.past)
        past = list(window.past)
        if self.revisits.candidate is not None:
            self.revisits.close(self.atlas, window, first)
            past.pop()
        known = dict(enumerate(self._in_map(past)))
        rows = list(known)
        verdicts = []
        for row, arrival in enumerate(arrivals, first):
            self._beside.done()  # what the one before left: `known` is part of it
            news = news_of(window, row, rows, self.settings.overlap)
            if news.moving > MOVING and not self.settings.believe:
                verdicts.append(_timed(Verdict(arrival.number, "moving"), clock))
                continue
            given = arrival.given if self.anchored else None
            similarity = where_given(window, row, given)
            verdict = self._verdict(window, row, arrival, news.new, similarity, clock)
            tell(verdict)
            meaning = self._meaning(window, row) if news.new else None
            left = window, row, arrival, verdict.pose, news, similarity, known, meaning
            self._beside.begin(partial(self._take_in, *left))
            rows += [row] if news.new else []
            verdicts.append(_timed(verdict, clock))
        self._beside.begin(self.revisits.settle)
        return verdicts

    def _take_in(
        self,
        window: Window,
        row: int,
        arrival: Arrival,
        pose: Float64[np.ndarray, "4 4"],
        news: News,
        similarity: Similarity,
        known: dict[int, Keyframe],
        meaning: PixelMeaning | None,
        atlas: Atlas | None,
    ) -> None:
        """Do what a frame leaves to do once its verdict is told; a keyframe is `known` then."""
        assert atlas is not None
        if news.new:
            if self.anchored and arrival.given is not None:
                similarity = learn_scale(atlas, window, row, arrival.given)
            shown = known, similarity, self.codebook, meaning, self.anchored, news.moved
            known[row] = atlas.insert(window, row, arrival, *shown)
        else:
            atlas.track(window, row, arrival, similarity, self.anchored)
        atlas.record(arrival, pose, window.intrinsics(row), news.new)
        self._take_over(atlas, arrival)
        if news.new and self.settings.loops and not self.anchored:
            self.revisits.choose(atlas, list(known.values()))

    def _take_over(self, atlas: Atlas, arrival: Arrival) -> None:
        """Make the sender's world that of the map, if a frame with a pose tells where it is."""
        if arrival.given is not None and not self.anchored:
            self.anchored = take_senders_world(atlas, self._lost < UNPROVED)

    def _meaning(self, window: Window, row: int) -> PixelMeaning | None:
        """What the model says of a new keyframe, in the thread that it works in."""
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
        return meaning

    def _verdict(
        self, window: Window, row: int, arrival: Arrival, keyframe: bool,
        similarity: Similarity, clock: Clock,
    ) -> Verdict:  # fmt: skip
        pose = similarity.poses(window.local_pose(row)[None])[0]
        clock.stop("place")
        reason = "keyframe" if keyframe else "tracked"
        return Verdict(arrival.number, reason, pose, dict(clock.seconds))

    def finish(self) -> None:
        """Bring to its end what the next frames would: the correction by a loop just closed."""
        if self.atlas is not None:
            self.atlas.submaps.finish()

    def scene(self) -> Scene:
        """The map, finished: Gaussians in the world, their codes, and the cameras of keyframes."""
        if self.atlas is None:
            raise StreamError("nothing has been mapped yet", "the stream had no usable frame")
        self.finish()
        metric = self.predictor.metric or self.anchored
        return scene_of(self.atlas, self.codebook, metric, dict(self.predictor.provenance))

    @property
    def settled(self) -> bool:
        """Whether `take_delta` would not wait for what is on its way into the map."""
        atlas = self._beside.undone
        return self._beside.idle and (atlas is None or atlas.settled)

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
        """Sizes of the map, for those who watch it: without a frame that is on its way into it."""
        if self._beside.idle:
            self._sizes = sizes_of(self._beside.undone, self.revisits.closed)
        return self._sizes


def _timed(verdict: Verdict, clock: Clock) -> Verdict:
    """A verdict with all that its frame took."""
    clock.stop("fuse" if verdict.used else "place")
    return replace(verdict, seconds=dict(clock.seconds))
