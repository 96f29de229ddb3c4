"""A mapper at work in its own thread, behind a bounded queue that any thread may feed."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from ffsplat.stream.decoding import RefusedImage
from ffsplat.stream.engine.checkpoint import Checkpoints
from ffsplat.stream.engine.counters import Counters
from ffsplat.stream.engine.latency import Percentiles
from ffsplat.stream.engine.log import ErrorLog
from ffsplat.stream.engine.metrics import Readings
from ffsplat.stream.engine.publishing import Publisher, Subscriber
from ffsplat.stream.engine.settings import EngineSettings
from ffsplat.stream.engine.traffic import Traffic
from ffsplat.stream.engine.waiting import Ticket, thumbnail
from ffsplat.stream.engine.worker import Worker
from ffsplat.stream.frame import Dropped, Frame, Verdict
from ffsplat.stream.online import OnlineMapper

__all__ = ["Engine", "EngineSettings"]

log = logging.getLogger(__name__)

DRAIN_SHARE = 0.8
"""Part of the time to stop in which frames are still worked on; the rest is for the last save."""

_END = 2**63
"""Numbers and stamps are written in 64 bits."""


class Engine:
    """Runs a mapper in one thread; sources feed it, and a server watches it, from theirs.

    Every frame that is offered gets exactly one verdict. A frame that is damaged, or at which the
    network raises or hangs, costs itself, never the stream. All methods may be called from any
    thread. One engine takes the frames of one camera: numbers and stamps are compared.

    A mapper may have `warm()`, called once before the first frame: if it raises, the worker ends,
    as no frame would fare better (`failure`). It may have `finish()`, called once after
    the last, and `statistics()`, names and values for the metrics, called after each frame in the
    worker's thread: it must be cheap.
    """

    def __init__(self, mapper: OnlineMapper, settings: EngineSettings | None = None):
        self.settings = settings = settings or EngineSettings()
        report = ErrorLog(log)
        self._mapper = mapper
        self._decoding = threading.Lock()
        self._traffic = Traffic(settings.queue, settings.drop, settings.block_s, report)
        self._publisher = Publisher(mapper, settings.publish_s)
        self._checkpoints = (
            Checkpoints(settings.checkpoint, settings.checkpoint_every)
            if settings.checkpoint is not None
            else None
        )
        self._worker = Worker(
            mapper, settings, self._traffic, self._publisher, self._checkpoints, report
        )

    def start(self) -> None:
        """Begin to work. Raises OutputError if no checkpoint can be written where it should."""
        if self._checkpoints:
            self._checkpoints.prepare()
        self._worker.start()

    def offer(
        self,
        frame: Frame,
        done: Callable[[Verdict], None] | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Let a frame wait for the mapper, or drop it at once; `done` gets its verdict.

        A frame that is not `wanted` any more when its turn comes is dropped ("shutdown").
        `done` is called once, in whatever thread knows the verdict first, and must return at once.
        Blocks under the policy "block" only: until there is room, the stream ends, or `block_s`
        have passed ("queue_full"). Under "keyframe" the calling thread decodes a thumbnail.
        """
        ticket = Ticket(frame, done, time.monotonic(), wanted=wanted)
        self._traffic.enter(ticket, self._unfit(ticket))

    def count_overrun(self) -> None:
        """Count a frame that its sender's queue had no room for, as received and "queue_full"."""
        self._traffic.count_overrun()

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call back with each change of the map from now on; see `Publisher.subscribe`."""
        unsubscribe = self._publisher.subscribe(callback)
        self._traffic.wake()
        return unsubscribe

    def flush(self, timeout_s: int | float | None = None, upto: int | None = None) -> bool:
        """Wait until every frame so far has its verdict, and what it changed is out.

        `upto` waits for less: the frames that had been received at an earlier moment, by
        `counters().received`. Returns False after `timeout_s`, or if the worker ended before.
        """
        return self._traffic.flush(self._publisher, timeout_s, upto)

    def stop(self, timeout_s: int | float = 10.0) -> bool:
        """End the stream: waiting frames are worked on while there is time, then the map is saved.

        New frames get "shutdown", and so do those for which the time did not suffice. Returns
        whether the worker ended in time; if not, it is left behind. Stopping twice is harmless.
        """
        self._traffic.close(DRAIN_SHARE * timeout_s)
        ended = self._worker.join(timeout_s)
        self._traffic.shut()
        return ended

    @property
    def alive(self) -> bool:
        """Whether the worker lives and is not stuck: if not, only a new process helps."""
        return self._worker.alive

    @property
    def failure(self) -> BaseException | None:
        """What ended the worker before its time, None if nothing did."""
        return self._worker.failure

    @property
    def ready(self) -> bool:
        """Whether frames are welcome: the network has run once, and the stream has not ended."""
        return self._worker.warm and self._worker.alive and not self._traffic.closed

    @property
    def degraded(self) -> bool:
        """Whether the network failed within the last `degraded_s`, or hangs."""
        return self._worker.degraded

    @property
    def saved(self) -> bool:
        """Whether the newest checkpoint holds all that was mapped, or none is wanted."""
        return self._checkpoints is None or not self._checkpoints.behind

    @property
    def epoch(self) -> int:
        """How often the poses of the map were corrected."""
        return self._mapper.epoch

    def counters(self) -> Counters:
        """What became of the frames so far; the numbers add up at every moment."""
        return self._traffic.counters()

    def latency(self) -> dict[str, Percentiles]:
        """Percentiles of the seconds of each stage, over all frames that reached the worker."""
        with self._traffic.lock:
            latencies = self._traffic.latencies.copy()
        return latencies.percentiles()

    def metrics(self) -> str:
        """All figures as text for Prometheus."""
        return self._readings().text()

    def health(self) -> dict[str, object]:
        """State, counts, and percentiles in milliseconds: only what JSON can say."""
        readings = self._readings()
        milliseconds = {
            stage: {name: round(1000 * seconds, 3) for name, seconds in asdict(one).items()}
            for stage, one in self.latency().items()
        }
        return {
            **{name: bool(readings.gauges[name]) for name in ("alive", "ready", "degraded")},
            "epoch": self.epoch,
            "frames": asdict(readings.counters),
            "map": dict(readings.map),
            "latency_ms": milliseconds,
        }

    def _readings(self) -> Readings:
        checkpoints, arrivals = self._checkpoints, self._traffic.arrivals
        counts = {
            "clock_jumps": arrivals.jumps,
            "clock_gaps": arrivals.gaps,
            "deltas": self._publisher.deltas,
            "subscriber_failures": self._publisher.failures,
            "checkpoint_failures": checkpoints.failures if checkpoints else 0,
        }
        gauges = {
            "epoch": float(self.epoch),
            "alive": float(self.alive),
            "ready": float(self.ready),
            "degraded": float(self.degraded),
        }
        if checkpoints:
            gauges["checkpoint_age_seconds"] = checkpoints.age_s
        with self._traffic.lock:
            stages = self._traffic.latencies.copy().stages
            counters = self._traffic.counters()
        return Readings(counters, stages, counts, gauges, self._worker.statistics)

    def _unfit(self, ticket: Ticket) -> Dropped | None:
        """Why a frame cannot be used, whatever came before it; also makes its thumbnail."""
        frame, limits = ticket.frame, self.settings
        if not (-_END <= frame.number < _END and -_END <= frame.time_ns < _END):
            return "invalid"
        for matrix, shape in ((frame.pose, (4, 4)), (frame.intrinsics, (3, 3))):
            if matrix is not None and not (matrix.shape == shape and np.isfinite(matrix).all()):
                return "invalid"
        if isinstance(frame.image, bytes):
            too_large = len(frame.image) > limits.max_bytes
        else:
            too_large = frame.image[..., 0].size > limits.max_megapixels * 1e6
        if too_large:
            return "too_large"
        if limits.drop == "keyframe":
            try:
                with self._decoding:  # the memory of one large picture, however many sources
                    ticket.thumbnail = thumbnail(
                        frame.image, limits.max_bytes, limits.max_megapixels
                    )
            except RefusedImage as error:
                return error.reason
        return None
