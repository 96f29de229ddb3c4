"""Clients that send a byte at a time; a process of its own, so that it slows nobody else down.

`python -m tests.stream.safety.loris HOST PORT COUNT` prints the seconds that the last one stayed.
"""

import contextlib
import selectors
import socket
import sys
import time

LONGEST = 60.0

HELLO = b'{"type":"hello","token":"' + b"x" * 2000 + b'"}'

UPGRADE = (
    "GET /stream HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: ffsplat.v1\r\n\r\n"
)
"""Source of the form: RFC 6455, section 1.2."""


def texts(host: str) -> list[tuple[bytes, bytes]]:
    """What slow clients say at once, and a byte at a time: requests, half a hello, pings."""
    upgrade = UPGRADE.format(host=host).encode()
    masked = bytes([0x81, 0x80 | 126, *len(HELLO).to_bytes(2)]) + bytes(4) + HELLO
    return [
        (upgrade[:9], upgrade[9:]),
        (b"GET / HTT", b"P/1.1\r\nX-Long: " + b"x" * 5000),
        (upgrade, masked),
        (upgrade, b"\x89\x80\0\0\0\0" * 2000),
    ]


def trickle(host: str, port: int, count: int) -> float:
    """Keep so many slow clients; the longest that the server let one of them stay, in seconds."""
    waiting, kinds = selectors.DefaultSelector(), texts(host)
    left: dict[socket.socket, tuple[float, bytes]] = {}
    longest = 0.0
    for i in range(count):
        one, (first, rest) = socket.create_connection((host, port)), kinds[i % len(kinds)]
        left[one] = time.monotonic(), rest
        one.sendall(first)
        one.setblocking(False)
        waiting.register(one, selectors.EVENT_READ)
    end = time.monotonic() + LONGEST
    while left and time.monotonic() < end:
        for key, _ in waiting.select(0.02):
            one = key.fileobj
            assert isinstance(one, socket.socket)
            if is_closed(one):
                waiting.unregister(one)
                one.close()
                longest = max(longest, time.monotonic() - left.pop(one)[0])
        for one, (began, rest) in left.items():
            with contextlib.suppress(OSError):
                left[one] = began, rest[one.send(rest[:1]) :]
        time.sleep(0.1)
    return LONGEST if left else longest


def is_closed(one: socket.socket) -> bool:
    """Read what there is; whether that was the end."""
    try:
        return not one.recv(65536)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


if __name__ == "__main__":
    print(trickle(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
