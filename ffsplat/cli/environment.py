"""What the process needs around it: signals that are heard, and quiet threads."""

import atexit
import gc
import os
import signal
import sys
import threading
import warnings
from types import FrameType

REPEAT_SECONDS = 0.5

NATIVE = ("mapper", "film")
"""Names of threads that are in native code for long: a stream's network, a viewer's video."""


class Interrupted(BaseException):
    """A signal asks the command to stop.

    Not a KeyboardInterrupt: where one passes through `exec` of a string, as in `dataclasses`,
    CPython ends by killing itself, whatever exit code was asked for.
    """


class StopSignals:
    """Turns SIGINT and SIGTERM into Interrupted, and remembers which one came.

    An exception raised inside a finaliser or an import lock's callback is swallowed by Python, so
    the interrupt is raised again every half second until the block is left. A signal that the
    parent had ignored (nohup, a background job) stays ignored.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous = {}

    def __enter__(self) -> "StopSignals":
        wanted = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "setitimer"):
            wanted.append(signal.SIGALRM)
        for number in wanted:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        atexit.register(self._ignore)

    @property
    def exit_code(self) -> int | None:
        """128 plus the number of the signal that came, as a shell reports it; None without one."""
        return None if self.received is None else 128 + self.received

    def _ignore(self) -> None:
        """The work is done: a signal while the interpreter ends must not spoil the exit code."""
        for number in self._previous:
            signal.signal(number, signal.SIG_IGN)

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received = number
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, REPEAT_SECONDS)
        raise Interrupted


def silence_downloads() -> None:
    """Let the hub's library draw no bars; it reads this when it is imported."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def prepare_environment() -> None:
    """Set what libraries read when they are imported; what the user has set is left alone."""
    # Threads that spin while they wait cost five times the work they do on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Nobody at a command line can act on a library's deprecations, nor should `-W error` or
    # PYTHONWARNINGS make them fatal; ffsplat's own warnings go through logging.
    warnings.simplefilter("ignore")


def leave(code: int) -> int:
    """The exit code of a command that is done; does not return if a thread in NATIVE is not.

    The interpreter would wait for it, or end under it, which aborts the process.
    """
    if any(thread.name in NATIVE for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)
    gc.freeze()  # the memory goes as a whole: a last search of it for cycles takes up to seconds
    return code
