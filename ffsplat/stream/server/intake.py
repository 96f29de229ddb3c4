"""Frames of one session on their way to the engine, and their verdicts on the way back."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Mapping
from functools import partial

from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.protocol.control import FrameAck, Hello, Pose
from ffsplat.stream.protocol.errors import MALFORMED, RATE, ProtocolError
from ffsplat.stream.protocol.frames import read_frame
from ffsplat.stream.protocol.header import Kind, Message
from ffsplat.stream.server.gate import Gate
from ffsplat.stream.server.limits import TokenBucket
from ffsplat.stream.server.outbox import Outbox
from ffsplat.stream.server.services import Services

UNSEATED = "other_camera"
"""Why frames are left out of a map that is made of those of another session, or of a source."""

log = logging.getLogger(__name__)


class Intake:
    """Takes the frames of a session one by one, in their order, and tells what became of each.

    The server always reads on, and so notices when the client leaves; then no frame of it is begun.
    Under "block" `Services.in_flight` frames may be without a verdict, and who sends more loses
    those ("queue_full"): nothing is lost to a client that waits for verdicts. Under other policies
    the engine chooses what goes, and at most so many frames wait to be handed to it.

    Frames of a session that has not the place of the camera (see `Seat`) are UNSEATED.
    """

    def __init__(self, services: Services, outbox: Outbox, hello: Hello, gate: Gate):
        self._present = True
        self._gate = gate
        self._was_refused = False
        self._policy = hello.drop or services.engine.settings.drop
        self._services = services
        self._outbox = outbox
        self._wants = hello.want
        self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(services.settings.max_fps, time.monotonic())
        self._last: int | None = None
        self._waiting: deque[Frame] = deque()
        self._open: dict[int, int] = {}  # numbers and times of frames without a verdict
        self._arrived = asyncio.Event()
        self._judged = asyncio.Event()

    def take(self, message: Message) -> None:
        """Take a frame, or refuse it.

        Raises ProtocolError: 4400 for a message that is none, 4429 for too many a second.
        """
        if message.kind != Kind.FRAME:
            raise ProtocolError(MALFORMED, f"a client sends no messages of kind {message.kind}")
        counters = self._services.counters
        counters.add("frames_total")
        if not self._bucket.take(time.monotonic()):
            raise ProtocolError(RATE, f"more than {self._bucket.rate:g} frames a second")
        frame = read_frame(message)
        if self._last is not None and frame.number <= self._last:
            counters.add("repeated_frames_total")
            return
        self._last = frame.number
        self._open[frame.number] = frame.time_ns
        self._waiting.append(frame)
        if loser := self._one_too_many():
            counters.add("overrun_frames_total")
            self._services.engine.count_overrun()
            self._waiting.remove(loser)
            self._tell(loser.number, False, "queue_full")
        self._arrived.set()

    def _one_too_many(self) -> Frame | None:
        """The frame that goes because too many are here."""
        most = self._services.in_flight
        if self._policy == "block":
            return self._waiting[-1] if len(self._open) > most else None
        return self._waiting[0] if len(self._waiting) > most else None

    async def run(self) -> None:
        """Hand frames to the engine until cancelled."""
        engine = self._services.engine
        while True:
            while self._waiting:
                if not await self._may_film():
                    self._refuse()
                    continue
                frame = self._waiting.popleft()
                await self._loop.run_in_executor(
                    self._services.waiting,
                    engine.offer,
                    frame,
                    partial(self._done, frame),
                    self._wanted,
                )
            self._arrived.clear()
            await self._arrived.wait()

    async def settled(self) -> None:
        """Return when every frame that was taken so far has its verdict."""
        last = self._last
        while any(number <= (last or 0) for number in self._open):
            self._judged.clear()
            await self._judged.wait()

    def leave(self) -> None:
        """The session ends: nothing more of it is begun, and another may be the camera."""
        self._present = False
        self._services.seat.leave(self._gate)

    async def _may_film(self) -> bool:
        return self._services.settings.takes_frames and await self._services.seat.take(self._gate)

    def _refuse(self) -> None:
        """Leave out the frames that wait here."""
        if not self._was_refused:
            self._was_refused = True
            log.warning("frames of a second camera are left out: one makes the map")
        while self._waiting:
            self._services.counters.add("unseated_frames_total")
            self._tell(self._waiting.popleft().number, False, UNSEATED)

    def _wanted(self) -> bool:
        return self._present

    def _done(self, frame: Frame, verdict: Verdict) -> None:
        """The engine's answer, in a thread of the engine."""
        if self._services.note is not None:
            self._services.note(frame, verdict)
        if self._present:
            epoch = self._services.engine.epoch
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                self._loop.call_soon_threadsafe(self._settle, verdict, epoch)

    def _settle(self, verdict: Verdict, epoch: int) -> None:
        """Tell the client what became of a frame in the engine."""
        milliseconds = {name: round(1e3 * s, 3) for name, s in verdict.seconds.items()}
        time_ns = self._tell(verdict.number, verdict.used, verdict.reason, milliseconds)
        if time_ns is not None and verdict.pose is not None and "pose" in self._wants:
            numbers = tuple(map(float, verdict.pose.ravel()))
            self._outbox.reply(Pose(verdict.number, time_ns, epoch, numbers))

    def _tell(
        self, number: int, used: bool, reason: str, milliseconds: Mapping[str, float] | None = None
    ) -> int | None:
        """Close the account of a frame; its time, None if nobody waits for that any more."""
        time_ns = self._open.pop(number, None)
        self._judged.set()
        if time_ns is None or not self._present:
            return None
        if "ack" in self._wants:
            self._outbox.acknowledge(FrameAck(number, used, reason, milliseconds or {}))
        return time_ns
