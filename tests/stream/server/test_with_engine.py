"""The server with the real engine, and a mapper that knows no network."""

import asyncio
import io
import threading
import time
from itertools import count

import numpy as np
import pytest
from PIL import Image

from ffsplat.stream.client import Client
from ffsplat.stream.engine.engine import Engine, EngineSettings
from ffsplat.stream.frame import Verdict
from ffsplat.stream.protocol.control import Ack, Flush, Flushed, Health, Hits, Query
from ffsplat.stream.protocol.errors import ProtocolError
from ffsplat.stream.server.serve import ServerThread
from ffsplat.stream.server.settings import ServerSettings
from tests.stream.server.standin import make_delta
from tests.stream.server.talk import PATIENCE, ask, client, frame, same_map


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((160, 120)).save(file, "JPEG")
    return file.getvalue()


class Mapper:
    """Makes a keyframe of each frame, when `gate` is open."""

    epoch = 0
    resolution = 64

    def __init__(self):
        self.seen: list[int | None] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.told = 0

    def add(self, image, time_ns=None, pose=None, intrinsics=None, *, number=None, **_):
        self.seen.append(number)
        self.entered.release()
        assert self.gate.wait(PATIENCE)
        return Verdict(number or 0, "keyframe", np.eye(4), {"network": 0.001})

    def take_delta(self):
        if self.told == len(self.seen):
            return None
        self.told += 1
        return make_delta(self.told)

    def save(self, path):
        raise NotImplementedError


@pytest.fixture
def running():
    """A mapper, its engine and the address of its server."""
    mapper = Mapper()
    engine = Engine(mapper, EngineSettings(drop="block", publish_s=0.0))
    engine.start()
    with ServerThread(engine, settings=ServerSettings(port=0, drain=3.0)) as server:
        yield mapper, engine, server.address


def test_frames_become_a_map_that_can_be_asked(running):
    mapper, _, address = running
    with client(address) as one, client(address) as other:
        one.greet()
        other.greet(role="viewer")
        for number in range(1, 9):
            one.send(frame(number, jpeg(number)))
            ack = one.wait_for(Ack).frames
            assert [(a.seq, a.reason) for a in ack] == [(number, "keyframe")]
            assert {"decode", "queue", "network"} <= ack[0].milliseconds.keys()
        one.send(Flush(1))
        number = one.wait_for(Flushed).number
        assert one.map.number == number
        other.follow(number)
        assert same_map(one.map, other.map)
        one.send(Query(2, "chair"))
        assert one.wait_for(Hits).hits[0].name == "chair"
        assert mapper.seen == list(range(1, 9))


def test_counts_add_up_while_frames_wait(running):
    mapper, engine, address = running
    mapper.gate.clear()
    with client(address) as one:
        one.greet()
        for number in (1, 2, 3):
            one.send(frame(number, jpeg(number)))
        one.send(frame(4, b"\xff\xd8\xff but no picture"))
        assert mapper.entered.acquire(timeout=PATIENCE)
        health = one.wait_for(Health)
        assert health.received == health.processed + sum(health.dropped.values()) + health.queued
        mapper.gate.set()
        acks = []
        while len(acks) < 4:
            acks += one.wait_for(Ack).frames
        assert {a.seq: a.reason for a in acks} == {
            1: "keyframe", 2: "keyframe", 3: "keyframe", 4: "undecodable",
        }  # fmt: skip
        assert engine.counters().balanced
    assert b"ffsplat" in ask(address, "/metrics")[1]


def test_waiting_frames_of_a_client_that_left_do_not_reach_the_mapper(running):
    mapper, engine, address = running
    mapper.gate.clear()
    with client(address) as one:
        one.greet()
        for number in (1, 2, 3, 4):
            one.send(frame(number, jpeg(number)))
        assert mapper.entered.acquire(timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while engine.counters().received < 4 and time.monotonic() < deadline:
            one.wait_for(Health)
    while b"ffsplat_server_sessions 0" not in ask(address, "/metrics")[1]:
        assert time.monotonic() < deadline
    mapper.gate.set()
    assert engine.flush(PATIENCE)
    counters = engine.counters()
    assert mapper.seen == [1]
    assert counters.dropped["shutdown"] == 3
    assert counters.balanced


def test_an_engine_that_ends_is_told_by_health(running):
    _, engine, address = running
    engine.stop(PATIENCE)
    assert ask(address, "/healthz")[0] == 503
    assert ask(address, "/readyz")[0] == 503


def test_under_latest_the_engine_loses_the_oldest_that_wait():
    mapper = Mapper()
    mapper.gate.clear()
    engine = Engine(mapper, EngineSettings(drop="latest", queue=2, publish_s=0.0))
    engine.start()
    with (
        ServerThread(engine, settings=ServerSettings(port=0, drain=3.0)) as server,
        client(server.address) as one,
    ):
        assert one.greet(want=("ack",)).limits.max_queue == 2
        one.send(frame(1, jpeg(1)))
        assert mapper.entered.acquire(timeout=PATIENCE)
        for number in range(2, 11):
            one.send(frame(number, jpeg(number)))
        lost = []
        while len(lost) < 7:
            lost += one.wait_for(Ack).frames
        assert {a.reason for a in lost} == {"queue_full"}
        mapper.gate.set()
        one.send(Flush(1))
        one.wait_for(Flushed)
        assert mapper.seen == [1, 9, 10]


def test_the_client_of_this_package_sends_asks_and_comes_back_after_a_cut(running):
    _, _, address = running

    async def talk() -> None:
        async with asyncio.timeout(PATIENCE), Client(address.stream, patience=PATIENCE) as one:
            for number in range(3):
                await one.send_frame(jpeg(number), time_ns=1_000_000 * (number + 1))
            number = await one.flush()
            assert one.replica.number == number
            hits = await one.query("chair")
            assert hits.hits[0].name == "chair"
            with pytest.raises(ProtocolError, match="unknown"):
                await one.query("chxir")
            before = one.replica.number
            assert one._connection is not None
            one._connection.transport.abort()
            for number in count(3):
                await one.send_frame(jpeg(number), time_ns=1_000_000 * (number + 1))
                if await one.flush() > before:
                    break

    asyncio.run(talk())


def test_nothing_is_lost_to_a_client_that_asks_for_that_and_waits_for_verdicts():
    mapper = Mapper()
    engine = Engine(mapper, EngineSettings(drop="latest", queue=2, publish_s=0.0))
    engine.start()
    with (
        ServerThread(engine, settings=ServerSettings(port=0, drain=3.0, max_fps=500.0)) as server,
        client(server.address) as one,
    ):
        room = one.greet(want=("ack",), drop="block").limits.max_queue
        acks = []
        for number in range(40):
            while number - len(acks) >= room:
                acks += one.wait_for(Ack).frames
            one.send(frame(number, jpeg(number % 5)))
        while len(acks) < 40:
            acks += one.wait_for(Ack).frames
        assert {a.reason for a in acks} == {"keyframe"}
        assert mapper.seen == list(range(40))
