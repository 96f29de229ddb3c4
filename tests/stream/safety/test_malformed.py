"""Messages that break a rule: each costs its sender, is counted, and the map goes on."""

import os
import random
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from ffsplat.stream.protocol.control import Ack, Hello
from ffsplat.stream.protocol.header import Kind, Message, pack
from ffsplat.stream.server.serve import Address
from tests.stream.safety.figures import Figure
from tests.stream.safety.lives import Nursery
from tests.stream.safety.noise import bomb, frame, header, message, sized_jpeg
from tests.stream.safety.stack import Stack, adds_up, stack, step
from tests.stream.safety.wire import Wire
from tests.stream.server.talk import PATIENCE, ask, client, metric

FUZZED = int(os.environ.get("FFSPLAT_SAFETY_FUZZED", "2000"))

UNFINISHED = 0
"""In place of a code: the server waited for the rest of a frame, until it was cut off."""

BUSY = 4503
"""All sessions are taken: come again."""

CODES = {UNFINISHED, 1000, 1002, 1006, 1007, 1009, 4400, 4401, 4408, 4409, 4413, 4429}
"""All that a server may close with when a client misbehaves; 1006 is a cut (RFC 6455, 7.4.1)."""

EYE = np.eye(4).ravel().tolist()
GOOD = frame(1)


def infinite() -> bytes:
    """A frame with a number that no double holds, as JSON can write it."""
    block = b'{"pose":[1e999' + b",0" * 15 + b"]}"
    return pack(Message(Kind.FRAME, 1, 0, struct.pack("<I", len(block)) + block + GOOD[36:]))


@dataclass(frozen=True)
class Bad:
    """A message, and what must come of it: a code that closes, or the reason of a verdict."""

    what: str
    data: bytes | str
    becomes: int | str


BAD = [
    Bad("JSON that is none", "{", 4400),
    Bad("JSON with a name twice", '{"type":"flush","id":1,"id":2}', 4400),
    Bad("JSON nested a thousand deep", '{"a":' + "[" * 1000 + "]" * 1000 + "}", 4400),
    Bad("JSON of 100 kB", '{"type":"flush","id":' + "1" * 100_000 + "}", 4413),
    Bad("a number of 60 000 digits", '{"type":"flush","id":' + "9" * 60_000 + "}", 4400),
    Bad("another checksum", GOOD[:-1] + bytes([GOOD[-1] ^ 1]), 4400),
    Bad("another version", b"FFS2" + GOOD[4:], 4409),
    Bad("a zip bomb", bomb(), 4400),
    Bad("a length that lies", header(GOOD[32:], size=10), 4400),
    Bad("a length of 4 GB", header(GOOD[32:], size=2**32 - 1), 4413),
    Bad("text for binary", "FFS1" + "x" * 60, 4400),
    Bad("binary for text", b'{"type":"flush","id":1}', 4400),
    Bad("intrinsics of 3 x 3", frame(1, {"intrinsics": np.eye(3).tolist()}), 4400),
    Bad("three intrinsics", frame(1, {"intrinsics": [60, 60, 32]}), 4400),
    Bad("a focal length of zero", frame(1, {"intrinsics": [0, 60, 32, 24]}), 4400),
    Bad("a pose of NaN", frame(1, {"pose": [float("nan"), *EYE[1:]]}), 4400),
    Bad("a pose of 1e999", infinite(), 4400),
    Bad("a pose that scales", frame(1, {"pose": [2, *EYE[1:]]}), 4400),
    Bad("a pose at the end of the world", frame(1, {"pose": [1, 0, 0, 1e300, *EYE[4:]]}), 4400),
    Bad("no picture", frame(1, image=b"GIF89a" + bytes(50)), 4400),
    Bad("a picture of 1 x 1", frame(101, image=sized_jpeg(1, 1), time_ns=10**9), "undecodable"),
    Bad(
        "a picture of 65535 x 65535",
        frame(102, image=sized_jpeg(65535, 65535), time_ns=10**9),
        "too_large",
    ),
    Bad("half a picture", frame(103, image=GOOD[36:700], time_ns=10**9), "undecodable"),
    Bad("time that goes back", frame(2**40, time_ns=-(2**62)), "late"),
]


def becomes(address: Address, bad: Bad) -> int | str:
    """What becomes of a message and its sender."""
    with client(address) as one:
        one.greet(want=("ack",))
        one.send(bad.data)
        if isinstance(bad.becomes, str):
            return one.wait_for(Ack).frames[0].reason
        return one.closed()[0]


def film(address: Address, start: int, count: int = 40, clock: int = 0) -> Counter[str]:
    """Walk on, a frame at a time, by a clock that began then; what became of the frames."""
    reasons: Counter[str] = Counter()
    with client(address) as one:
        one.greet(want=("ack",), drop="block")
        for i in range(count):
            one.send(step(start + i, time_ns=clock + 100_000_000 * (start + i)))
            reasons.update(ack.reason for ack in one.wait_for(Ack).frames)
    return reasons


def used(reasons: Counter[str]) -> int:
    return reasons["keyframe"] + reasons["tracked"]


@pytest.fixture(scope="module")
def served():
    with stack() as one:
        film(one.address, 0, 10)
        yield one


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.what)
def test_a_message_that_breaks_a_rule_costs_its_sender(served: Stack, bad: Bad):
    before = metric(served.address, "refused_total")
    assert becomes(served.address, bad) == bad.becomes
    assert metric(served.address, "refused_total") - before == isinstance(bad.becomes, int)
    assert ask(served.address, "/healthz")[0] == 200


def test_the_map_goes_on_after_all_of_them(served: Stack):
    assert used(film(served.address, 20, 10)) >= 8


@dataclass
class Fuzz:
    """What came of noise: how connections ended, and whether the books agreed."""

    ends: Counter[int]
    messages: int = 0
    scrapes: int = 0
    wrong: int = 0
    dead: int = 0
    busy: int = 0


COUNTS = ("messages", "scrapes", "wrong", "dead", "busy")
AT_ONCE = 4
"""Clients that make noise together."""


def fuzz(address: Address, count: int, seed: int) -> Fuzz:
    """Send so much noise; each message goes over a connection that has just answered a ping."""
    draw, found = random.Random(seed), Fuzz(Counter())
    while found.messages < count:
        wire = Wire.open(address, Hello(want=()) if draw.random() < 0.9 else None)
        if wire.code is not None:
            assert wire.code == BUSY, wire.code
            found.busy += 1  # sessions that end are counted until they have ended
            wire.close()
            continue
        for _ in range(draw.randrange(1, 30)):
            noise = message(draw)
            wire.send(noise.data)
            found.messages += 1
            if not wire.answered(PATIENCE if noise.is_whole else 0.05):
                found.ends[wire.code or UNFINISHED] += 1
                break
        wire.close()
        if found.messages // 200 > found.scrapes:
            found.scrapes += 1
            found.dead += ask(address, "/healthz")[0] != 200
            text = ask(address, "/metrics")[1].split(b"\r\n\r\n", 1)[1].decode()
            found.wrong += not adds_up(text)
    return found


def fuzzed(address: Address, count: int, seed: int) -> Figure:
    """Noise, and then a camera that maps as if nothing had been."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        parts = list(pool.map(lambda i: fuzz(address, count // AT_ONCE, seed + i), range(AT_ONCE)))
    found = Fuzz(
        sum((part.ends for part in parts), Counter()),
        *(sum(getattr(part, name) for part in parts) for name in COUNTS),
    )
    reasons = film(address, 0, clock=10**18)
    closes = ", ".join(f"{code}: {times}" for code, times in sorted(found.ends.items()))
    return Figure(
        f"S5 {found.messages} fuzzed messages, seed {seed}",
        "0 exits, counted, mapping goes on",
        f"{found.dead} of {found.scrapes} looks bad, {found.wrong} wrong sums, "
        f"{used(reasons)} of 40 frames used after, {found.busy} sent away as busy; closed {closes}",
        not found.wrong and not found.dead and used(reasons) >= 20 and set(found.ends) <= CODES,
    )


def test_noise_ends_nothing_but_its_connections(nursery):
    life = nursery.live(max_fps=1e6)
    figure = fuzzed(life.address, FUZZED, 1)
    assert figure.holds, figure
    assert not [line for line in life.said if "Traceback" in line], life.said
    assert life.end() == 143


def figures(nursery: Nursery, messages: int = 100_000) -> list[Figure]:
    """All of them at full size."""
    found = []
    with stack() as served:
        film(served.address, 0, 10)
        for bad in BAD:
            came = becomes(served.address, bad)
            found.append(Figure(f"S5 {bad.what}", str(bad.becomes), str(came), came == bad.becomes))
    life = nursery.live(max_fps=1e6)
    found.append(fuzzed(life.address, messages, 7))
    code = life.end()
    faults = sum("Traceback" in line for line in life.said)
    found.append(
        Figure("S5 the process after it", "its own end, no fault in the log", f"{code}, {faults}",
               code == 143 and not faults)
    )  # fmt: skip
    return found
