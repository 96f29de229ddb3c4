import asyncio
import functools
import io
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from toydeltas import ToyMap, empty_delta
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream import client as client_module
from ffsplat.stream.client import Client
from ffsplat.stream.connection import Backoff
from ffsplat.stream.protocol.blocks import pack_delta
from ffsplat.stream.protocol.control import (
    Ack,
    Bye,
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
    Welcome,
    dump,
    parse_client,
)
from ffsplat.stream.protocol.document import write_document
from ffsplat.stream.protocol.errors import (
    DRAINING,
    MALFORMED,
    TOO_LARGE,
    UNANSWERABLE,
    UNAUTHORIZED,
    VERSION,
    ProtocolError,
)
from ffsplat.stream.protocol.frames import read_frame
from ffsplat.stream.protocol.header import SUBPROTOCOL, Kind, unpack
from ffsplat.stream.replica import Replica

LIMITS = Limits(100_000, 1_000_000, 1000.0, 4, 30.0)
JPEG = b"\xff\xd8\xff and so on"


class Scripted:
    """A server that does what a test says: one script a connection, in turn, the last for all more.

    A script is a coroutine function of this server; it ends with its connection closed.
    """

    def __init__(self, *scripts, subprotocols=(SUBPROTOCOL,)):
        self.scripts = list(scripts)
        self.hellos: list[Hello] = []
        self.connection = None
        self.closed_with: list[int | None] = []
        self._subprotocols = list(subprotocols) or None

    async def __aenter__(self):
        self._server = await serve(
            self._handle, "127.0.0.1", 0, subprotocols=self._subprotocols, compression=None
        )
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/stream"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _handle(self, connection):
        self.connection = connection
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        with suppress(ConnectionClosed):
            hello = await self.hear()
            assert isinstance(hello, Hello)
            self.hellos.append(hello)
            await script(self)
        await connection.wait_closed() if connection.close_code else await connection.close()
        self.closed_with.append(connection.close_code)

    async def say(self, *messages):
        for message in messages:
            await self.connection.send(message if isinstance(message, bytes) else dump(message))

    async def welcome(self, number=0, resumed=False, name="kitchen"):
        await self.say(Welcome("s1", name, number, resumed, LIMITS))

    async def hear(self):
        data = await self.connection.recv()
        return parse_client(data) if isinstance(data, str) else read_frame(unpack(data, 1 << 20))

    async def until_bye(self):
        while not isinstance(await self.hear(), Bye):
            pass

    def cut(self):
        self.connection.transport.abort()


def run(test):
    """Run a coroutine function as a test, for at most some seconds."""

    @functools.wraps(test)
    def wrapped(**arguments):
        async def limited():
            async with asyncio.timeout(20):
                await test(**arguments)

        asyncio.run(limited())

    return wrapped


async def only_welcome(server):
    await server.welcome()
    await server.until_bye()


def toy_deltas(count: int):
    toy = ToyMap(7)
    return [toy.next() for _ in range(count)]


def same(replica: Replica, deltas) -> bool:
    expected = Replica()
    for delta in deltas:
        expected.apply(delta)
    return write_document(replica.snapshot()) == write_document(expected.snapshot())


@run
async def test_a_client_says_hello_and_goodbye():
    async with Scripted(only_welcome) as server:
        async with Client(server.url, token="secret", role="viewer", drop="latest") as client:
            assert client.limits == LIMITS
        assert server.hellos == [Hello("secret", "viewer", "latest")]


@run
async def test_frames_arrive_as_they_were_sent():
    frames, done = [], asyncio.Event()

    async def script(server):
        await server.welcome()
        for _ in range(3):
            frames.append(await server.hear())
        done.set()
        await server.until_bye()

    pose = np.eye(4, dtype=np.float32)
    intrinsics = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    pixels = np.full((8, 16, 3), 200, np.uint8)
    async with Scripted(script) as server, Client(server.url) as client:
        assert await client.send_frame(JPEG, 123, pose, intrinsics) == 0
        assert await client.send_frame(pixels) == 1
        assert await client.send_frame(JPEG) == 2
        await done.wait()
    assert (frames[0].image, frames[0].time_ns, frames[0].number) == (JPEG, 123, 0)
    assert np.array_equal(frames[0].pose, pose)
    assert np.array_equal(frames[0].intrinsics, intrinsics)
    picture = np.asarray(Image.open(io.BytesIO(frames[1].image)))
    assert np.abs(picture.astype(int) - pixels).max() <= 2
    assert frames[2].pose is None
    assert frames[2].time_ns > 1_700_000_000 * 10**9


@run
async def test_a_frame_that_would_be_refused_is_not_sent():
    async with Scripted(only_welcome) as server, Client(server.url) as client:
        with pytest.raises(ProtocolError) as caught:
            await client.send_frame(JPEG + bytes(100_000))
        assert caught.value.code == TOO_LARGE
        with pytest.raises(ProtocolError):
            await client.send_frame(b"no picture")
        with pytest.raises(ProtocolError):
            await client.send_frame(JPEG, pose=2 * np.eye(4))


@run
async def test_deltas_and_a_snapshot_reach_the_replica():
    deltas = toy_deltas(6)
    half = Replica()
    for delta in deltas[:3]:
        half.apply(delta)

    async def script(server):
        await server.welcome(number=3)
        await server.say(*pack_delta(half.snapshot(), Kind.SNAPSHOT))
        for delta in deltas[2:]:  # the first of these is a repeat
            await server.say(*pack_delta(delta))
        await server.until_bye()

    async with Scripted(script) as server, Client(server.url) as client:
        changes = [await anext(client) for _ in range(4)]
        assert [(c.kind, c.number) for c in changes] == [(3, 3), (2, 4), (2, 5), (2, 6)]
        assert same(client.replica, deltas)


@run
async def test_what_the_server_says_comes_in_order():
    said = [
        Pose(0, 5, 1, tuple(np.eye(4).ravel().tolist())),
        Health(2, 1, {"late": 1}, 0, False, 0, 0, 0),
        Error(4429, "slow down", retryable=True),
    ]
    acks = (FrameAck(0, True, "keyframe", {"decode": 1.0}), FrameAck(1, False, "late"))

    async def script(server):
        await server.welcome()
        await server.connection.send('{"type": "weather", "rain": true}')
        await server.connection.send('{"type": "health"' + dump(said[1])[16:-1] + ', "new": 1}')
        later = bytearray(pack_delta(empty_delta())[0])
        later[4] = 99  # a kind of message of a later version
        await server.say(bytes(later), Ack(acks), *said)
        await server.until_bye()

    async with Scripted(script) as server, Client(server.url) as client:
        found = [await anext(client) for _ in range(6)]
        assert found == [said[1], *acks, *said]
        assert client.replica.number == 0


@run
async def test_questions_are_answered_whatever_the_order():
    async def script(server):
        await server.welcome()
        asked = {}
        while len(asked) < 3:
            query = await server.hear()
            asked[query.text] = query
        assert asked["chair"] == Query(asked["chair"].id, "chair", 5, 0.5)
        await server.say(
            Hits(asked["table"].id, 3, ()),
            Error(UNANSWERABLE, "no word 'xyzzy'", "try: fizzy", id=asked["xyzzy"].id),
            Hits(asked["chair"].id, 2, ()),
            Hits(99, 1, ()),
        )
        await server.until_bye()

    async with Scripted(script) as server, Client(server.url) as client:
        chair, table, unknown = await asyncio.gather(
            client.query("chair", 5, 0.5),
            client.query("table"),
            client.query("xyzzy"),
            return_exceptions=True,
        )
        assert (chair.number, table.number) == (2, 3)
        assert isinstance(unknown, ProtocolError)
        assert (unknown.code, str(unknown), unknown.hint) == (4422, "no word 'xyzzy'", "try: fizzy")
        with pytest.raises(ProtocolError):
            await client.query("a" * 257)


@run
async def test_a_flush_returns_when_the_map_is_here():
    (delta,) = toy_deltas(1)

    async def script(server):
        await server.welcome()
        flush = await server.hear()
        assert isinstance(flush, Flush)
        await server.say(*pack_delta(delta), Flushed(flush.id, 1))
        await server.until_bye()

    async with Scripted(script) as server, Client(server.url) as client:
        assert await client.flush() == 1
        assert same(client.replica, [delta])


@run
async def test_a_map_goes_on_after_a_cut():
    deltas = toy_deltas(5)

    async def first(server):
        await server.welcome()
        for delta in deltas[:3]:
            await server.say(*pack_delta(delta))
        await server.hear()
        server.cut()

    async def second(server):
        await server.welcome(number=4, resumed=True)
        for delta in deltas[3:]:
            await server.say(*pack_delta(delta))
        await server.until_bye()

    async with Scripted(first, second) as server, Client(server.url) as client:
        for _ in range(3):
            await anext(client)
        await client.send_frame(JPEG)
        for _ in range(2):
            await anext(client)
        assert same(client.replica, deltas)
        assert [hello.resume_from for hello in server.hellos] == [None, Resume("kitchen", 3)]


@run
async def test_half_a_delta_is_forgotten_after_a_cut():
    toy = ToyMap(7, places=200_000)
    large, small = toy.next(), toy.next()
    parts = pack_delta(large)
    assert len(parts) > 1

    async def first(server):
        await server.welcome()
        await server.say(parts[0])
        await server.hear()
        server.cut()

    async def second(server):
        await server.welcome(number=2, resumed=True)
        await server.say(*parts, *pack_delta(small))
        await server.until_bye()

    async with Scripted(first, second) as server, Client(server.url) as client:
        await client.send_frame(JPEG)
        assert [(await anext(client)).number for _ in range(2)] == [1, 2]
        assert same(client.replica, [large, small])
        assert server.hellos[1].resume_from == Resume("kitchen", 0)


@run
async def test_another_map_replaces_what_was_there():
    old, new = toy_deltas(3), [ToyMap(8).next()]

    async def first(server):
        await server.welcome()
        for delta in old:
            await server.say(*pack_delta(delta))
        await server.hear()
        server.cut()

    async def second(server):
        await server.welcome(number=0, name="garage")
        await server.say(*pack_delta(new[0]))
        await server.until_bye()

    async with Scripted(first, second) as server, Client(server.url) as client:
        for _ in range(3):
            await anext(client)
        await client.send_frame(JPEG)
        assert (await anext(client)).number == 1
        assert same(client.replica, new)


@run
async def test_a_server_that_lost_deltas_is_not_followed_blindly():
    deltas = toy_deltas(3)

    async def first(server):
        await server.welcome()
        for delta in deltas:
            await server.say(*pack_delta(delta))
        await server.hear()
        server.cut()

    async def second(server):
        await server.welcome(number=1, resumed=True)
        await server.until_bye()

    async def third(server):
        await server.welcome(number=1)
        await server.say(*pack_delta(deltas[0]))
        await server.until_bye()

    async with Scripted(first, second, third) as server, Client(server.url) as client:
        for _ in range(3):
            await anext(client)
        await client.send_frame(JPEG)
        assert (await anext(client)).number == 1
        assert [hello.resume_from for hello in server.hellos][1:] == [Resume("kitchen", 3), None]
        assert same(client.replica, deltas[:1])


@run
async def test_a_question_is_asked_again_after_a_cut():
    async def first(server):
        await server.welcome()
        await server.hear()
        server.cut()

    async def second(server):
        await server.welcome()
        query = await server.hear()
        await server.say(Hits(query.id, 7, ()))
        await server.until_bye()

    async with Scripted(first, second) as server, Client(server.url) as client:
        assert (await client.query("chair")).number == 7


@run
async def test_a_busy_server_is_asked_again():
    async def busy(server):
        await server.welcome()
        await server.say(Error(DRAINING, "going down", retryable=True, retry_after_ms=50))
        await server.connection.close(DRAINING, "going down")

    async with Scripted(busy, only_welcome) as server, Client(server.url) as client:
        assert (await anext(client)).code == DRAINING
        await client.send_frame(JPEG)
        while len(server.hellos) < 2:
            await asyncio.sleep(0.01)


@run
async def test_a_refusal_is_raised_with_its_reason():
    async def refuse(server):
        await server.say(Error(UNAUTHORIZED, "no valid token", "ask for one"))
        await server.connection.close(UNAUTHORIZED, "no valid token")

    async with Scripted(refuse) as server:
        with pytest.raises(ProtocolError, match="no valid token") as caught:
            async with Client(server.url):
                pass
        assert (caught.value.code, caught.value.hint) == (UNAUTHORIZED, "ask for one")
        assert len(server.hellos) == 1


@run
async def test_a_refusal_later_ends_everything():
    async def refuse(server):
        await server.welcome()
        await server.hear()
        await server.connection.close(UNAUTHORIZED, "the token has ended")

    async with Scripted(refuse) as server, Client(server.url) as client:
        with pytest.raises(ProtocolError, match="has ended"):
            await client.query("chair")
        with pytest.raises(ProtocolError, match="has ended"):
            async for _ in client:
                pass
        with pytest.raises(ProtocolError, match="has ended"):
            await client.send_frame(JPEG)


@run
async def test_a_server_that_is_away_too_long_ends_the_client():
    async with Scripted(only_welcome) as server:
        client = Client(server.url, patience=0.2)
        await client.__aenter__()
        server._server.close(close_connections=False)
        server.cut()
        with pytest.raises(StreamError, match="no connection"):
            await client.query("chair")
        with pytest.raises(StreamError, match="no connection"):
            await anext(client)
        await client.close()


@run
async def test_where_no_server_is_a_client_says_so():
    async with Scripted(only_welcome) as server:
        pass
    with pytest.raises(StreamError, match="no connection"):
        async with Client(server.url):
            pass
    for url in ("http://127.0.0.1/", "kitchen"):
        with pytest.raises(UsageError):
            async with Client(url):
                pass


@run
async def test_a_server_of_another_protocol_is_refused():
    async with Scripted(only_welcome, subprotocols=()) as server:
        with pytest.raises(ProtocolError) as caught:
            async with Client(server.url):
                pass
        assert caught.value.code == VERSION


def broken_checksum() -> bytes:
    (data,) = pack_delta(empty_delta())
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "broken",
    [
        broken_checksum(),
        pack_delta(empty_delta(5))[0],
        b"FFS2" + bytes(28),
        Error(1, "a code that is none"),
        Welcome("s", "m", 0, False, Limits(1, 1, 0.0, 1, 1.0)),
    ],
    ids=["checksum", "gap", "version", "error", "limits"],
)
@run
async def test_a_broken_server_is_left(broken):
    async def script(server):
        await server.welcome()
        await server.say(broken)
        await server.until_bye()

    async with Scripted(script) as server, Client(server.url) as client:
        with pytest.raises(ProtocolError):
            await anext(client)
        while not server.closed_with:
            await asyncio.sleep(0.01)
        assert server.closed_with[0] in (MALFORMED, VERSION)


@run
async def test_after_the_end_nothing_hangs():
    async with Scripted(only_welcome) as server:
        async with Client(server.url) as client:
            asking = asyncio.create_task(client.query("chair"))
            await asyncio.sleep(0)
        for waiting in (asking, client.query("table"), client.send_frame(JPEG), client.flush()):
            with pytest.raises(StreamError, match="closed"):
                await waiting
        assert [event async for event in client] == []
        assert [event async for event in client] == []


@run
async def test_events_that_nobody_takes_are_bounded(monkeypatch):
    monkeypatch.setattr(client_module, "MAX_EVENTS", 4)

    async def script(server):
        await server.welcome()
        await server.say(Ack(tuple(FrameAck(i, True, "tracked") for i in range(10))))
        await server.say(Flushed((await server.hear()).id, 0))
        await server.until_bye()

    async with Scripted(script) as server, Client(server.url) as client:
        await client.flush()
        assert client.missed == 6
        assert [(await anext(client)).seq for _ in range(4)] == [6, 7, 8, 9]


@run
async def test_frames_keep_to_the_rate_of_the_server():
    arrived = []

    async def script(server):
        await server.say(Welcome("s", "m", 0, False, Limits(1000, 1000, 20.0, 4, 30.0)))
        while not isinstance(await server.hear(), Bye):
            arrived.append(asyncio.get_running_loop().time())

    async with Scripted(script) as server, Client(server.url) as client:
        start = asyncio.get_running_loop().time()
        for _ in range(5):
            await client.send_frame(JPEG)
        assert asyncio.get_running_loop().time() - start >= 4 / 20 - 0.01


def test_waiting_doubles_and_has_an_end():
    backoff = Backoff(1000.0)
    waits = [backoff.wait() for _ in range(12)]
    expected = [min(0.1 * 2**i, 10) for i in range(12)]
    assert all(e / 2 <= w <= e for w, e in zip(waits, expected, strict=True))
    assert backoff.wait(at_least=30.0) == 30
    assert Backoff(1.0).wait(at_least=2.0) is None
    backoff.reset()
    assert backoff.wait() <= 0.1


def test_a_client_needs_no_torch():
    check = "import sys, ffsplat.stream.client; print([m for m in ('torch', 'numba', 'websockets')"
    done = subprocess.run(
        [sys.executable, "-c", check + " if m in sys.modules])"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
