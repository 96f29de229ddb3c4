"""One client, from its hello to its end."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Coroutine
from typing import Any

from websockets.exceptions import ConnectionClosed

from ffsplat.stream.protocol.control import (
    Bye,
    Error,
    Hello,
    Limits,
    Welcome,
    dump,
    parse_client,
)
from ffsplat.stream.protocol.errors import (
    DRAINING,
    MALFORMED,
    NORMAL,
    RATE,
    RETRYABLE,
    TIMEOUT,
    UNAUTHORIZED,
    VERSION,
    ProtocolError,
)
from ffsplat.stream.protocol.header import HEADER, SUBPROTOCOL, unpack
from ffsplat.stream.server.auth import bearer, header_of
from ffsplat.stream.server.gate import Gate
from ffsplat.stream.server.intake import Intake
from ffsplat.stream.server.limits import TokenBucket
from ffsplat.stream.server.outbox import NOTHING, Outbox
from ffsplat.stream.server.questions import Questions
from ffsplat.stream.server.services import Services

log = logging.getLogger(__name__)

CLOSING = 2.0
"""Seconds that a client has to agree that a connection ends."""

STRANGER_CLOSING = 0.5
"""The same for who has not said hello."""

HEALTH = 1.0
"""Seconds between two messages about the state of the server."""

RETRY_MS = 1000
"""Milliseconds after which a client that was sent away for a while may try again."""

BUSY = 3
"""Messages of all kinds that a client may send for each frame that it may send."""

GONE = 1006
"""The close code of a connection that broke off (RFC 6455, section 7.4.1); never sent."""

FAULT = 1011
"""The close code of a server that meets what it did not expect (RFC 6455, section 7.4.1)."""

SHUTDOWN = "the server is shutting down"


class Session:
    """Speaks `ffsplat.v1` with one client; `run` is its whole life."""

    def __init__(self, connection: Gate, services: Services):
        self.id = secrets.token_hex(4)
        self.peer = str((connection.remote_address or ("",))[0])
        self.ended = asyncio.Event()
        self._connection = connection
        self._services = services
        self._settings = services.settings
        self._ends = float("inf")
        self._outbox: Outbox | None = None
        self._closing = STRANGER_CLOSING
        self._messages = TokenBucket(BUSY * self._settings.max_fps, time.monotonic())

    async def run(self) -> None:
        """Serve the client until one side has enough; then the connection is closed."""
        began, code, reason = time.monotonic(), NORMAL, ""
        try:
            await self._serve(await self._greet())
        except ProtocolError as error:
            code, reason = error.code, error.reason
            self._services.counters.add("refused_total", reason=str(code))
            await self._say_why(error)
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else GONE
        except Exception:  # a fault of ours costs one client its session, and no other
            log.exception("a session failed", extra={"session": self.id})
            code = FAULT
        finally:
            self._services.sessions.discard(self)
            await self._close(code, reason)
            self.ended.set()
            seconds = round(time.monotonic() - began, 3)
            facts = {"session": self.id, "code": code, "reason": reason, "seconds": seconds}
            log.info("session ended", extra=facts)

    def drain(self) -> None:
        """Send what there is, say that the server ends, and end."""
        if self._outbox is not None:
            self._outbox.close()

    async def _greet(self) -> Hello:
        """The hello of a client that may come in; ProtocolError for all others."""
        if self._services.draining:
            raise ProtocolError(DRAINING, SHUTDOWN)
        if self._connection.subprotocol != SUBPROTOCOL:
            raise ProtocolError(VERSION, f"this server speaks {SUBPROTOCOL} only")
        left = self._connection.began + self._settings.handshake - time.monotonic()
        try:
            async with asyncio.timeout(left):
                text = await self._connection.receive()
        except TimeoutError as error:
            wait = f"no hello within {self._settings.handshake:g} s"
            raise ProtocolError(TIMEOUT, wait) from error
        hello = parse_client(text) if isinstance(text, str) else None
        if not isinstance(hello, Hello):
            raise ProtocolError(MALFORMED, "the first message is no hello")
        self._authorize(hello)
        if self._services.draining:
            raise ProtocolError(DRAINING, SHUTDOWN)
        if len(self._services.sessions) >= self._settings.max_sessions:
            raise ProtocolError(DRAINING, f"all {self._settings.max_sessions} sessions are taken")
        self._services.sessions.add(self)
        self._connection.is_stranger = False
        self._closing = CLOSING
        return hello

    def _authorize(self, hello: Hello) -> None:
        """Refuse a client without a token that holds; from the hello, or the request's header."""
        if self._services.tokens is None:
            return
        request = self._connection.request
        header = None if request is None else header_of(request, "Authorization")
        ends = self._services.tokens.accept(hello.token or bearer(header), time.time())
        if ends is None:
            raise ProtocolError(UNAUTHORIZED, "no valid token")
        self._ends = ends

    async def _serve(self, hello: Hello) -> None:
        """Answer the hello, and all that follows, until one of four tasks ends."""
        services, settings = self._services, self._settings
        services.counters.add("opened_sessions_total")
        log.info("session began", extra={"session": self.id, "peer": self.peer, "role": hello.role})
        feed = services.feed
        place, is_resumed = self._place(hello)
        outbox = Outbox(feed, place, settings.max_replies, services.counters)
        limits = Limits(
            settings.max_frame_bytes,
            int(services.engine.settings.max_megapixels * 1_000_000),
            settings.max_fps,
            services.in_flight,
            settings.idle,
        )
        outbox.reply(Welcome(self.id, services.name, feed.number, is_resumed, limits))
        self._outbox = outbox
        self._connection.protocol.max_message_size = HEADER.size + settings.max_frame_bytes
        intake = Intake(services, outbox, hello, self._connection)
        questions = Questions(services, outbox, intake)
        feed.listeners.add(outbox.wake)
        try:
            await _until_first(
                self._read(hello, outbox, intake, questions),
                self._write(outbox),
                intake.run(),
                self._watch(hello, outbox),
            )
        finally:
            feed.listeners.discard(outbox.wake)
            intake.leave()
            questions.cancel()

    def _place(self, hello: Hello) -> tuple[int | None, bool]:
        """Where the map begins for a client, None if it wants none, and whether it goes on."""
        feed, had = self._services.feed, hello.resume_from
        if "delta" not in hello.want:
            return None, False
        same = had is not None and had.map == self._services.name and had.number <= feed.number
        if had is not None and same and feed.can_resume(had.number):
            return had.number, True
        return (NOTHING if feed.number else 0), False

    async def _read(
        self, hello: Hello, outbox: Outbox, intake: Intake, questions: Questions
    ) -> None:
        """Take messages until the client says goodbye."""
        while True:
            await outbox.room()
            data = await self._connection.receive()
            if not self._messages.take(time.monotonic()):
                raise ProtocolError(RATE, f"more than {self._messages.rate:g} messages a second")
            if isinstance(data, str):
                message = parse_client(data)
                if isinstance(message, Bye):
                    return
                if isinstance(message, Hello):
                    raise ProtocolError(MALFORMED, "a second hello")
                questions.take(message)
            elif hello.role != "camera":
                raise ProtocolError(MALFORMED, "a viewer sends no frames")
            else:
                intake.take(unpack(data, self._settings.max_frame_bytes, inflate=False))
            await asyncio.sleep(0)  # messages that lie ready would keep all others waiting

    async def _write(self, outbox: Outbox) -> None:
        """Send what the outbox has until it is closed and empty."""
        while (message := await outbox.next()) is not None:
            self._services.counters.add("sent_bytes_total", len(message))
            try:
                async with asyncio.timeout(self._settings.idle):
                    await self._connection.send(message)
            except TimeoutError as error:
                wait = f"nothing was read for {self._settings.idle:g} s"
                raise ProtocolError(TIMEOUT, wait) from error
        raise ProtocolError(DRAINING, SHUTDOWN)

    async def _watch(self, hello: Hello, outbox: Outbox) -> None:
        """Look every now and then whether the client is still there, and tell it how we are."""
        idle, silence = self._settings.idle, 0.0
        pause = min(HEALTH, idle / 4)
        while True:
            if "health" in hello.want:
                outbox.offer_health(self._services.health)
            await asyncio.sleep(pause)
            # While this process stands still it hears nobody, which says nothing about a client.
            silence = min(silence + 2 * pause, time.monotonic() - self._connection.heard)
            if silence > idle:
                raise ProtocolError(TIMEOUT, f"nothing came for {idle:g} s")
            if time.time() >= self._ends:
                raise ProtocolError(UNAUTHORIZED, "the token has ended")

    async def _say_why(self, error: ProtocolError) -> None:
        """Tell the client why it is closed, if it listens."""
        self._connection.leave()  # it may have gone already, which stands after all that it sent
        retry = RETRY_MS if error.code in RETRYABLE else None
        message = Error(error.code, str(error), error.hint or "", retry is not None, retry)
        # Who does not hear it sees the code of the close frame, or nothing at all.
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            async with asyncio.timeout(self._closing):
                await self._connection.send(dump(message))

    async def _close(self, code: int, reason: str) -> None:
        """Close the connection, politely for a while."""
        self._connection.leave()
        try:
            async with asyncio.timeout(self._closing):
                await self._connection.close(code if code != GONE else NORMAL, reason)
        except TimeoutError:
            pass
        finally:
            self._connection.transport.abort()


async def _until_first(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends, with its error if it has one; then end the others."""
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
