"""The door of the server: how many connections there are, and what a request may be at all.

Nothing of a request is kept beyond its head, and no body is ever read.
"""

import contextlib
import ipaddress
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, CloseCode, Frame, Opcode
from websockets.protocol import Event

from ffsplat.stream.protocol.errors import MALFORMED, ProtocolError
from ffsplat.stream.server.counters import Counters
from ffsplat.stream.server.limits import TokenBucket

LINGER = 0.5
"""Seconds that a refused client has to read why, before the connection is cut."""

MAX_UNREAD = 4 << 20
"""Bytes of answers that may lie unsent when more comes in: a session leaves a message and a bit,
and pongs (RFC 6455, section 5.5.3) would pile up for a client that pings and never reads."""

MAX_FRAGMENTS = 1024
"""Pieces of a message: with their number alone they could fill the memory, as they may be empty."""

MAX_UNHEARD = 1024
"""Messages that may come before the first of them is looked at; a session takes a few hundred a
second."""

MAX_CONTROLS = 100.0
"""Pings and pongs a second: each costs about as much as a frame, and none asks for a token."""

PIECE = 4096
"""Bytes that are taken apart before it is looked whether there are too many messages in them."""

METHOD = b"GET "
BODY = re.compile(rb"\r\n(?:content-length:[ \t]*+(?!0[ \t]*\r\n)|transfer-encoding:)", re.I)
"""A header that announces a body: any length but 0, or a transfer coding."""


@dataclass
class Door:
    """What all connections of a server share: who they are, and what they may cost."""

    max_connections: int
    max_head_bytes: int
    tls_seconds: float | None = None
    """How long hands are shaken before a connection is there at all; None without TLS."""
    counters: Counters = field(default_factory=Counters)
    gates: "set[Gate]" = field(default_factory=set)
    knocks: deque[float] = field(default_factory=deque)
    """When those came whose TLS is not there yet."""

    def knock(self) -> float:
        """Note that somebody begins with TLS; ConnectionRefusedError if too many are at it."""
        now = time.monotonic()
        if self.tls_seconds is not None:
            while self.knocks and self.knocks[0] < now - self.tls_seconds:
                self.knocks.popleft()
            if len(self.knocks) >= self.max_connections:
                raise ConnectionRefusedError("too many handshakes")
            self.knocks.append(now)
        return now

    def enter(self, knocked: float) -> None:
        """Note that TLS is there, for one who knocked at that time."""
        with contextlib.suppress(ValueError):  # it was forgotten meanwhile
            self.knocks.remove(knocked)

    def make_room(self) -> bool:
        """Whether there is a place for one more, if need be that of a stranger.

        When all are taken, of the network with most strangers the one who came first goes: silence
        holds a place only while nobody else wants it, and a crowd drives out no one but itself.
        """
        if len(self.gates) < self.max_connections:
            return True
        strangers = sorted(
            (one for one in self.gates if one.is_stranger), key=lambda one: one.began
        )
        if not strangers:
            return False
        ((crowd, _),) = Counter(one.network for one in strangers).most_common(1)
        oldest = min((one for one in strangers if one.network == crowd), key=lambda one: one.began)
        self.counters.add("displaced_total")
        self.gates.remove(oldest)
        oldest.transport.abort()
        return True

    def abort(self) -> None:
        """Cut all connections, whatever they are doing."""
        for gate in tuple(self.gates):
            gate.transport.abort()


class Gate(ServerConnection):
    """A connection that looks at the head of its request before any other code does.

    Refused with a short answer: one connection too many (503), another method than GET (405), a
    body (413), a head that is too long (431). Source of the codes: RFC 9110 and RFC 6585.
    """

    door: Door

    @classmethod
    def of(cls, door: Door) -> "type[Gate]":
        """The class of the connections that come through a door."""
        return type("Gate", (cls,), {"door": door})

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.head: bytearray | None = bytearray()
        self.is_refused = False
        self.fragments = 0
        self.kinds: deque[Opcode] = deque()
        self.is_leaving = False
        self.is_stranger = True
        """Whether it has not said hello yet, as one who may come in."""
        self.network = ""
        self.heard = self.began = self.door.knock()
        """When anything came last, pongs included."""
        self._controls = TokenBucket(MAX_CONTROLS, self.began)

    def connection_made(self, transport: Any) -> None:
        """Count the connection, or turn it away."""
        super().connection_made(transport)
        self.door.enter(self.began)
        self.door.counters.add("accepted_connections_total")
        self.network = network_of(self.remote_address)
        if self.door.make_room():
            self.door.gates.add(self)
        else:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another."""
        self.door.gates.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Collect the head of the request and check it; later bytes go straight on."""
        self.heard = time.monotonic()
        if self.is_refused:
            return
        if self.head is None:
            self._hear(data)
            return
        self.head += data
        end = self.head.find(b"\r\n\r\n")
        if status := self._fault(bytes(self.head[: end + 4] if end >= 0 else self.head)):
            self._refuse(status)
            self._cut()
        elif end >= 0:
            collected, self.head = bytes(self.head), None
            self._hear(collected)
            if self.request is None:  # no HTTP: nobody waits for the time limit of the handshake
                self.loop.call_later(LINGER, self.transport.abort)

    async def receive(self) -> str | bytes:
        """The next message; ProtocolError (4400) for text that is none.

        `recv` would end the connection for such text, but wait for that with messages unread.
        """
        data = await self.recv(decode=False)
        if self.kinds.popleft() is Opcode.BINARY:
            return data
        try:
            return data.decode()
        except UnicodeError as error:
            raise ProtocolError(MALFORMED, "text that is not UTF-8") from error

    def leave(self) -> None:
        """Forget messages that still come, and read on: the client's goodbye stands after them."""
        self.is_leaving = True
        self.transport.resume_reading()

    def process_event(self, event: Event) -> None:
        """Count messages, their pieces, pings and pongs, and close (1008, 1009) at too many."""
        if self.is_refused:
            return
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            if self.is_leaving:
                return
            if event.opcode is not Opcode.CONT:
                self.kinds.append(event.opcode)
            self.fragments = 0 if event.fin else self.fragments + 1
        if self.fragments > MAX_FRAGMENTS:
            self._fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        elif len(self.kinds) > MAX_UNHEARD:
            self._fail(CloseCode.POLICY_VIOLATION, "too many messages at once")
        elif is_control(event) and not self._controls.take(self.heard):
            self._fail(CloseCode.POLICY_VIOLATION, "too many pings")
        else:
            super().process_event(event)

    def _hear(self, data: bytes) -> None:
        """Take bytes apart, a piece at a time, as long as they are not too much."""
        for start in range(0, len(data), PIECE):
            super().data_received(data[start : start + PIECE])
            if self.transport.get_write_buffer_size() > MAX_UNREAD:
                self.transport.abort()
            if self.is_refused or self.transport.is_closing():
                return

    def _fail(self, code: CloseCode, reason: str) -> None:
        """Close, and take nothing apart any more."""
        self.is_refused = True
        self.door.counters.add("refused_total", reason=str(int(code)))
        self.protocol.fail(code, reason)
        self.send_data()
        self._cut()

    def _cut(self) -> None:
        """Read no more, and end when the client had time to hear why."""
        self.transport.pause_reading()
        self.loop.call_later(LINGER, self.transport.abort)

    def _fault(self, head: bytes) -> HTTPStatus | None:
        """What is wrong with a head, which may not be complete yet."""
        if not METHOD.startswith(head[: len(METHOD)]):
            return HTTPStatus.METHOD_NOT_ALLOWED
        if len(head) > self.door.max_head_bytes:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        if head.endswith(b"\r\n\r\n") and BODY.search(head):
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return None

    def _refuse(self, status: HTTPStatus) -> None:
        self.head, self.is_refused = None, True
        self.door.counters.add("refused_total", reason=str(status.value))
        lines = (f"HTTP/1.1 {status.value} {status.phrase}", "Content-Length: 0", "Allow: GET")
        self.transport.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())


def is_control(event: Event) -> bool:
    """Whether it is a ping or a pong."""
    return isinstance(event, Frame) and event.opcode in (Opcode.PING, Opcode.PONG)


def network_of(address: Any) -> str:
    """Whose a socket's address is: an address of IPv4, the network of one of IPv6.

    Whoever has an address of IPv6 has all with its first 64 bits. Source: RFC 4291, section 2.5.4.
    """
    host = str(address[0]) if address else ""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if found.version == 4:
        return host
    return found.ipv4_mapped.compressed if found.ipv4_mapped else found.exploded[:19]
