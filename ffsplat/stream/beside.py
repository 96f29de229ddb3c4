"""Work on something, done in a thread beside the steps that need not wait for it."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

NICE = 5
"""How far the thread steps back. No farther: whoever asks for the thing waits for it after all."""

T = TypeVar("T")
R = TypeVar("R")


class Beside(Generic[T]):
    """Something that one thread gives work on, piece by piece, and goes on meanwhile.

    Pieces are done in their order, and whoever asks for the thing waits for them: all that is seen
    of it is as if each piece had been done at once.
    """

    def __init__(self, thing: T):
        self.undone = thing
        """The thing as it is, perhaps in the midst of work: only for what no work changes."""
        self._thread = ThreadPoolExecutor(1, "beside", _step_back)
        self._work: Future | None = None

    def begin(self, work: Callable[[T], object]) -> None:
        """Do this with the thing when what was begun before is done."""
        thing = self.done()
        self._work = self._thread.submit(work, thing)

    def submit(self, work: Callable[[], R]) -> Future[R]:
        """Do what has nothing to do with the thing, after what was begun before."""
        return self._thread.submit(work)

    def done(self) -> T:
        """The thing, when nothing is done to it any more. Raises what the work raised, once."""
        work, self._work = self._work, None
        if work is not None:
            work.result()
        return self.undone


def _step_back() -> None:
    """Let the kernel prefer any other thread where a core must be shared.

    The caller, when it wants to go on, else waits for this thread's slice to end: up to 5 ms.
    """
    if sys.platform == "linux":  # elsewhere a process has one priority
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
