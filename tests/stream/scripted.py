"""A server that does what a test says, and what tests of a client need besides."""

import asyncio
import functools
from contextlib import suppress

from toydeltas import ToyMap
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from ffsplat.stream.protocol.control import (
    Bye,
    Hello,
    Limits,
    Welcome,
    dump,
    parse_client,
)
from ffsplat.stream.protocol.document import write_document
from ffsplat.stream.protocol.frames import read_frame
from ffsplat.stream.protocol.header import SUBPROTOCOL, unpack
from ffsplat.stream.replica.replica import Replica

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
        self.closed: asyncio.Queue[int | None] = asyncio.Queue()
        """The close code of each connection that has ended."""
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
        self.closed.put_nowait(connection.close_code)

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
