"""Work that another thread does later, bounded in bytes: whoever offers it never waits."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)


class Backlog:
    """Jobs done in order by one thread, which also calls `tick` about every `tick_s` seconds.

    A job that does not fit beside those that wait is refused; alone, any job fits. The first
    exception of a job ends the work: `failure` keeps it, and all further jobs are refused.
    """

    def __init__(
        self,
        name: str,
        max_bytes: int,
        tick: Callable[[], None] = lambda: None,
        tick_s: int | float = 1,
    ) -> None:
        self.failure: Exception | None = None
        self._max_bytes = max_bytes
        self._tick = tick
        self._tick_s = tick_s
        self._jobs: deque[tuple[Callable[[], None], int]] = deque()
        self._held = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, job: Callable[[], None], size: int) -> bool:
        """Have a job of about `size` bytes done; False if it is refused."""
        with self._changed:
            full = self._held > 0 and self._held + size > self._max_bytes
            if full or self._closed or self.failure is not None:
                return False
            self._jobs.append((job, max(size, 1)))
            self._held += max(size, 1)
            self._changed.notify_all()
            return True

    def close(self, timeout_s: int | float) -> bool:
        """Do what waits, for so long at most, and end the thread; False if it was not enough."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        ticked = time.monotonic()
        while True:
            with self._changed:
                left = self._tick_s - (time.monotonic() - ticked)
                self._changed.wait_for(lambda: self._jobs or self._closed, max(left, 0))
                job, size = self._jobs[0] if self._jobs else (None, 0)
                if job is None and self._closed:
                    return
            try:
                if job is not None:
                    job()
                if time.monotonic() - ticked >= self._tick_s:
                    ticked = time.monotonic()
                    self._tick()
            except Exception as error:  # noqa: BLE001 - told once; the stream itself goes on
                log.warning("%s ends: %s", self._thread.name, error)
                with self._changed:
                    self.failure = error
                    self._jobs.clear()
                return
            if job is not None:
                with self._changed:
                    self._jobs.popleft()
                    self._held -= size
