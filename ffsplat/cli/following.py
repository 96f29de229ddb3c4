"""A stream at work under a command: a thread that reads the source, and an end in good order."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

from ffsplat.cli.environment import Interrupted
from ffsplat.stream.engine.engine import Engine
from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.sources import Source

Note = Callable[[Frame, Verdict], None]

TICK = 0.1
"""Seconds between two looks at the stream."""

LOOKS = 50
"""In a row, at an engine that does not live, until it is dead: a process that was itself stopped
for minutes (a frozen container) finds its frame overdue, and needs a moment to go on."""

LEAVING_SECONDS = 2.0
"""How long a source may take to end after it was closed; it is left behind then."""


class GentleStop:
    """The first SIGINT or SIGTERM is remembered: the stream ends in order. The next one interrupts.

    A signal that the parent had ignored stays ignored.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> "GentleStop":
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.getsignal(number)
            if previous is not signal.SIG_IGN:
                with contextlib.suppress(ValueError):  # another thread than the main one
                    signal.signal(number, self._hear)
                    self._previous[number] = previous
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """128 plus the number of the signal that came; 0 without one."""
        return 0 if self.received is None else 128 + self.received

    def _hear(self, number: int, frame: FrameType | None) -> None:
        # Nothing but a number is set here: the main thread may hold any lock at this moment.
        if self.received is None:
            self.received = number
            return
        previous = self._previous[number]
        if callable(previous):
            previous(number, frame)
        raise Interrupted


class Pump:
    """Hands the frames of a source to an engine in a thread of its own, `most` of them.

    `ended` turns true when there are no more; `failure` is what the source raised, if anything.
    `note` is told of each frame and its verdict.
    """

    def __init__(
        self, source: Source, engine: Engine, most: int | None = None, note: Note | None = None
    ):
        self.ended = threading.Event()
        self.failure: Exception | None = None
        self.is_complete = False
        """Whether it ended because `most` frames were handed over."""
        self._source, self._engine, self._most, self._note = source, engine, most, note
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Read no further; a thread that waits for room in the engine ends when that is stopped."""
        self._stopped = True
        self._source.close()
        if self._thread.ident is not None:
            self._thread.join(LEAVING_SECONDS)

    def _run(self) -> None:
        try:
            for count, frame in enumerate(self._source, 1):
                if self._stopped:
                    return
                self._engine.offer(frame, self._note and partial(self._note, frame))
                if count == self._most:
                    self.is_complete = True
                    return
        except Exception as error:  # noqa: BLE001 - it is raised in the main thread, at the end
            self.failure = error
        finally:
            self.ended.set()


def follow(
    engine: Engine,
    pump: Pump | None,
    stop: GentleStop,
    seconds: int | float | None,
    stay: bool,
    tell: Callable[[], None],
) -> None:
    """Return when the stream is to end: by a signal, its source, `seconds`, or a dead engine.

    With `stay` the source may end, unless it failed or gave all frames that were asked for. `tell`
    is called every now and then.
    """
    until = time.monotonic() + (float("inf") if seconds is None else seconds)
    dead = 0

    def going() -> bool:
        nonlocal dead
        dead = 0 if engine.alive else dead + 1
        lost = engine.failure is not None or dead >= LOOKS
        return stop.received is None and not lost and time.monotonic() < until

    def reading() -> bool:
        if pump is None or not pump.ended.is_set():
            return True
        return stay and not pump.is_complete and pump.failure is None

    while going() and reading():
        tell()
        time.sleep(TICK)
    while going() and not engine.flush(TICK):  # what was read is worth its place in the map
        tell()
