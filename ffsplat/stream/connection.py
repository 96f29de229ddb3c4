"""One session of a client: how it is opened, why it ended, and when to try again."""

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.protocol.blocks import MAX_PART
from ffsplat.stream.protocol.control import Error, Hello, Welcome, dump, parse_server
from ffsplat.stream.protocol.errors import (
    MALFORMED,
    NORMAL,
    RETRYABLE,
    TOO_LARGE,
    UNAUTHORIZED,
    VERSION,
    ProtocolError,
)
from ffsplat.stream.protocol.header import HEADER, SUBPROTOCOL

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.exceptions import ConnectionClosed

OPEN_SECONDS = 10.0
"""Seconds that a server has to answer."""

_TOO_BIG = 1009  # what libraries close with, RFC 6455, section 7.4.1
_BROKEN = (1002, 1003, 1007, 1008, 1010)  # the same: another attempt would end alike


class Interrupted(StreamError):
    """There is no connection, but there may be one again after `retry_after` seconds."""

    def __init__(self, message: str, hint: str | None = None, retry_after: float = 0.0):
        super().__init__(message, hint)
        self.retry_after = retry_after


async def open_session(url: str, hello: Hello) -> "tuple[ClientConnection, Welcome]":
    """Connect and be welcomed.

    Raises Interrupted where trying again may help, ProtocolError where the server refuses for good,
    UsageError for a URL that is none and without the package websockets.
    """
    connection = await _connect(url)
    try:
        if connection.subprotocol != SUBPROTOCOL:
            raise ProtocolError(VERSION, f"the server at {url} does not speak {SUBPROTOCOL}")
        return connection, await _welcome(connection, hello)
    except BaseException:
        await connection.close()
        raise


async def _connect(url: str) -> "ClientConnection":
    try:
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException
        from websockets.typing import Subprotocol
    except ImportError as error:
        raise UsageError(
            "a stream's client needs the package websockets", 'pip install "ffsplat[stream]"'
        ) from error
    try:
        return await connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,  # deltas are compressed, pictures too
            max_size=HEADER.size + MAX_PART,
            open_timeout=OPEN_SECONDS,
        )
    except InvalidURI as error:
        raise UsageError(f"{url} is no WebSocket URL", "ws://HOST:PORT/stream") from error
    except InvalidStatus as error:
        status = error.response.status_code
        if status >= 500 or status == 429:
            raise Interrupted(f"the server at {url} answers with status {status}") from error
        code = UNAUTHORIZED if status in (401, 403) else MALFORMED
        raise ProtocolError(code, f"the server at {url} answers with status {status}") from error
    except (OSError, WebSocketException) as error:  # TimeoutError is an OSError
        why = str(error) or "it does not answer"
        raise Interrupted(f"no connection to {url}: {why}") from error


async def _welcome(connection: "ClientConnection", hello: Hello) -> Welcome:
    from websockets.exceptions import ConnectionClosed

    said = None
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await connection.send(dump(hello))
            while True:
                message = parse_server(await connection.recv())
                if isinstance(message, Welcome):
                    return message
                said = message if isinstance(message, Error) else said
    except ConnectionClosed as closed:
        raise why_closed(closed, said) from closed
    except TimeoutError as error:
        raise Interrupted("the server does not answer to hello") from error


def why_closed(closed: "ConnectionClosed", said: Error | None) -> StreamError:
    """The error of a connection that ended, by its close code and what was said before."""
    code = closed.rcvd.code if closed.rcvd else None
    reason = closed.rcvd.reason if closed.rcvd else ""
    message = (said.message if said else reason) or "the connection broke off"
    hint = (said.hint if said else "") or None
    if code == _TOO_BIG:
        return ProtocolError(TOO_LARGE, "a message was too large for the server")
    if code in _BROKEN or (code is not None and 4000 <= code < 5000 and code not in RETRYABLE):
        return ProtocolError(code, message, hint)
    wait = (said.retry_after_ms or 0) / 1000 if said else 0.0
    return Interrupted(message, hint, wait)


class Backoff:
    """How long to wait before the next attempt: twice as long each time, up to LONGEST seconds.

    Up to half is left to chance, so that clients that were cut off together do not come back so.
    """

    FIRST, LONGEST = 0.1, 10.0

    def __init__(self, patience: float):
        self._patience = patience
        self.reset()

    def reset(self) -> None:
        """There is a connection."""
        self._delay, self._since = self.FIRST, None

    def wait(self, at_least: float = 0.0) -> float | None:
        """Seconds to wait, None if it is then `patience` seconds since the first failure."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        delay = max(at_least, self._delay * random.uniform(0.5, 1))
        self._delay = min(2 * self._delay, self.LONGEST)
        return delay if now + delay - self._since <= self._patience else None


async def close_quietly(connection: "ClientConnection", error: ProtocolError | None) -> None:
    """Close, with the code of an error if there is one, whatever state the connection is in."""
    with suppress(Exception):
        code, reason = (NORMAL, "") if error is None else (error.code, error.reason)
        await connection.close(code, reason)
