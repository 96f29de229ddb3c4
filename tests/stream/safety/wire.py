"""A WebSocket client that may break every rule: it sends bytes, and says how it was answered."""

import os
import socket
import struct
from dataclasses import dataclass, field

from ffsplat.stream.protocol.control import Hello, dump
from ffsplat.stream.server.serve import Address
from tests.stream.safety.loris import UPGRADE
from tests.stream.server.talk import PATIENCE, raw

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def upgrade(address: Address) -> bytes:
    """The request that opens a WebSocket."""
    return UPGRADE.format(host=address.host).encode()


def framed(payload: bytes, opcode: int, first: int = 0x80) -> bytes:
    """A frame of a client; its mask is zero, which hides nothing and is allowed (RFC 6455, 5.3)."""
    size = len(payload)
    if size < 126:
        head = bytes([first | opcode, 0x80 | size])
    elif size < 1 << 16:
        head = struct.pack(">BBH", first | opcode, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", first | opcode, 0x80 | 127, size)
    return head + bytes(4) + payload


@dataclass
class Wire:
    """A connection after the upgrade; `code` is how the server closed, 1006 without a reason."""

    socket: socket.socket
    code: int | None = None
    rest: bytearray = field(default_factory=bytearray)

    @classmethod
    def open(cls, address: Address, hello: Hello | None = None) -> "Wire":
        """Connect, and say hello if there is one to say."""
        one = cls(raw(address))
        one.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.send(upgrade(address))
        while b"\r\n\r\n" not in one.rest:
            assert one.fill(), bytes(one.rest)
        head, _, after = bytes(one.rest).partition(b"\r\n\r\n")
        assert b" 101 " in head, head
        one.rest = bytearray(after)
        if hello is not None:
            one.send(framed(dump(hello).encode(), TEXT))
            one.welcome()
        return one

    def welcome(self) -> None:
        """Wait for the answer to a hello, or for the end."""
        self.socket.settimeout(PATIENCE)
        found = self.next()
        if found is None or b'"welcome"' not in found[1]:
            self.answered()

    def close(self) -> None:
        """Cut the connection."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are; what the server does not want is lost."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.code = self.code or 1006

    def fill(self) -> bool:
        """Read some more; False at the end, or if nothing comes."""
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return False
        except ConnectionError:
            data = b""
        if not data:
            self.code = self.code or 1006
        self.rest += data
        return bool(data)

    def next(self) -> tuple[int, bytes] | None:
        """The next frame of the server: opcode and payload; None at the end."""
        while True:
            if len(self.rest) >= 2:
                size, at = self.rest[1] & 127, 2
                if size == 126 and len(self.rest) >= 4:
                    (size,), at = struct.unpack_from(">H", self.rest, 2), 4
                elif size == 127 and len(self.rest) >= 10:
                    (size,), at = struct.unpack_from(">Q", self.rest, 2), 10
                whole = size < 126 or at > 2
                if whole and len(self.rest) >= at + size:
                    opcode, payload = self.rest[0] & 15, bytes(self.rest[at : at + size])
                    del self.rest[: at + size]
                    return opcode, payload
            if not self.fill():
                return None

    def answered(self, patience: float = PATIENCE) -> bool:
        """Whether the connection still lives: a ping is answered.

        Otherwise `code` says why not; None if nothing came for so many seconds of `patience`.
        """
        self.socket.settimeout(patience)
        mark = os.urandom(8)
        if self.code is None:
            self.send(framed(mark, PING))
        while (found := self.next()) is not None:
            opcode, payload = found
            if opcode == CLOSE:
                self.code = struct.unpack_from(">H", payload)[0] if len(payload) > 1 else 1005
                self.send(framed(payload, CLOSE))
                return False
            if (opcode, payload) == (PONG, mark):
                return True
        return False
