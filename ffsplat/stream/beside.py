"""Work on something, done in threads beside the steps that need not wait for it."""

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

NICE, NICE_ANSWERS = 5, 2
"""How far threads step back: that of the thing, and that of answers, for which one waits sooner.

No farther: whoever asks for the thing waits for it after all.
"""

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

T = TypeVar("T")
R = TypeVar("R")


class Beside(Generic[T]):
    """Something that one thread gives work on, piece by piece, and goes on meanwhile.

    Pieces are done in their order, and whoever asks for the thing waits for them: all that is seen
    of it is as if each piece had been done at once.
    """

    def __init__(self, thing: T, nice: int = NICE):
        self.undone = thing
        """The thing as it is, perhaps in the midst of work: only for what no work changes."""
        self._worker, self._answerer = _Thread(nice), _Thread(NICE_ANSWERS)
        self._work: Future | None = None

    def begin(self, work: Callable[[T], object]) -> Future:
        """Do this with the thing when what was begun before is done, or has failed."""
        before = self._work

        def go() -> None:
            try:
                if before is not None:
                    before.result()  # it is done: pieces come in their order
            finally:
                work(self.undone)

        self._work = self._worker.submit(go)
        return self._work

    def submit(self, work: Callable[[], R]) -> Future[R]:
        """Do what has nothing to do with the thing, after what was submitted before."""
        return self._answerer.submit(work)

    @property
    def idle(self) -> bool:
        """Whether nobody would wait for the thing."""
        return self._work is None or self._work.done()

    def done(self) -> T:
        """The thing, when nothing is done to it any more. Raises what the work raised, once."""
        work = self._work
        try:
            if work is not None:
                work.result()
        finally:
            if self._work is work:  # not before: another thread that asks must wait too
                self._work = None
        return self.undone


class _Thread:
    """Work in a thread of less priority, piece by piece, on another core than whoever asks."""

    def __init__(self, nice: int):
        self._nice, self._id = nice, 0
        self._pool = ThreadPoolExecutor(1, "beside", self._step_back)

    def submit(self, work: Callable[[], R]) -> Future[R]:
        if self._id:
            leave_core(self._id)
        return self._pool.submit(work)

    def _step_back(self) -> None:
        """Let the kernel prefer any other thread where a core must be shared.

        The caller, when it wants to go on, else waits for this thread's slice to end: up to 5 ms.
        It steps back from where it is: of a process that is nicer already only root may take less.
        """
        self._id = threading.get_native_id()
        if sys.platform == "linux":  # elsewhere a process has one priority
            own = os.getpriority(os.PRIO_PROCESS, self._id)
            with contextlib.suppress(OSError):  # a sandbox may forbid it
                os.setpriority(os.PRIO_PROCESS, self._id, own + self._nice)


def leave_core(thread: int) -> None:
    """Have a thread of this process run on any core but that of the caller, who goes on there.

    A kernel may wake it right there, and move neither for as long as a slice.
    """
    if _LIBC is not None:
        cores = os.sched_getaffinity(0)
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.sched_setaffinity(thread, cores - {_LIBC.sched_getcpu()} or cores)
