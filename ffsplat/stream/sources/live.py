"""A camera that does not wait: read in a thread that keeps the newest picture, and reconnects."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from ffsplat.errors import StreamError
from ffsplat.stream.frame import Frame
from ffsplat.stream.sources import Source
from ffsplat.stream.sources.container import Picture

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0)
"""Seconds before each attempt to connect again; then the camera counts as lost."""

CLOSING_SECONDS = 6.0
"""How long `close` waits for the reading thread, which waits for data no longer than that."""


@runtime_checkable
class Connection(Protocol):
    """An open camera; the iteration ends, or raises StreamError, when the connection breaks."""

    def __iter__(self) -> Iterator[Picture]:
        """The pictures as they come."""
        ...

    def close(self) -> None:
        """Give it up."""
        ...


class LiveSource(Source):
    """The newest picture whenever one is asked for; what came in between is dropped and counted.

    Frames carry the time at which they arrived. `arrived` pictures came, `missed` of them were
    dropped here.
    """

    live = True

    def __init__(
        self, name: str, connect: Callable[[], Connection], *, waits: Sequence[float] = WAITS
    ):
        """Connect, which raises StreamError at once if it fails; then read in a thread.

        Later a connection that breaks is tried again after each of `waits`, in seconds; a picture
        that comes begins that row anew. After the last one the iteration raises StreamError.
        """
        self.name, self._connect, self._waits = name, connect, tuple(waits)
        self.arrived = self.missed = 0
        self._tries = 0
        self._newest: tuple[Picture, int, int] | None = None
        self._failure: Exception | None = None
        self._ended = False
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(connect(),), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        """Frames until the source is closed; StreamError when the camera is lost."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._ended)
                newest, self._newest = self._newest, None
            if self._closed.is_set():
                return
            if newest is None:
                if self._failure is not None:
                    raise self._failure
                return
            picture, time_ns, number = newest
            yield Frame(picture.pixels(), time_ns, number, name=f"{self.name}:{number}")

    def close(self) -> None:
        """End the iteration, and wait a moment for the camera to be given up."""
        self._closed.set()
        self._end(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSING_SECONDS)

    def _run(self, connection: Connection) -> None:
        try:
            self._read(connection)
        except Exception as error:  # noqa: BLE001 - it is raised again where frames are asked for
            self._end(error)

    def _read(self, connection: Connection | None) -> None:
        """Read one connection after the other until the source is closed."""
        while connection is not None:
            cause = "it ended"
            try:
                for picture in connection:
                    self._keep(picture)
                    if self._closed.is_set():
                        return
            except StreamError as error:
                cause = str(error)
            finally:
                connection.close()
            connection = self._again(cause)

    def _again(self, cause: str) -> Connection | None:
        """The next connection; None when the source was closed meanwhile."""
        while self._tries < len(self._waits):
            wait = self._waits[self._tries]
            self._tries += 1
            if self._closed.wait(wait):
                return None
            try:
                return self._connect()
            except StreamError as error:
                cause = str(error)
        raise StreamError(
            f"{self.name} is lost after {self._tries} attempts to connect again: {cause}",
            "look after the camera and the network to it",
        )

    def _keep(self, picture: Picture) -> None:
        """Let a picture take the place of the one before."""
        with self._changed:
            self.missed += self._newest is not None
            self._newest = picture, time.time_ns(), self.arrived
            self.arrived += 1
            self._tries = 0
            self._changed.notify_all()

    def _end(self, failure: Exception | None) -> None:
        with self._changed:
            self._failure = self._failure or failure
            self._ended = True
            self._changed.notify_all()
