"""Run a server until it is told to stop: in the event loop of a command, or in a thread."""

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.server.auth import Tokens, warn_of_readers
from ffsplat.stream.server.services import StreamEngine
from ffsplat.stream.server.settings import ServerSettings

__all__ = ["Address", "ServerThread", "StreamEngine", "check", "serve"]

Note = Callable[[Frame, Verdict], None]


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int
    is_tls: bool

    @property
    def page(self) -> str:
        """The page, for a browser."""
        return f"{'https' if self.is_tls else 'http'}://{self._place}/"

    @property
    def stream(self) -> str:
        """The WebSocket, for clients."""
        return f"{'wss' if self.is_tls else 'ws'}://{self._place}/stream"

    @property
    def _place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def check(settings: ServerSettings) -> None:
    """Raise what `serve` would, before anybody waits for a network to be loaded.

    A file of tokens that everybody can read is warned of.
    """
    app = _app()
    app.tls_context(settings)
    if settings.token_file is not None:
        Tokens.read(settings.token_file)
        warn_of_readers(settings.token_file)
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family) as listener:
            if os.name == "posix":  # as asyncio does
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((settings.host.strip("[]"), settings.port))
            listener.listen()
    except OSError as error:
        raise app.cannot_listen(settings, error) from error


def _app() -> Any:
    """The module of the server; UsageError without the package that it needs."""
    try:
        return importlib.import_module("ffsplat.stream.server.app")
    except ImportError as error:
        raise UsageError(
            "serving needs the package websockets", 'pip install "ffsplat[stream]"'
        ) from error


async def serve(
    engine: StreamEngine,
    replica: Replica | None = None,
    settings: ServerSettings | None = None,
    *,
    note: Note | None = None,
    ready: Callable[[Address], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve a started engine until `stop` is set; without one, until SIGTERM or SIGINT.

    `replica` is the map that the engine's next delta continues, None for an empty one; the server
    keeps it. `note` is told of each frame of a client and its verdict, in a thread of the engine,
    and must return at once. `ready` is called when the server listens. At the end the engine is
    stopped, clients get the last deltas, and all is over within `settings.drain` seconds.
    Raises UsageError for a token file or certificate that cannot be used and where websockets is
    not installed, StreamError if the address cannot be had.
    """
    settings = settings or ServerSettings()
    app = _app().App(engine, Replica() if replica is None else replica, settings, note)
    with contextlib.ExitStack() as stack:
        if stop is None:
            stop = asyncio.Event()
            stack.enter_context(_signals(stop))
        port = await app.start()
        try:
            if ready is not None:
                ready(Address(settings.host, port, app.tls is not None))
            await stop.wait()
        finally:
            await app.end()


@contextlib.contextmanager
def _signals(stop: asyncio.Event):
    """Set an event on SIGTERM and SIGINT, where this is the thread that gets them."""
    loop = asyncio.get_running_loop()
    handled = []
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                loop.add_signal_handler(number, stop.set)
                handled.append(number)
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


class ServerThread:
    """A server in a thread of its own, for a command that reads a source meanwhile, and for tests.

    A context manager: `start` at the beginning, `stop` at the end.
    """

    def __init__(
        self,
        engine: StreamEngine,
        replica: Replica | None = None,
        settings: ServerSettings | None = None,
        note: Note | None = None,
    ):
        self.settings = settings or ServerSettings()
        self.address: Address | None = None
        self._parts = engine, replica
        self._note = note
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ffsplat-server", daemon=True)

    def start(self) -> Address:
        """Listen, and return where; raises as `serve`."""
        self._thread.start()
        self._settled.wait()
        if self._error is not None:
            raise self._error
        assert self.address is not None
        return self.address

    def stop(self) -> None:
        """Drain and end; raises what ended the server before, StreamError if it does not end."""
        if self._thread.ident is None:
            return
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(self.settings.drain + 5)
        if self._thread.is_alive():
            raise StreamError("the server does not end")
        if self._error is not None:
            raise self._error

    def __enter__(self) -> "ServerThread":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  it is raised by `start`, in its thread
            self._error = error
        finally:
            self._settled.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        listening, stop = self._listening, self._stop
        await serve(*self._parts, self.settings, note=self._note, ready=listening, stop=stop)

    def _listening(self, address: Address) -> None:
        self.address = address
        self._settled.set()
