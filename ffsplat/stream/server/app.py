"""A server that runs: its parts put together, and taken apart again within a time limit."""

import asyncio
import errno
import logging
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.exceptions import InvalidHandshake
from websockets.typing import Subprotocol

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.protocol.header import SUBPROTOCOL
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.server.auth import Tokens
from ffsplat.stream.server.counters import Counters
from ffsplat.stream.server.feed import Feed
from ffsplat.stream.server.gate import Door, Gate
from ffsplat.stream.server.routes import Routes
from ffsplat.stream.server.seat import Seat
from ffsplat.stream.server.services import Services, StreamEngine
from ffsplat.stream.server.session import CLOSING, Session
from ffsplat.stream.server.settings import ServerSettings

log = logging.getLogger(__name__)

WORKERS = 2
"""Threads for queries and snapshots."""

IN_BUFFER = 2
"""Messages of a client that may lie unread before the server stops reading from its socket."""

WRITE_BUFFER = 64 << 10
"""Bytes that may lie unsent on a connection before its session waits."""

TLS_SECONDS = 4.0
"""How long TLS may take at most: who begins with it holds a place that nobody else can have."""

ENGINE, LAST = 0.7, 0.9
"""Shares of the time to end: when the engine must have stopped, and when sessions are cut off."""


class App:
    """One server: `start` listens, `end` stops the engine, says goodbye and lets go of all."""

    def __init__(
        self,
        engine: StreamEngine,
        replica: Replica,
        settings: ServerSettings,
        note: Callable[[Frame, Verdict], None] | None,
    ):
        self.settings = settings
        self.tls = tls_context(settings)
        tokens = None if settings.token_file is None else Tokens.read(settings.token_file)
        counters = Counters()
        workers = ThreadPoolExecutor(WORKERS, "ffsplat-server")
        waiting = ThreadPoolExecutor(2 * settings.max_sessions, "ffsplat-engine")
        feed = Feed(replica, settings, workers)
        self.services = Services(
            engine, feed, settings, tokens, counters, Seat(), workers, waiting, note
        )
        tls_seconds = None if self.tls is None else min(settings.handshake, TLS_SECONDS)
        self.door = Door(settings.max_connections, settings.max_head_bytes, tls_seconds, counters)
        self.routes = Routes(tokens, settings.origins, self.health, self.metrics, counters)
        self._server: Server | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    def health(self) -> Mapping[str, bool | int]:
        """What /healthz and /readyz look at and tell."""
        services, engine = self.services, self.services.engine
        alive = engine.alive and services.feed.healthy
        return {
            "alive": alive,
            "ready": alive and engine.ready and not services.draining,
            "degraded": engine.degraded,
            "draining": services.draining,
            "sessions": len(services.sessions),
            "delta": services.feed.number,
        }

    def metrics(self) -> str:
        """The figures of the engine and those of the server."""
        services, ring = self.services, self.services.feed.ring
        gauges = {
            "sessions": len(services.sessions),
            "connections": len(self.door.gates),
            "ring_deltas": len(ring),
            "ring_bytes": ring.bytes,
            "map_delta": services.feed.number,
            "map_splats": services.feed.splats,
        }
        return services.engine.metrics() + services.counters.text(gauges)

    async def start(self) -> int:
        """Listen; returns the port. Raises StreamError if the address cannot be had."""
        settings = self.settings
        services = self.services
        services.feed.start(asyncio.get_running_loop())
        self._unsubscribe = services.engine.subscribe(services.feed.publish)
        try:
            self._server = await serve_websockets(
                self._handle,
                settings.host,
                settings.port,
                select_subprotocol=_choose,
                compression=None,  # what is worth it is compressed already, and bombs stay out
                process_request=self.routes,
                server_header=None,
                open_timeout=settings.handshake,
                ping_interval=settings.ping,
                ping_timeout=None,  # a session looks itself when anything came last
                close_timeout=CLOSING,
                max_size=settings.max_text_bytes,
                max_queue=IN_BUFFER,
                write_limit=WRITE_BUFFER,
                logger=_log_below(),
                create_connection=Gate.of(self.door),
                ssl=self.tls,
                ssl_handshake_timeout=self.door.tls_seconds,
            )
        except OSError as error:
            self._unsubscribe()
            await services.feed.finish()
            raise cannot_listen(settings, error) from error
        return self._server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        """End within `settings.drain` seconds: engine, last deltas, goodbyes, connections."""
        services, loop = self.services, asyncio.get_running_loop()
        deadline = loop.time() + LAST * self.settings.drain
        services.draining = True
        log.info("draining", extra={"sessions": len(services.sessions)})
        await self._stop_engine(ENGINE * self.settings.drain)
        try:
            async with asyncio.timeout_at(deadline):
                await services.feed.finish()
                sessions = tuple(services.sessions)
                for session in sessions:
                    session.drain()
                await asyncio.gather(*(session.ended.wait() for session in sessions))
        except TimeoutError:
            log.warning("sessions were cut off", extra={"sessions": len(services.sessions)})
        self._unsubscribe()
        if self._server is not None:
            self._server.close()
            self.door.abort()
            await self._server.wait_closed()
        services.workers.shutdown(wait=False, cancel_futures=True)
        services.waiting.shutdown(wait=False, cancel_futures=True)

    async def _stop_engine(self, patience: float) -> None:
        try:
            if not await asyncio.to_thread(self.services.engine.stop, patience):
                log.warning("the engine did not stop in time")
        except Exception:  # clients get their goodbye all the same
            log.exception("the engine could not be stopped")

    async def _handle(self, connection: ServerConnection) -> None:
        assert isinstance(connection, Gate)
        await Session(connection, self.services).run()


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or later with the certificate of the settings; UsageError if that cannot be used."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # SSLError is one
        pair = f"{settings.tls_cert} with {settings.tls_key}"
        reason = error if isinstance(error, ssl.SSLError) else error.strerror
        hint = "both are PEM files, and the key is that of the certificate"
        raise UsageError(f"cannot use {pair}: {reason}", hint) from error
    return context


def cannot_listen(settings: ServerSettings, error: OSError) -> StreamError:
    """What to say of an address that cannot be had."""
    code = error.errno or 0  # negative for a name that nobody knows
    reason = os.strerror(code) if code > 0 else error.strerror or str(error)
    hints = {
        errno.EADDRINUSE: "--port 0 takes a free one",
        errno.EACCES: "ports below 1024 are not for everybody: --port takes another",
    }
    hint = hints.get(code, "--host takes a name or address of this machine")
    return StreamError(f"cannot listen on {settings.host}:{settings.port}: {reason.lower()}", hint)


def _choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Our subprotocol if it was offered; who did not is told so in a session that closes (4409)."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


def _log_below() -> logging.Logger:
    """What the library may say: no more of sessions than we do, nor each stranger's traceback."""
    below = log.getChild("websockets")
    below.setLevel(logging.WARNING)
    below.addFilter(_is_fault)
    return below


def _is_fault(record: logging.LogRecord) -> bool:
    """Whether a record tells of more than somebody who hung up, or speaks no HTTP."""
    error = record.exc_info and record.exc_info[1]
    return not isinstance(error, InvalidHandshake | EOFError | OSError)
