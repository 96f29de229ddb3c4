"""Frames from their arrival to their verdict: each is waiting, in work, or settled, never two."""

import threading
import time
from collections.abc import Callable

from ffsplat.stream.engine.arrivals import Arrivals
from ffsplat.stream.engine.counters import Counters, Tally
from ffsplat.stream.engine.latency import Latencies
from ffsplat.stream.engine.publishing import Publisher
from ffsplat.stream.engine.waiting import DropPolicy, Ticket, WaitingFrames
from ffsplat.stream.frame import Dropped, Verdict


class Traffic:
    """Keeps the counts of a stream under one lock, and hands frames to the one worker.

    All methods may be called from any thread, `take` and `release` from the worker's. Verdicts are
    told without the lock, in the thread that knows them first. `report` gets what callbacks raise.
    """

    def __init__(
        self,
        capacity: int,
        policy: DropPolicy,
        block_s: int | float,
        report: Callable[[Exception, str], None],
    ):
        self.lock = threading.RLock()
        self.arrivals = Arrivals()
        self.latencies = Latencies()
        self._policy = policy
        self._block_s = block_s
        self._waiting = WaitingFrames(capacity, policy)
        self._tally = Tally()
        self._arrival = threading.Condition(self.lock)  # for the worker
        self._room = threading.Condition(self.lock)  # for sources that block
        self._rest = threading.Condition(self.lock)  # for those who wait until all is done
        self._end = threading.Condition(self.lock)  # for the watchdog
        self._current: Ticket | None = None
        self._begun = 0.0  # when the worker took it
        self._drain_until: float | None = None
        self._flushing = 0
        self._untold: set[int] = set()  # turns of frames with a verdict that nobody knows yet
        self._ended = False
        self._report = report

    def enter(self, ticket: Ticket, unfit: Dropped | None) -> None:
        """Count a frame as received, and let it wait unless it is `unfit`, late or too many."""
        with self.lock:
            if self._policy == "block" and unfit is None:
                self._room.wait_for(self._open, self._block_s)
            ticket.arrived = now = time.monotonic()
            refused = "shutdown" if self.closed else unfit
            refused = refused or self.arrivals.check(ticket.frame.number, ticket.frame.time_ns, now)
            self._tally.received += 1
            ticket.turn = self._tally.received
            loser = ticket if refused else self._waiting.put(ticket)
            reason: Dropped = refused or "queue_full"
            if loser is not None:
                self._count(loser, reason)
            self._arrival.notify()
            if not self._waiting.full:
                self._room.notify()  # who waited for the room may not have taken it
        if loser is not None:
            self._tell(loser, Verdict(loser.frame.number, reason))

    def count_overrun(self) -> None:
        """Count a frame that was received and left out ("queue_full") before it came here."""
        with self.lock:
            self._tally.received += 1
            self._tally.settle("queue_full")

    def take(self, idle_s: Callable[[], float | None]) -> Ticket | None:
        """Wait for the next frame. None after `idle_s` seconds without one, or at the end."""
        with self.lock:
            while not self._waiting or self._drained:
                patience = idle_s()
                if self.closed or patience == 0 or (self.flushing and patience is not None):
                    return None
                self._arrival.wait(patience)
            self._current, self._begun = self._waiting.take(), time.monotonic()
            self._room.notify()
            return self._current

    def wake(self) -> None:
        """Let a worker that waits for a frame look again for how long."""
        with self.lock:
            self._arrival.notify()

    def release(self) -> None:
        """The worker has done all that there was to do with the frame that it took."""
        with self.lock:
            self._current = None
            self._rest.notify_all()

    def settle(self, ticket: Ticket, verdict: Verdict) -> bool:
        """Give a frame its verdict, unless it has one: then that stands, and False is returned."""
        with self.lock:
            if ticket.settled:
                return False
            self._count(ticket, verdict.reason)
            total = time.monotonic() - ticket.arrived
            self.latencies.record({**verdict.seconds, "total": total})
        self._tell(ticket, verdict)
        return True

    def measure(self, stage: str, seconds: float) -> None:
        """Count the time of a stage that is not part of any frame's way to its verdict."""
        with self.lock:
            self.latencies.record({stage: seconds})

    def overdue(self, seconds: int | float) -> Ticket | None:
        """Wait until a frame has been in work for so long; None at the end of the stream.

        No frame wakes this up: who sleeps for `seconds` is in time for all that begin meanwhile.
        """
        with self.lock:
            while not self._ended:
                ticket, left = self._current, seconds
                if ticket is not None and not (ticket.settled or ticket.answered):
                    left = self._begun + seconds - time.monotonic()
                if left <= 0:
                    return ticket
                self._end.wait(left)
            return None

    def close(self, drain_s: int | float) -> None:
        """Receive no more frames; those that wait may be taken for another `drain_s` seconds."""
        with self.lock:
            if self._drain_until is None:
                self._drain_until = time.monotonic() + drain_s
            self._arrival.notify_all()
            self._room.notify_all()

    def end(self) -> None:
        """The worker takes no more, for whatever reason."""
        with self.lock:
            self._ended = True
            self._end.notify_all()
            self._rest.notify_all()

    def shut(self) -> None:
        """Settle all that is left, the frame in work too: the stream ended first."""
        with self.lock:
            left = [] if self._current is None or self._current.settled else [self._current]
            while (ticket := self._waiting.take()) is not None:
                left.append(ticket)
            for ticket in left:
                self._count(ticket, "shutdown")
        for ticket in left:
            self._tell(ticket, Verdict(ticket.frame.number, "shutdown"))

    def flush(self, publisher: Publisher, timeout_s: int | float | None, upto: int | None) -> bool:
        """Wait until the first `upto` frames (None: all so far) have verdicts and changes are out.

        Meanwhile the worker does not collect changes. Returns False if it takes too long.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self.lock:
            upto = self._tally.received if upto is None else upto
            self._flushing += 1
            self._arrival.notify()
            try:
                settled = self._wait_for(lambda: not self._owes(upto), until)
                changes = publisher.noted
                return settled and self._wait_for(lambda: publisher.has_given(changes), until)
            finally:
                self._flushing -= 1

    def _wait_for(self, reached: Callable[[], bool], until: float | None) -> bool:
        left = None if until is None else max(0.0, until - time.monotonic())
        self._rest.wait_for(lambda: reached() or self._ended, left)
        return reached()

    def _owes(self, upto: int) -> bool:
        """Whether one of the first `upto` frames has no verdict, or not all of it is done."""
        if any(turn <= upto for turn in self._untold):
            return True
        current = self._current
        # Of one that the mapper has answered, the map still takes in what it brings.
        in_work = current is not None and (current.answered or not current.settled)
        oldest = current if in_work else self._waiting.first
        return oldest is not None and oldest.turn <= upto

    def counters(self) -> Counters:
        """The counts at this moment."""
        with self.lock:
            return self._tally.counters(self._queued)

    @property
    def closed(self) -> bool:
        """Whether frames come too late."""
        return self._drain_until is not None

    @property
    def flushing(self) -> bool:
        """Whether somebody waits in `flush`."""
        return self._flushing > 0

    @property
    def over(self) -> bool:
        """Whether `take` has nothing more to give, ever."""
        with self.lock:
            return self.closed and (not self._waiting or self._drained)

    @property
    def busy_s(self) -> float:
        """Seconds for which the worker has had its frame, 0 if it has none."""
        with self.lock:
            return 0.0 if self._current is None else time.monotonic() - self._begun

    def _open(self) -> bool:
        """Whether there is no use in waiting for room."""
        return self.closed or self._ended or not self._waiting.full

    @property
    def _drained(self) -> bool:
        return self._drain_until is not None and time.monotonic() >= self._drain_until

    @property
    def _queued(self) -> int:
        """Frames without a verdict."""
        in_work = self._current is not None and not self._current.settled
        return len(self._waiting) + in_work

    def _count(self, ticket: Ticket, reason: str) -> None:
        ticket.settled = True
        self._untold.add(ticket.turn)
        self._tally.settle(reason)

    def _tell(self, ticket: Ticket, verdict: Verdict) -> None:
        """Call back without the lock."""
        try:
            if ticket.done is not None:
                ticket.done(verdict)
        except Exception as error:  # noqa: BLE001 - the fault is the caller's, the stream goes on
            self._report(error, "the callback of a frame raised")
        finally:
            with self.lock:
                self._untold.discard(ticket.turn)
                self._rest.notify_all()
