"""A client of a stream's server: sends frames, follows the map, asks, and comes back after a cut.

async with Client("ws://127.0.0.1:8765/stream") as client:
    await client.send_frame(jpeg)
    print(await client.query("red chair"))
"""

import asyncio
import io
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, get_args

import numpy as np
from jaxtyping import Float, UInt8

from ffsplat.errors import StreamError
from ffsplat.stream.connection import Backoff, Interrupted, close_quietly, open_session, why_closed
from ffsplat.stream.frame import Frame
from ffsplat.stream.protocol.blocks import MAX_PART, Deltas
from ffsplat.stream.protocol.control import (
    Ack,
    Bye,
    Drop,
    Error,
    Flush,
    Flushed,
    FrameAck,
    Health,
    Hello,
    Hits,
    Limits,
    Pose,
    Query,
    Resume,
    Role,
    Want,
    dump,
    parse_client,
    parse_server,
)
from ffsplat.stream.protocol.errors import MALFORMED, TOO_LARGE, ProtocolError
from ffsplat.stream.protocol.frames import frame_message
from ffsplat.stream.protocol.header import Kind, pack, unpack
from ffsplat.stream.replica.replica import MAX_SPLATS, Replica

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

MAX_EVENTS = 1024
"""Events that wait for whoever iterates; when there are more the oldest are left out."""

MAX_QUESTIONS = 4
"""Questions that are open at a time; further ones wait."""

BYE_SECONDS = 2.0
"""Seconds that a server has to close after goodbye."""

JPEG_QUALITY = 90


@dataclass(frozen=True)
class MapChange:
    """A delta, or a snapshot, of this number is in the client's replica now."""

    kind: Kind
    number: int
    epoch: int


Event = MapChange | FrameAck | Pose | Health | Error
Answer = Hits | Flushed | Error


class Client:
    """One session after the other with a server, as if they were one; a context manager.

    `replica` is the map as far as it came, `limits` is what the server takes. Iteration gives what
    the server says until the client is closed; MAX_EVENTS may wait, `missed` counts what was left
    out. When the connection breaks off it is opened again, and the map goes on where it was; frames
    that nobody had acknowledged are lost. The client ends after `patience` seconds without server.

    Entering raises StreamError if no server answers and ProtocolError if it refuses, and so does
    everything else once the client has ended. To be used in one event loop.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        role: Role = "camera",
        drop: Drop | None = None,
        want: tuple[Want, ...] = get_args(Want),
        max_splats: int = MAX_SPLATS,
        patience: float = 60.0,
    ):
        self.url = url
        self.replica = Replica(max_splats)
        self.limits: Limits | None = None
        self.missed = 0
        self._hello = Hello(token, role, drop, want)
        self._map: str | None = None
        self._backoff = Backoff(patience)
        self._connection: ClientConnection | None = None
        self._deltas = Deltas()
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ended: StreamError | None = None
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(MAX_EVENTS)
        self._questions: dict[int, tuple[str, asyncio.Future[Answer]]] = {}
        self._slots = asyncio.Semaphore(MAX_QUESTIONS)
        self._frame_numbers, self._question_numbers = count(), count()
        self._next_frame = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether there is a session now; without one, another is being tried for."""
        return self._up.is_set()

    async def __aenter__(self) -> "Client":
        await self._connect()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Say goodbye and end; questions that are open fail."""
        self._ended = self._ended or StreamError("the client is closed")
        connection = self._connection
        if connection is not None:
            with suppress(Exception):  # whatever it is, the connection is given up
                async with asyncio.timeout(BYE_SECONDS):
                    await connection.send(dump(Bye()))
                    await connection.wait_closed()
            await close_quietly(connection, None)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._end(self._ended)

    async def send_frame(
        self,
        image: bytes | UInt8[np.ndarray, "h w 3"],
        time_ns: int | None = None,
        pose: Float[np.ndarray, "4 4"] | None = None,
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
    ) -> int:
        """Send a picture and return its number, which its `FrameAck` will bear.

        `image` is a JPEG, PNG or WebP, or sRGB pixels, which are sent as JPEG; the rest is as in
        `Frame`, the time is now unless given. Waits while there is no connection, and so that no
        more frames a second are sent than the server takes. Raises ProtocolError (4400, 4413) for a
        frame that the server would refuse. While another client sends the frames of a map, or the
        server reads a camera itself, they are left out ("other_camera").
        """
        if not isinstance(image, bytes):
            image = await asyncio.to_thread(_jpeg, image)
        message = frame_message(
            Frame(
                image,
                time.time_ns() if time_ns is None else time_ns,
                next(self._frame_numbers),
                None if pose is None else pose.astype(np.float64),
                None if intrinsics is None else intrinsics.astype(np.float64),
            )
        )
        await self._pace(len(message.payload))
        await self._send(pack(message))
        return message.number

    async def query(self, text: str, max_hits: int = 20, threshold: float | None = None) -> Hits:
        """Find things in the server's map; ProtocolError says why a text cannot be answered."""
        answer = await self._ask(lambda number: Query(number, text, max_hits, threshold))
        if not isinstance(answer, Hits):
            raise ProtocolError(MALFORMED, "the server answered a query with something else")
        return answer

    async def flush(self) -> int:
        """Wait until all frames that were sent are in the map, and that map is in the replica.

        Returns the number of the delta with the last of them.
        """
        answer = await self._ask(Flush)
        if not isinstance(answer, Flushed):
            raise ProtocolError(MALFORMED, "the server answered a flush with something else")
        return answer.number

    def __aiter__(self) -> "Client":
        return self

    async def __anext__(self) -> Event:
        event = await self._events.get()
        if event is not None:
            return event
        self._events.put_nowait(None)  # for whoever else waits
        if isinstance(self._ended, ProtocolError | Interrupted):
            raise self._ended
        raise StopAsyncIteration

    async def _run(self) -> None:
        """Listen, and connect again where that may help; the life of the client."""
        try:
            while self._ended is None:
                await self._listen_once()
        except ProtocolError as error:
            if self._connection is not None:
                await close_quietly(self._connection, error)
            self._end(error)
        except StreamError as error:
            self._end(error)
        finally:
            self._end(StreamError("the client has ended"))

    async def _listen_once(self) -> None:
        """One session; returns when another one may be tried, else raises StreamError."""
        try:
            await self._listen(self._connection or await self._connect())
        except Interrupted as error:
            self._connection = None
            self._up.clear()
            wait = self._backoff.wait(error.retry_after)
            if wait is None:
                raise
            await asyncio.sleep(wait)

    async def _connect(self) -> "ClientConnection":
        """Open a session that goes on after the last one, if the server has that."""
        from websockets.exceptions import ConnectionClosed

        number = self.replica.number
        follows = self._map is not None and "delta" in self._hello.want
        resume = Resume(self._map, number) if self._map is not None and follows else None
        connection, welcome = await open_session(self.url, replace(self._hello, resume_from=resume))
        if welcome.resumed and (resume is None or welcome.number < number):
            self._map = None  # the server lost what is here: begin anew
            await close_quietly(connection, None)
            raise Interrupted("the server's map is older than this one")
        if not welcome.resumed:
            self.replica.clear()
        self._map, self.limits = welcome.map, welcome.limits
        self._deltas = Deltas()
        self._backoff.reset()
        self._connection = connection
        self._up.set()
        with suppress(ConnectionClosed):  # `_listen` will see it
            for text, _ in tuple(self._questions.values()):
                await connection.send(text)
        return connection

    async def _listen(self, connection: "ClientConnection") -> None:
        """Take in what comes; raises what ends the session."""
        from websockets.exceptions import ConnectionClosed

        said = None
        try:
            while True:
                data = await connection.recv()
                if isinstance(data, bytes):
                    change = await asyncio.to_thread(self._change, data)
                    if change is not None:
                        self._tell(change)
                else:
                    said = self._hear(data) or said
        except ConnectionClosed as closed:
            raise why_closed(closed, said) from closed

    def _change(self, data: bytes) -> MapChange | None:
        """Put a part of a delta into the replica; what changed, if that was the last part."""
        message = unpack(data, MAX_PART)
        if message.kind not in (Kind.DELTA, Kind.SNAPSHOT):
            return None  # of a later version
        whole = self._deltas.add(message)
        if whole is None:
            return None
        kind, delta = whole
        if kind is Kind.SNAPSHOT:
            self.replica.restore(delta)
        elif not self.replica.apply(delta):
            return None
        return MapChange(kind, delta.number, delta.epoch)

    def _hear(self, text: str) -> Error | None:
        """Pass on a text message; an error that is no answer is returned too."""
        message = parse_server(text)
        match message:
            case Ack(frames):
                for ack in frames:
                    self._tell(ack)
            case Hits(id=number) | Flushed(id=number) | Error(id=int(number)):
                _, future = self._questions.get(number, ("", None))
                if future is not None and not future.done():
                    future.set_result(message)
            case Error():
                self._tell(message)
                return message
            case Pose() | Health():
                self._tell(message)
        return None

    def _tell(self, event: Event) -> None:
        if self._events.full():
            self._events.get_nowait()
            self.missed += 1
        self._events.put_nowait(event)

    async def _ask(self, question: Callable[[int], Query | Flush]) -> Answer:
        """Ask, again if the connection breaks off, and return the answer."""
        number = next(self._question_numbers)
        text = dump(question(number))
        parse_client(text)  # so that the server does not close because of it
        async with self._slots:
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._questions[number] = text, future
            try:
                await self._send(text)
                answer = await future
            finally:
                del self._questions[number]
        if isinstance(answer, Error):
            raise ProtocolError(answer.code, answer.message, answer.hint or None)
        return answer

    async def _send(self, data: str | bytes) -> None:
        """Send as soon as there is a connection."""
        from websockets.exceptions import ConnectionClosed

        while True:
            await self._up.wait()
            connection = self._connection
            if self._ended is not None or connection is None:
                raise self._ended or StreamError("the client was not entered")
            try:
                return await connection.send(data)
            except ConnectionClosed:
                if connection is self._connection:
                    self._up.clear()  # until `_run` has another one

    async def _pace(self, size: int) -> None:
        """Wait for the turn of the next frame; ProtocolError (4413) if it is too large."""
        if self.limits is None:
            return
        if size > self.limits.max_frame_bytes:
            limit = self.limits.max_frame_bytes
            raise ProtocolError(TOO_LARGE, f"a frame of {size} bytes; the server takes {limit}")
        now = time.monotonic()
        turn = max(now, self._next_frame)
        self._next_frame = turn + 1 / self.limits.max_fps
        await asyncio.sleep(turn - now)

    def _end(self, error: StreamError) -> None:
        """Tell everybody who waits that it is over."""
        self._ended = self._ended or error
        self._connection = None
        for _, future in self._questions.values():
            if not future.done():
                future.set_exception(self._ended)
        if self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(None)
        self._up.set()


def _jpeg(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
