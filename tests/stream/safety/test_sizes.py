"""What is too large, or too many: refused before it is held."""

import select
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat

import pytest
from websockets.exceptions import ConnectionClosed

from ffsplat.stream.engine.engine import Engine
from ffsplat.stream.engine.settings import EngineSettings
from ffsplat.stream.engine.waiting import thumbnail
from ffsplat.stream.protocol.control import Ack
from ffsplat.stream.protocol.frames import frame_message
from ffsplat.stream.protocol.header import Kind, Message, pack
from ffsplat.stream.server.serve import Address
from tests.stream.safety.figures import MIB, Figure, forget_peak, peak, resident
from tests.stream.safety.lives import Life, Nursery
from tests.stream.safety.stack import mapper, step, totals
from tests.stream.server.talk import Client, answer, ask, client, raw

FRAME = 8 * MIB
BODY = 300_000_000
SLACK = 4 * MIB
"""What a process may hold besides: buffers of the kernel's size, and what the allocator keeps."""


@pytest.fixture(scope="module")
def served(nursery):
    """A process that serves, warm, so that its memory can be measured."""
    life = warm(nursery)
    yield life, life.address
    life.end()


def warm(nursery: Nursery, **limits: object) -> Life:
    """A process that has mapped a few frames; `limits` are settings of its server."""
    life = nursery.live(**limits)
    with client(life.address) as one:
        one.greet(want=("ack",))
        for number in range(5):
            one.send(step(number))
            one.wait_for(Ack)
    return life


@dataclass
class Growth:
    """How much a process grows while something happens."""

    life: Life

    def __enter__(self) -> "Growth":
        forget_peak(self.life.pid)
        self._before = resident(self.life.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = max(0, peak(self.life.pid) - self._before)


def received(address: Address) -> float:
    """Frames that reached the engine."""
    text = ask(address, "/metrics")[1].split(b"\r\n\r\n", 1)[1].decode()
    return totals(text)["ffsplat_frames_received_total"]


def oversize_frame(life: Life, address: Address, size: int) -> Figure:
    """A WebSocket frame that announces more than may be, and is sent all the same."""
    with Growth(life) as growth, client(address) as one:
        one.greet(want=())
        with suppress(ConnectionClosed):
            one.send(bytes(size))
        code = one.closed()[0]
    return Figure(
        f"S1 a frame of {size // MIB} MiB",
        "1009, RSS <= 1 frame",
        f"{code}, {growth.bytes / MIB:.1f} MiB",
        code == 1009 and growth.bytes <= FRAME,
    )


def fragments(one: Client, piece: bytes, count: int) -> int:
    """Send one message in `count` pieces; the code of the end."""
    with suppress(ConnectionClosed):
        one.socket.send(repeat(piece, count))
    return one.closed()[0]


def in_pieces(life: Life, address: Address, piece: bytes, count: int) -> Figure:
    """A message that never says its size: it comes in pieces."""
    with Growth(life) as growth, client(address) as one:
        one.greet(want=())
        code = fragments(one, piece, count)
    return Figure(
        f"S1 a message of {count} pieces of {len(piece)} bytes",
        "closed, RSS <= 1 frame",
        f"{code}, {growth.bytes / MIB:.1f} MiB",
        code in (1002, 1008, 1009, 4400) and growth.bytes <= FRAME + SLACK,
    )


def body(life: Life, address: Address, head: str, size: int) -> Figure:
    """An HTTP request with a body; what the server held, and how much left the client."""
    with Growth(life) as growth, raw(address) as connection:
        connection.sendall(
            f"{head}\r\nHost: {address.host}\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        sent = pour(connection, size)
        status = int(answer(connection).split(b" ", 2)[1])
    return Figure(
        f"S2 {head.split()[0]} with a body of {size // 10**6} MB",
        "413 or 405 before it is read",
        f"{status} after {sent / MIB:.1f} MiB left, RSS {growth.bytes / MIB:.1f} MiB",
        status in (405, 413) and sent < size / 10 and growth.bytes <= SLACK,
    )


def pour(connection: socket.socket, total: int) -> int:
    """Send until nobody takes it any more; how many bytes were taken, by the kernel maybe."""
    connection.settimeout(0.2)
    sent, block = 0, bytes(1 << 16)
    with suppress(OSError):
        while sent < total:
            sent += connection.send(block)
    connection.settimeout(10.0)
    return sent


def many_frames(address: Address, count: int) -> list[Figure]:
    """So many frames in one message, in each way that a message could hold them."""
    single = pack(frame_message(step(1)))
    whole = pack(frame_message(step(1, image=b"\xff\xd8\xff")))
    ways = {
        "one after the other": whole * count,
        "as a count before the picture": pack(
            Message(Kind.FRAME, 1, 0, struct.pack("<I", count) + bytes(64))
        ),
        "as a list in its JSON": pack(listed(count)),
        "as a list of wants": '{"type":"hello","want":[' + ",".join(['"ack"'] * count) + "]}",
        "in fragments": (single[:60], count),
    }
    figures = []
    for way, message in ways.items():
        before = received(address)
        with client(address) as one:
            one.greet(want=())
            if isinstance(message, tuple):
                code = fragments(one, *message)
            else:
                one.send(message)
                code = one.closed()[0]
        reached = received(address) - before
        figures.append(
            Figure(
                f"S6 {count} frames {way}",
                "refused, none decoded",
                f"{code}, {reached:g} reached the engine",
                code in (1002, 1008, 1009, 4400, 4413) and reached == 0,
            )
        )
    return figures


def listed(count: int) -> Message:
    """A frame whose JSON gives the intrinsics of so many."""
    block = ('{"intrinsics":[' + ",".join("1" * count) + "]}").encode()
    return Message(Kind.FRAME, 1, 0, struct.pack("<I", len(block)) + block + b"\xff\xd8\xff")


def test_a_frame_that_is_too_large_is_never_held(served):
    for size in (FRAME + 64, 64 * MIB):
        figure = oversize_frame(*served, size)
        assert figure.holds, figure


@pytest.mark.parametrize(("piece", "count"), [(b"", 50_000), (b"x", 50_000), (bytes(4096), 20_000)])
def test_a_message_in_endless_pieces_is_never_held(served, piece, count):
    figure = in_pieces(*served, piece, count)
    assert figure.holds, figure


@pytest.mark.parametrize("head", ["POST / HTTP/1.1", "GET /stream HTTP/1.1", "PUT /x HTTP/1.1"])
def test_a_body_is_refused_before_it_is_read(served, head):
    figure = body(*served, head, BODY)
    assert figure.holds, figure


def test_many_frames_in_one_message_are_refused_by_their_count(served):
    for figure in many_frames(served[1], 10_000):
        assert figure.holds, figure


def test_sources_at_the_same_time_cost_the_memory_of_one_picture(monkeypatch):
    busy, most = threading.Semaphore(1), []

    def slow_thumbnail(*arguments):
        most.append(busy.acquire(blocking=False))
        try:
            select.select([], [], [], 0.02)
            return thumbnail(*arguments)
        finally:
            if most[-1]:
                busy.release()

    monkeypatch.setattr("ffsplat.stream.engine.engine.thumbnail", slow_thumbnail)
    engine = Engine(mapper(), EngineSettings(drop="keyframe", queue=8))
    sources = [threading.Thread(target=engine.offer, args=(step(number),)) for number in range(8)]
    for source in sources:
        source.start()
    for source in sources:
        source.join()
    engine.stop()
    assert most == [True] * 8


def figures(nursery: Nursery) -> list[Figure]:
    """All of them at full size."""
    life = warm(nursery)
    address = life.address
    found = [oversize_frame(life, address, size) for size in (FRAME + 64, 64 * MIB)]
    found += [
        in_pieces(life, address, piece, count)
        for piece, count in ((b"", 10**6), (b"x", 10**6), (bytes(4096), 20_000))
    ]
    found += [body(life, address, f"{method} / HTTP/1.1", BODY) for method in ("POST", "GET")]
    found += many_frames(address, 10_000)
    life.end()
    return found
