"""Servers and clients on loopback, for tests."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ffsplat.stream.frame import Frame
from ffsplat.stream.protocol.blocks import Deltas, encode_delta
from ffsplat.stream.protocol.control import (
    Error,
    Hello,
    ServerMessage,
    Welcome,
    dump,
    parse_server,
)
from ffsplat.stream.protocol.frames import frame_message
from ffsplat.stream.protocol.header import SUBPROTOCOL, Kind, Message, pack, unpack
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.server.serve import Address, ServerThread
from ffsplat.stream.server.settings import ServerSettings
from tests.stream.server.standin import StandIn

PATIENCE = 30.0
"""Seconds after which a test has failed."""

JPEG = b"\xff\xd8\xff" + bytes(100)
"""Begins like a JPEG; the stand-in does not decode."""


@contextmanager
def serving(engine: StandIn | None = None, **options) -> Iterator[tuple[StandIn, Address]]:
    """A running server and its engine; options are those of the settings."""
    engine = engine or StandIn()
    settings = ServerSettings(port=0, **{"drain": 3.0, **options})
    with ServerThread(engine, None, settings) as server:
        assert server.address is not None
        yield engine, server.address


class Client:
    """Speaks the protocol, and keeps what it was sent."""

    def __init__(self, socket: ClientConnection):
        self.socket = socket
        self.map = Replica()
        self.snapshots = 0
        self._parts = Deltas()

    def send(self, message) -> None:
        """Send a control message, a frame, or whatever bytes or text."""
        if isinstance(message, Frame):
            message = pack(frame_message(message))
        self.socket.send(message if isinstance(message, str | bytes) else dump(message))

    def receive(self) -> ServerMessage | Message:
        """The next message; what is of the map goes into `map` besides."""
        data = self.socket.recv(timeout=PATIENCE)
        if isinstance(data, str):
            message = parse_server(data)
            assert message is not None, data
            return message
        part = unpack(data, 1 << 21)
        if (whole := self._parts.add(part)) is not None:
            kind, delta = whole
            if kind == Kind.SNAPSHOT:
                self.snapshots += 1
                self.map.restore(delta)
            else:
                assert self.map.apply(delta)
        return part

    def wait_for(self, kind: type):
        """The next message of a kind; others before it are passed over."""
        while not isinstance(message := self.receive(), kind):
            pass
        return message

    def follow(self, number: int) -> None:
        """Read until the map has a delta."""
        while self.map.number < number:
            self.receive()

    def greet(self, **hello) -> Welcome:
        self.send(Hello(**hello))
        return self.wait_for(Welcome)

    def closed(self) -> tuple[int, Error | None]:
        """Read until the connection is closed: its code, and the last error before."""
        error = None
        while True:
            try:
                message = self.receive()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006, error
            error = message if isinstance(message, Error) else error


@contextmanager
def client(address: Address, **options) -> Iterator[Client]:
    """A client that is connected but has not said hello."""
    options = {"subprotocols": [SUBPROTOCOL], "compression": None, "proxy": None, **options}
    with connect(address.stream, max_size=None, close_timeout=1, **options) as found:
        yield Client(found)


def frame(number: int, image: bytes = JPEG, **options) -> Frame:
    return Frame(image, time_ns=1_000_000 * number, number=number, **options)


def raw(address: Address) -> socket.socket:
    """A TCP connection."""
    return socket.create_connection((address.host, address.port), timeout=PATIENCE)


def answer(connection: socket.socket) -> bytes:
    """All that a server sends until it closes; what came before a reset counts."""
    found = b""
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


def ask(address: Address, path: str = "/", *headers: str, method: str = "GET") -> tuple[int, bytes]:
    """Status and whole answer of a plain HTTP request."""
    host = (
        [] if any(one.lower().startswith("host:") for one in headers) else [f"Host: {address.host}"]
    )
    lines = [f"{method} {path} HTTP/1.1", *host, *headers, "", ""]
    with raw(address) as connection:
        connection.sendall("\r\n".join(lines).encode("latin-1"))
        found = answer(connection)
    return int(found.split(b" ", 2)[1]) if found else 0, found


def metric(address: Address, name: str) -> float:
    """A counter or gauge of the server, over all labels unless they are given."""
    text = ask(address, "/metrics")[1].decode()
    starts = tuple(f"ffsplat_server_{name}{end}" for end in " {")
    return sum(float(one.rsplit(" ", 1)[1]) for one in text.splitlines() if one.startswith(starts))


def same_map(a: Replica, b: Replica) -> bool:
    """Whether two replicas are the same to the byte."""
    return encode_delta(a.snapshot()) == encode_delta(b.snapshot())
