"""What a client sends, and what it makes of what it is sent."""

import asyncio
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from toydeltas import empty_delta

from ffsplat.errors import StreamError
from ffsplat.stream import client as client_module
from ffsplat.stream.client import Client
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
    Welcome,
    dump,
)
from ffsplat.stream.protocol.errors import (
    MALFORMED,
    TOO_LARGE,
    UNANSWERABLE,
    VERSION,
    ProtocolError,
)
from ffsplat.stream.protocol.header import Kind
from ffsplat.stream.replica.replica import Replica
from tests.stream.scripted import JPEG, LIMITS, Scripted, only_welcome, run, same, toy_deltas


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
        assert await server.closed.get() in (MALFORMED, VERSION)


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


def test_a_client_needs_no_torch():
    check = "import sys, ffsplat.stream.client; print([m for m in ('torch', 'numba', 'websockets')"
    done = subprocess.run(
        [sys.executable, "-c", check + " if m in sys.modules])"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
