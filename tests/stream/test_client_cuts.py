"""What a client does when the connection breaks off, and when a server refuses it."""

import pytest
from toydeltas import ToyMap

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.client import Client
from ffsplat.stream.connection import Backoff
from ffsplat.stream.protocol.blocks import pack_delta
from ffsplat.stream.protocol.control import (
    Error,
    Hits,
    Resume,
)
from ffsplat.stream.protocol.errors import (
    DRAINING,
    UNAUTHORIZED,
    VERSION,
    ProtocolError,
)
from tests.stream.scripted import JPEG, Scripted, only_welcome, run, same, toy_deltas


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
        assert await server.closed.get() == DRAINING
        await client.send_frame(JPEG)
        assert len(server.hellos) == 2


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


def test_waiting_doubles_and_has_an_end():
    backoff = Backoff(1000.0)
    waits = [backoff.wait() for _ in range(12)]
    expected = [min(0.1 * 2**i, 10) for i in range(12)]
    assert all(e / 2 <= w <= e for w, e in zip(waits, expected, strict=True))
    assert backoff.wait(at_least=30.0) == 30
    assert Backoff(1.0).wait(at_least=2.0) is None
    backoff.reset()
    assert backoff.wait() <= 0.1
