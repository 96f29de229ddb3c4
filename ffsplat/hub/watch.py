"""Work on the network that is given up when it shows no sign of life."""

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeVar

Result = TypeVar("Result")

POLL = 0.05


class Unreachable(Exception):
    """The network, or the hub behind it, does not answer; the text says how that showed."""


class Busy(Unreachable):
    """The hub asks to come back in `wait` seconds."""

    def __init__(self, text: str, wait: float):
        super().__init__(text)
        self.wait = wait


class Watch:
    """Where work tells that it gets on, and learns that nobody waits for it any more."""

    def __init__(self, patience: float):
        self.patience = patience
        """Seconds without a sign of life after which the work is given up."""
        self.last = time.monotonic()
        self._stopped = Event()

    def alive(self) -> None:
        """Tell that something was achieved; raises Unreachable if the work has been given up."""
        self.check()
        self.last = time.monotonic()

    def check(self) -> None:
        """Raise Unreachable if the work has been given up."""
        if self._stopped.is_set():
            raise Unreachable("given up")

    def stop(self) -> None:
        """Give the work up: it ends at its next `check`."""
        self._stopped.set()

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than somebody waits for the work."""
        self._stopped.wait(seconds)
        self.check()


def watched(work: Callable[[Watch], Result], patience: float) -> Result:
    """What `work` returns or raises; Unreachable after `patience` seconds without sign of life.

    It runs in a daemon thread, because resolving a name can hang beyond every timeout, and a server
    that sends a byte a second keeps within every timeout. Such a thread ends with the process.
    """
    watch = Watch(patience)
    answers: SimpleQueue[tuple[Result | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            answers.put((work(watch), None))
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
            answers.put((None, error))

    Thread(target=run, daemon=True).start()
    try:
        while True:
            try:
                result, error = answers.get(timeout=POLL)
                break
            except Empty:
                if time.monotonic() - watch.last > watch.patience:
                    raise Unreachable(f"no answer within {watch.patience:.3g} s") from None
    finally:
        watch.stop()
    if error is not None:
        raise error
    return result  # pyright: ignore[reportReturnType] - None only if that is what work returns
