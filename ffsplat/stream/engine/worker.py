"""The thread that runs a mapper, and the one that notices when it hangs."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from ffsplat.errors import StreamError
from ffsplat.stream.decoding import Decoded, RefusedImage, decode, from_pixels
from ffsplat.stream.engine.checkpoint import Checkpoints
from ffsplat.stream.engine.log import ErrorLog
from ffsplat.stream.engine.memory import EVERY_S, give_back
from ffsplat.stream.engine.pauses import still_pause_less
from ffsplat.stream.engine.publishing import Publisher
from ffsplat.stream.engine.settings import EngineSettings
from ffsplat.stream.engine.traffic import Traffic
from ffsplat.stream.engine.waiting import Ticket
from ffsplat.stream.frame import DROPPED, USED, Frame, Verdict
from ffsplat.stream.online import OnlineMapper

log = logging.getLogger(__name__)

FAILURES = ("model_error", "not_finite", "timeout")
"""Verdicts after which a stream is degraded for a while."""


class Worker:
    """Takes frames from the traffic, one by one, and settles them. No frame that fails ends it."""

    def __init__(
        self,
        mapper: OnlineMapper,
        settings: EngineSettings,
        traffic: Traffic,
        publisher: Publisher,
        checkpoints: Checkpoints | None,
        report: ErrorLog,
    ):
        self.warm = False
        """Whether the network has run."""
        self.statistics: Mapping[str, int | float] = {}
        """What the mapper said of the map after the last frame."""
        self.failure: BaseException | None = None
        """What ended the work before its time."""
        self._mapper = mapper
        self._settings = settings
        self._traffic = traffic
        self._publisher = publisher
        self._checkpoints = checkpoints
        self._report = report
        self._degraded_until = float("-inf")
        self._given_back = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="mapper", daemon=True)
        self._watchdog = threading.Thread(target=self._watch, name="mapper-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()
        self._watchdog.start()

    def join(self, timeout_s: int | float) -> bool:
        """Wait for the end of the work; False if it is not reached in time.

        Neither thread may be the last to hold the mapper: one that frees tensors while the
        interpreter ends aborts the process.
        """
        until = time.monotonic() + timeout_s
        for thread in (self._thread, self._watchdog):
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether it works, and has not had one frame for `stuck_s`."""
        goes_on = self._thread.is_alive() and self.failure is None
        return goes_on and self._traffic.busy_s < self._settings.stuck_s

    @property
    def degraded(self) -> bool:
        """Whether something failed within the last `degraded_s`, or hangs."""
        hangs = self._traffic.busy_s >= self._settings.hang_s
        return hangs or time.monotonic() < self._degraded_until

    def _run(self) -> None:
        try:
            self._warm_up()
            self._look_at_map()
            if any(self.statistics.values()):  # a map that was saved is there before any frame is
                self._publisher.note_change()
            while not self._traffic.over:
                ticket = self._traffic.take(lambda: self._publisher.wait_s)
                if ticket is not None:
                    self._process(ticket)
                elif self._publisher.pending:
                    self._publish()
                self._traffic.release()
            if self._checkpoints and self._checkpoints.behind:
                self._checkpoints.save(self._mapper.save)  # as who goes on would have it
            self._finish()
            if self._publisher.pending:
                self._publish()
        except BaseException as error:  # the end of the thread, which `alive` tells
            self.failure = error
            log.critical("the worker of the stream ended by an error", exc_info=True)
        finally:
            self._traffic.end()

    def _warm_up(self) -> None:
        """Have the network run once; where it cannot, nothing is lost yet, and all ends."""
        try:
            getattr(self._mapper, "warm", lambda: None)()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".removesuffix(": ")
            hint = "--debug shows where; --device cpu needs no memory of a GPU"
            raise StreamError(f"the network cannot be run: {reason}", hint) from error
        still_pause_less()
        self.warm = True

    def _finish(self) -> None:
        """Let the mapper do what the frames that come no more would have let it do."""
        try:
            getattr(self._mapper, "finish", lambda: None)()
            self._publisher.note_change()
        except Exception as error:  # noqa: BLE001 - what is mapped can still be saved
            self._fail(error, "the mapper could not be finished")

    def _process(self, ticket: Ticket) -> None:
        """One frame's way, from the queue into the map; its verdict is told on the way."""
        if not ticket.wanted():
            self._traffic.settle(ticket, Verdict(ticket.frame.number, "shutdown"))
            return
        verdict = self._attempt(ticket)
        if ticket.answered:
            self._traffic.measure("fuse", verdict.seconds.get("fuse", 0.0))
        self._settle(ticket, verdict)
        self._look_at_map()
        if self._publisher.due or (self._publisher.pending and self._traffic.flushing):
            self._publish()
        if self._checkpoints and verdict.used:
            self._checkpoints.add(verdict.reason == "keyframe")
            if self._checkpoints.due:
                self._checkpoints.save(self._mapper.save)
        if time.monotonic() - self._given_back > EVERY_S:
            give_back()
            self._given_back = time.monotonic()

    def _attempt(self, ticket: Ticket) -> Verdict:
        """What the mapper says of a frame, or why it could not say anything."""
        frame, begun = ticket.frame, time.monotonic()
        seconds = {"queue": begun - ticket.arrived}

        def own(verdict: Verdict) -> Verdict:
            return replace(verdict, number=frame.number, seconds={**verdict.seconds, **seconds})

        try:
            decoded = self._decode(frame)
            seconds["decode"] = time.monotonic() - begun
            verdict = self._mapper.add(
                decoded.pixels,
                frame.time_ns,
                frame.pose,
                frame.intrinsics,
                number=frame.number,
                size=(decoded.width, decoded.height),
                cancelled=lambda: ticket.settled,
                tell=lambda verdict: self._settle(ticket, own(verdict)),
            )
            if verdict.reason not in (*USED, *DROPPED):
                raise ValueError(f"verdict {verdict.reason}")
        except RefusedImage as error:
            return own(Verdict(frame.number, error.reason))
        except Exception as error:  # noqa: BLE001 - a network may raise anything
            self._fail(error, "the mapper raised", frame=frame.number)
            return own(Verdict(frame.number, "model_error"))
        self.warm = True
        return own(verdict)

    def _settle(self, ticket: Ticket, verdict: Verdict) -> None:
        """Tell a verdict, unless the frame has one: nobody waits longer than for the pose."""
        ticket.answered = True
        self._publisher.note_change()
        if verdict.reason in FAILURES:
            self._degrade()
        self._traffic.settle(ticket, verdict)

    def _decode(self, frame: Frame) -> Decoded:
        resolution = self._mapper.resolution
        if not isinstance(frame.image, bytes):
            return from_pixels(frame.image, resolution=resolution)
        return decode(
            frame.image,
            resolution=resolution,
            max_bytes=self._settings.max_bytes,
            max_megapixels=self._settings.max_megapixels,
        )

    def _publish(self) -> None:
        begun = time.monotonic()
        try:
            if self._publisher.publish():
                self._traffic.measure("publish", time.monotonic() - begun)
            self._look_at_map()
        except Exception as error:  # noqa: BLE001 - the next changes may go out
            self._fail(error, "changes of the map could not be taken")

    def _look_at_map(self) -> None:
        try:
            self.statistics = dict(getattr(self._mapper, "statistics", dict)())
        except Exception as error:  # noqa: BLE001 - figures are no reason to stop
            self._report(error, "the mapper has no figures")

    def _watch(self) -> None:
        while (ticket := self._traffic.overdue(self._settings.hang_s)) is not None:
            number = ticket.frame.number
            log.error("frame %s hangs and is dropped", number, extra={"frame": number})
            self._degrade()
            self._traffic.settle(ticket, Verdict(number, "timeout"))

    def _fail(self, error: Exception, what: str, **extra: object) -> None:
        self._degrade()
        self._report(error, what, **extra)

    def _degrade(self) -> None:
        self._degraded_until = time.monotonic() + self._settings.degraded_s
