"""Too many connections, requests that nobody waits for, and answers that nobody reads."""

import socket
import struct
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from ffsplat.stream.frame import Verdict
from ffsplat.stream.protocol.control import Flush, Hello, Query, dump
from ffsplat.stream.server.serve import Address
from tests.stream.safety.figures import MIB, Figure, forget_peak, open_files, peak, resident
from tests.stream.safety.lives import Life, Nursery
from tests.stream.safety.stack import Stack, stack, step, until
from tests.stream.safety.test_sizes import warm
from tests.stream.safety.wire import PING, PONG, TEXT, Wire, framed
from tests.stream.server.standin import make_delta
from tests.stream.server.talk import PATIENCE, answer, ask, client, raw

NEAR = 5
"""Descriptors by which a process may differ after a flood."""

BACKLOG = 100
"""Connections that the event loop accepts before it looks at the first (`asyncio`'s default)."""

HELD = 8 * MIB
"""What a connection may cost whose client sends and never reads."""


def thousand(life: Life, address: Address, count: int, cap: int) -> Figure:
    """So many connections at once, of all kinds; then none."""
    ask(address, "/healthz")
    before = open_files(life.pid)
    flood = []
    for i in range(count):
        with suppress(OSError):
            one = raw(address)
            one.setblocking(False)
            with suppress(OSError):
                one.sendall((b"GET / HT", b"GET /healthz HTTP/1.1\r\n\r\n", b"\x16\x03\x01")[i % 3])
            flood.append(one)
    most = open_files(life.pid)
    served = ask(address, "/healthz")[0]
    for one in flood:
        one.close()
    seconds = until(lambda: open_files(life.pid) <= before + NEAR and is_healthy(address))
    return Figure(
        f"S11 {count} connections at once, cap {cap}, backlog {BACKLOG}",
        f"cap holds, descriptors back to +-{NEAR}",
        f"{most - before} more at most, {open_files(life.pid) - before:+d} after {seconds:.1f} s, "
        f"meanwhile {served}",
        most - before <= cap + BACKLOG + NEAR and served == 200,
    )


def is_healthy(address: Address) -> bool:
    return ask(address, "/healthz")[0] == 200


def silent(address: Address, count: int) -> Figure:
    """So many connections that say nothing, and one client that does."""
    crowd = [raw(address) for _ in range(count)]
    began = time.monotonic()
    wire = Wire.open(address, Hello(want=()))
    is_in = bool(wire.answered())
    seconds = time.monotonic() - began
    for one in (wire, *crowd):
        one.close()
    return Figure(
        f"S11 a hello beside {count} connections that say nothing",
        "welcome <= 1 s",
        f"{'welcome' if is_in else f'closed ({wire.code})'} after {seconds:.2f} s",
        is_in and seconds <= 1.0,
    )


def sessions(life: Life, address: Address, count: int) -> Figure:
    """So many clients that come with a hello and go without a word."""
    ask(address, "/healthz")
    before = open_files(life.pid)
    codes = set()
    for _ in range(count):
        wire = Wire.open(address, Hello(want=()))
        if not wire.answered():
            codes.add(wire.code)
        wire.close()
    until(lambda: open_files(life.pid) <= before + NEAR)
    return Figure(
        f"S11 {count} sessions that break off, one after the other",
        f"descriptors back to +-{NEAR}",
        f"{open_files(life.pid) - before:+d}, {len(codes)} kinds of refusal {sorted(codes)}",
        is_healthy(address) and codes <= {4503},
    )


def deaf(life: Life, address: Address, what: str, message: bytes, total: int) -> Figure:
    """A client that sends what must be answered, and never reads an answer."""
    wire = Wire.open(address, Hello(want=()))
    wire.answered()
    forget_peak(life.pid)
    before = resident(life.pid)
    sent = pour(wire.socket, message * max(1, (1 << 16) // len(message)), total)
    grown = peak(life.pid) - before
    wire.close()
    return Figure(
        f"S4 {what}, whose answers nobody reads, {total / MIB:.0f} MiB",
        f"RSS <= {HELD / MIB:.0f} MiB",
        f"{grown / MIB:.1f} MiB after {sent / MIB:.1f} MiB left",
        grown <= HELD and is_healthy(address),
    )


def pour(connection: socket.socket, block: bytes, total: int) -> int:
    """Send whole blocks until nobody takes them any more; how many bytes were taken."""
    connection.settimeout(1.0)
    sent = 0
    with suppress(OSError):
        while sent < total:
            connection.sendall(block)
            sent += len(block)
    return sent


def eager(address: Address, what: str, message: bytes, total: int) -> Figure:
    """Someone without a token who sends so much at once and reads all answers, beside another."""
    wire = Wire.open(address)
    reader = threading.Thread(target=answer, args=(wire.socket,), daemon=True)
    block = message * ((1 << 16) // len(message))
    sender = threading.Thread(target=pour, args=(wire.socket, block, total), daemon=True)
    reader.start()
    sender.start()
    waits = []
    while sender.is_alive():
        began = time.monotonic()
        assert is_healthy(address)
        waits.append(time.monotonic() - began)
    reader.join(PATIENCE)
    wire.close()
    return Figure(
        f"S11 {what} without end from one who says no hello",
        "cut off, others wait <= 1 s",
        f"{'' if not reader.is_alive() else 'not '}cut off, {max(waits):.2f} s at most",
        not reader.is_alive() and max(waits) <= 1.0,
    )


def hurried(life: Life, address: Address, count: int) -> Figure:
    """Clients that send a heap of broken messages, answer the close, and go."""
    worst = 0.0
    for _ in range(count):
        wire = Wire.open(address, Hello(want=()))
        assert wire.answered()
        before = open_files(life.pid)
        wire.send(framed(b"{", TEXT) + framed(b"\xff\xfe", TEXT) * 6 + framed(b"x", 3))
        while wire.answered():
            pass
        wire.close()
        worst = max(worst, until(lambda: open_files(life.pid) < before, PATIENCE))  # noqa: B023
    return Figure(
        f"S11 {count} clients that send eight broken messages and go",
        "<= 1 s each",
        f"{worst:.2f} s at most",
        worst <= 1.0,
    )


class Gated:
    """Makes a keyframe of each frame when it is let; knows which frames were begun."""

    epoch, resolution = 0, 64

    def __init__(self) -> None:
        self.begun: list[int | None] = []
        self.gate = threading.Event()
        self.told = 0

    def add(self, image, *_, number=None, **__):
        self.begun.append(number)
        assert self.gate.wait(PATIENCE)
        return Verdict(number or 0, "keyframe", np.eye(4))

    def take_delta(self):
        if self.told == len(self.begun):
            return None
        self.told += 1
        return make_delta(self.told)

    def save(self, path):
        raise NotImplementedError


def leaving(way: str) -> Figure:
    """A client that leaves while its frames wait, in three ways; its second frame is not begun."""
    mapper = Gated()
    with stack(mapper) as served:
        wire = Wire.open(served.address, Hello(want=()))
        with client(served.address) as one:
            one.greet(want=())
            for number in (1, 2, 3):
                one.send(step(number))
            one.send(Query(1, "chair"))
            one.send(Flush(2))
            until(lambda: served.engine.counters().received == 3 and bool(mapper.begun), PATIENCE)
            if way == "cut":
                one.socket.socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                # A thread that waits for its bytes would keep the connection open.
                one.socket.socket.shutdown(socket.SHUT_RD)
                one.socket.socket.close()
            elif way == "half":
                one.socket.socket.shutdown(socket.SHUT_WR)
            else:
                one.socket.close()
            seconds = until(lambda: sessions_of(served) == 1, PATIENCE)
            mapper.gate.set()
            assert served.engine.flush(PATIENCE)
        counters = served.engine.counters()
        wire.close()
    return Figure(
        f"S12 a client leaves mid-request ({way})",
        "not begun or discarded, <= 1 s",
        f"noticed after {seconds:.2f} s, begun {mapper.begun}, {counters.dropped['shutdown']} left",
        mapper.begun == [1] and counters.dropped["shutdown"] == 2 and seconds <= 1.0,
    )


def sessions_of(served: Stack) -> float:
    text = ask(served.address, "/metrics")[1].decode()
    return float(text.split("\nffsplat_server_sessions ")[1].split("\n")[0])


def staying(address: Address) -> Figure:
    """Clients that got their answer and do not go."""
    began = time.monotonic()
    some = [raw(address) for _ in range(20)]
    for one in some:
        one.sendall(f"GET /healthz HTTP/1.1\r\nHost: {address.host}\r\n\r\n".encode())
    found = [answer(one) for one in some]
    seconds = time.monotonic() - began
    for one in some:
        one.close()
    return Figure(
        "S11 20 plain requests whose clients stay",
        "closed by the server",
        f"after {seconds:.2f} s, {sum(b'200 OK' in one for one in found)} were answered",
        all(b"200 OK" in one for one in found) and seconds < PATIENCE,
    )


DEAF = {
    "pings": framed(bytes(125), PING),
    "flushes": framed(dump(Flush(1)).encode(), TEXT),
    "queries": framed(dump(Query(1, "no such thing " * 10)).encode(), TEXT),
}

EAGER = {"pings": framed(b"", PING), "pongs": framed(b"", PONG), "texts": framed(b"", TEXT)}


@pytest.fixture(scope="module")
def served(nursery):
    life = warm(nursery, max_fps=1e6, idle=5.0, ping=1.0, max_connections=64)
    yield life, life.address
    life.end()


def test_a_flood_of_connections_is_capped_and_leaves_nothing(served):
    figure = thousand(*served, 300, 64)
    assert figure.holds, figure


def test_silence_keeps_nobody_out(served):
    figure = silent(served[1], 100)
    assert figure.holds, figure


def test_sessions_that_break_off_leave_nothing(served):
    figure = sessions(*served, 60)
    assert figure.holds, figure


def test_who_sends_a_heap_of_broken_messages_does_not_linger(served):
    figure = hurried(*served, 5)
    assert figure.holds, figure


@pytest.mark.parametrize("what", DEAF)
def test_answers_that_nobody_reads_do_not_pile_up(served, what):
    figure = deaf(*served, what, DEAF[what], 100 * MIB)
    assert figure.holds, figure


@pytest.mark.parametrize("what", EAGER)
def test_who_sends_too_much_at_once_keeps_nobody_waiting(served, what):
    figure = eager(served[1], what, EAGER[what], 100 * MIB)
    assert figure.holds, figure


@pytest.mark.parametrize("way", ["close", "cut", "half"])
def test_work_for_a_client_that_left_is_not_begun(way):
    figure = leaving(way)
    assert figure.holds, figure


def test_who_got_an_answer_does_not_stay(served):
    figure = staying(served[1])
    assert figure.holds, figure


def figures(nursery: Nursery) -> list[Figure]:
    """All of them at full size."""
    life = nursery.live()
    found = [thousand(life, life.address, 1000, 256), silent(life.address, 1000)]
    found.append(sessions(life, life.address, 1000))
    life.end()
    life = warm(nursery, max_fps=1e6)
    found += [deaf(life, life.address, *one, 500 * MIB) for one in DEAF.items()]
    found += [eager(life.address, *one, 500 * MIB) for one in EAGER.items()]
    found.append(hurried(life, life.address, 100))
    found += [staying(life.address), *map(leaving, ("close", "cut", "half"))]
    life.end()
    return found
