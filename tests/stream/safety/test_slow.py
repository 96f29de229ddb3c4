"""Who sends or reads slowly costs little, and the others hardly notice."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np

from ffsplat.stream.protocol.control import Ack
from ffsplat.stream.server.serve import Address
from tests.stream.safety.figures import MIB, Figure, percentile, resident
from tests.stream.safety.lives import ROOT, Nursery
from tests.stream.safety.stack import stack, step
from tests.stream.server.standin import StandIn
from tests.stream.server.talk import client, metric, serving

WARM = 5
"""Frames of the good client that do not count."""


def trickle(address: Address, count: int) -> float:
    """Keep so many slow clients, in another process; the longest that one stayed, in seconds."""
    place = [address.host, str(address.port), str(count)]
    command = [sys.executable, "-m", "tests.stream.safety.loris", *place]
    return float(subprocess.run(command, check=True, capture_output=True, cwd=ROOT).stdout)


@contextlib.contextmanager
def good_client(address: Address, hertz: float) -> Iterator[list[float]]:
    """One who sends frames and waits for verdicts; the seconds that each took."""
    seconds: list[float] = []
    end = threading.Event()

    def film() -> None:
        number = 0
        with client(address) as one:
            one.greet(want=("ack",))
            while not end.wait(1 / hertz):
                began = time.perf_counter()
                one.send(step(number))
                one.wait_for(Ack)
                seconds.append(time.perf_counter() - began)
                number += 1

    thread = threading.Thread(target=film, daemon=True)
    thread.start()
    while len(seconds) < WARM:
        thread.join(0.01)
        assert thread.is_alive()
    try:
        yield seconds
    finally:
        end.set()
        thread.join(30)


def loris(address: Address, count: int, handshake: float, quiet: float) -> list[Figure]:
    """Slow clients beside one who works; how long they stay, and what that one notices.

    The good client is alone for `quiet` seconds before and after.
    """
    with good_client(address, 20) as seconds:
        time.sleep(quiet)
        alone = len(seconds)
        stayed = trickle(address, count)
        beset = len(seconds)
        time.sleep(quiet)
    before, while_slow = seconds[WARM:alone] + seconds[beset:], seconds[alone:beset]
    worst = percentile(while_slow, 0.99)
    ratio = worst / percentile(before, 0.99)
    return [
        Figure(
            f"S3 {count} slow sockets, handshake {handshake:g} s",
            f"closed <= {handshake + 2:g} s",
            f"{stayed:.1f} s",
            stayed <= handshake + 2,
        ),
        Figure(
            f"S3 p99 of a good client beside {count} slow ones",
            "< 2 times what it is alone",
            f"{ratio:.2f} times ({1e3 * worst:.1f} ms)",
            ratio < 2,
        ),
    ]


def slow_reader(deltas: int, splats: int) -> list[Figure]:
    """Much is published; one client never reads, one reads slowly, one keeps up."""
    ring = 8 * MIB
    engine = StandIn(splats=splats)
    with (
        serving(engine, max_ring_bytes=ring, max_behind_bytes=2 * MIB, idle=600.0) as (_, address),
        client(address, max_queue=1, ping_interval=None) as never,
        client(address, max_queue=1, ping_interval=None) as slow,
        client(address) as quick,
    ):
        for one in (never, slow, quick):
            one.greet(want=("delta",))
        engine.publish()
        quick.follow(1)
        before, most, waits = resident(os.getpid()), 0, []
        for number in range(2, deltas + 1):
            began = time.perf_counter()
            engine.publish()
            quick.follow(number)
            waits.append(time.perf_counter() - began)
            if number % 20 == 0:
                slow.receive()
                most = max(most, resident(os.getpid()) - before)
        held, sent = metric(address, "ring_bytes"), metric(address, "sent_bytes_total")
        slow.follow(deltas)
    return [
        Figure(
            f"S4 two slow readers of {deltas} deltas, {sent / MIB:.0f} MiB to all",
            f"RSS bounded (ring {ring / MIB:g} MiB)",
            f"ring {held / MIB:.1f} MiB, RSS {most / MIB:.1f} MiB",
            held <= ring and most <= 10 * ring,
        ),
        Figure(
            "S4 the slow one catches up, the quick one got every delta",
            "a snapshot for what it missed; none",
            f"{slow.snapshots} and {quick.snapshots} snapshots, "
            f"{1e3 * float(np.median(waits)):.1f} ms a delta",
            slow.map.number == quick.map.number == deltas and slow.snapshots > 0 == quick.snapshots,
        ),
    ]


def test_slow_clients_are_closed_in_time():
    with stack(handshake=1.0) as served:
        closed, _ = loris(served.address, 40, 1.0, 0.5)
        assert closed.holds, closed


def test_slow_readers_are_bounded_and_catch_up():
    for figure in slow_reader(120, 4000):
        assert figure.holds, figure


def figures(nursery: Nursery) -> list[Figure]:
    """All of them at full size."""
    life = nursery.live()
    found = loris(life.address, 200, 10.0, 10.0)
    life.end()
    return found + slow_reader(1000, 10_000)
