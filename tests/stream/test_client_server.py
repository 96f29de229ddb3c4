"""The client and the server of this package, with an engine that knows no network."""

import asyncio

import pytest

from ffsplat.stream.client import Client
from ffsplat.stream.protocol.control import FrameAck, Pose
from ffsplat.stream.protocol.document import write_document
from ffsplat.stream.protocol.errors import UNAUTHORIZED, ProtocolError
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.server.serve import ServerThread
from ffsplat.stream.server.settings import ServerSettings
from tests.stream.server.standin import StandIn, make_delta

JPEG = b"\xff\xd8\xff" + bytes(100)
PATIENCE = 15.0


def served(engine: StandIn, port: int = 0, **options) -> ServerThread:
    return ServerThread(engine, None, ServerSettings(port=port, drain=2.0, **options))


def truth(number: int) -> bytes:
    """The document of the snapshot of this number, without any server."""
    replica = Replica()
    for i in range(number):
        replica.apply(make_delta(i + 1))
    return write_document(replica.snapshot())


async def until(client: Client, number: int) -> None:
    """Wait until the map of a client has come so far."""
    async with asyncio.timeout(PATIENCE):
        while client.replica.number < number:
            await anext(client)


def test_a_camera_and_a_late_viewer_have_the_same_map():
    async def talk(url: str) -> None:
        async with Client(url, want=("delta", "ack", "pose")) as camera:
            numbers = [await camera.send_frame(JPEG) for _ in range(5)]
            assert await camera.flush() == 5
            async with Client(url, role="viewer", want=("delta",)) as viewer:
                await until(viewer, 5)
                await camera.send_frame(JPEG)
                await until(viewer, 6)
                assert write_document(viewer.replica.snapshot()) == truth(6)
                (hit,) = (await viewer.query("chair")).hits
                assert (hit.name, hit.instance) == ("chair", 3)
            await camera.flush()
            assert write_document(camera.replica.snapshot()) == truth(6)
            events = [await anext(camera) for _ in range(18)]
            acks = [one.seq for one in events if isinstance(one, FrameAck)]
            poses = [one.seq for one in events if isinstance(one, Pose)]
            assert acks == poses == [*numbers, 5]

    with served(StandIn()) as server:
        asyncio.run(talk(server.address.stream))


def test_a_map_goes_on_after_every_cut():
    engine = StandIn()

    async def talk(url: str) -> None:
        async with Client(url, role="viewer", want=("delta",)) as viewer:
            engine.publish(3)
            await until(viewer, 3)
            for number in (5, 7, 9):
                viewer._connection.transport.abort()
                engine.publish(2)
                await until(viewer, number)
            assert write_document(viewer.replica.snapshot()) == truth(9)

    with served(engine) as server:
        asyncio.run(talk(server.address.stream))


def test_a_server_that_was_restarted_has_another_map():
    async def talk() -> None:
        engine = StandIn()
        first = served(engine)
        address = await asyncio.to_thread(first.start)
        async with Client(address.stream, role="viewer", want=("delta",)) as viewer:
            engine.publish(4)
            await until(viewer, 4)
            await asyncio.to_thread(first.stop)
            engine = StandIn()
            second = served(engine, address.port)
            await asyncio.to_thread(second.start)
            engine.publish(2)
            async with asyncio.timeout(PATIENCE):
                while write_document(viewer.replica.snapshot()) != truth(2):
                    await anext(viewer)
        await asyncio.to_thread(second.stop)

    asyncio.run(talk())


def test_a_wrong_token_is_refused(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("a-very-long-secret-that-nobody-guesses\n")
    tokens.chmod(0o600)

    async def talk(url: str) -> None:
        with pytest.raises(ProtocolError) as caught:
            async with Client(url, token="wrong"):
                pass
        assert caught.value.code == UNAUTHORIZED
        async with Client(url, token="a-very-long-secret-that-nobody-guesses") as client:
            assert client.limits.max_queue == 4

    with served(StandIn(), token_file=tokens) as server:
        asyncio.run(talk(server.address.stream))
