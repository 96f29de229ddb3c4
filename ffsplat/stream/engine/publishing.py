"""Changes of the map on their way to those who follow it."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from ffsplat.stream.delta import MapDelta
from ffsplat.stream.online import OnlineMapper

log = logging.getLogger(__name__)

Subscriber = Callable[[MapDelta], None]

PATIENCE = 5
"""Times the pause between deltas for which one waits for a mapper that is at work beside."""
GLANCE_S = 0.002
"""Seconds after which it is looked at again."""


class Publisher:
    """Gives subscribers what changed, at most every so many seconds; changes in between join.

    A mapper that is not `settled` would let the thread wait, and with it the next frame: the delta
    waits instead, for a while.
    `subscribe` may be called from any thread, everything else from the one that runs the mapper.
    While nobody subscribes the changes stay in the mapper, so the first subscriber gets them all.
    """

    def __init__(self, mapper: OnlineMapper, every_s: int | float):
        self.deltas = 0
        self.failures = 0
        """Subscribers that raised, and were removed."""
        self._mapper = mapper
        self._every_s = every_s
        self._subscribers: tuple[Subscriber, ...] = ()
        self._lock = threading.Lock()
        self._last = float("-inf")
        self.noted = 0
        """Times that the map may have changed."""
        self._given = 0  # as many of them as the last delta holds

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call back with each delta from now on; returns what ends that.

        The callback runs in the thread of the mapper and must return at once: a queue that drops or
        joins what a slow reader has not fetched is its own affair. It gets the very object that the
        others get and must not change it. One that raises is removed.
        """
        subscriber = partial(callback)  # the same callback may subscribe twice
        with self._lock:
            self._subscribers = (*self._subscribers, subscriber)
        return lambda: self._remove(subscriber)

    def _remove(self, subscriber: Subscriber) -> None:
        with self._lock:
            self._subscribers = tuple(one for one in self._subscribers if one is not subscriber)

    def note_change(self) -> None:
        """The map may have changed since the last delta."""
        self.noted += 1

    @property
    def pending(self) -> bool:
        """Whether somebody waits for changes."""
        return not self.has_given(self.noted)

    def has_given(self, noted: int) -> bool:
        """Whether everybody has the first `noted` changes, or nobody wants them."""
        return self._given >= noted or not self._subscribers

    @property
    def wait_s(self) -> float | None:
        """Seconds until the next delta may go out; None if there is nothing to give, or nobody."""
        if not self.pending:
            return None
        late = time.monotonic() - self._last - self._every_s
        busy = not getattr(self._mapper, "settled", True)
        if busy and 0 <= late < PATIENCE * self._every_s:
            return GLANCE_S
        return max(0.0, -late)

    @property
    def due(self) -> bool:
        """Whether a delta may go out now."""
        return self.wait_s == 0

    def publish(self) -> bool:
        """Take what changed and give it to all subscribers; False if nothing did.

        Raises what the mapper raises.
        """
        self._last = time.monotonic()
        try:
            delta = self._mapper.take_delta()
            if delta is not None:
                self.deltas += 1
                self._give(delta)
            return delta is not None
        finally:
            self._given = self.noted  # only now: until then somebody waits

    def _give(self, delta: MapDelta) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(delta)
            except Exception:
                self.failures += 1
                self._remove(subscriber)
                log.exception("a subscriber was removed because it raised")
