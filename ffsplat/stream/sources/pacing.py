"""A recorded source played at its own speed, or another, as if it were live."""

import threading
import time
from collections.abc import Iterator

from ffsplat.stream.frame import Frame
from ffsplat.stream.sources import Source

LONGEST_WAIT = 10.0
"""Seconds; a longer gap between two frames, such as a clock that was set, is cut short."""


class Paced(Source):
    """Gives each frame when it is due, and never sooner; a frame that is overdue comes at once."""

    live = True

    def __init__(self, source: Source, speed: int | float):
        self.name, self._source, self._speed = source.name, source, speed
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        """The frames, `speed` times as fast as they were taken."""
        now, previous = time.monotonic(), None
        due = now
        for frame in self._source:
            if previous is not None:
                gap = (frame.time_ns - previous) / 1e9 / self._speed
                due += min(max(gap, 0.0), LONGEST_WAIT)
            previous = frame.time_ns
            if self._closed.wait(max(0.0, due - time.monotonic())):
                return
            yield frame

    def close(self) -> None:
        """End the iteration, even while it waits."""
        self._closed.set()
        self._source.close()
