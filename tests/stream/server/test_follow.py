"""The map on its way to clients: early, late, back again and slow."""

import threading
import time

from ffsplat.stream.protocol.blocks import encode_delta
from ffsplat.stream.protocol.control import Flush, Flushed, Resume
from ffsplat.stream.replica.replica import Replica
from tests.stream.server.standin import StandIn, make_delta
from tests.stream.server.talk import PATIENCE, ask, client, metric, same_map, serving


def truth(number: int, splats: int = 20) -> Replica:
    """The map after so many deltas, without any server."""
    replica = Replica()
    for i in range(number):
        replica.apply(make_delta(i + 1, splats))
    return replica


def test_an_early_client_gets_every_delta_and_no_snapshot():
    with serving() as (engine, address), client(address) as one:
        one.greet()
        engine.publish(20)
        one.follow(20)
        assert one.snapshots == 0
        assert same_map(one.map, truth(20))


def test_a_late_client_gets_a_snapshot_and_then_deltas():
    with serving() as (engine, address):
        engine.publish(10)
        with client(address) as one:
            assert one.greet().number <= 10
            one.follow(10)
            engine.publish(10)
            one.follow(20)
            assert one.snapshots == 1
            assert encode_delta(one.map.snapshot()) == encode_delta(truth(20).snapshot())


def test_a_client_that_comes_back_gets_what_it_missed():
    with serving() as (engine, address):
        with client(address) as one:
            name = one.greet().map
            engine.publish(5)
            one.follow(5)
        engine.publish(4)
        with client(address) as other:  # all nine are out by now
            other.greet()
            other.follow(9)
        with client(address) as two:
            two.map = one.map
            began = time.monotonic()
            welcome = two.greet(resume_from=Resume(name, 5))
            two.follow(9)
            assert time.monotonic() - began < 1
            assert welcome.resumed
            assert two.snapshots == 0
            assert same_map(two.map, truth(9))
        with client(address) as three:
            assert three.greet(resume_from=Resume(name, 9)).resumed
            engine.publish()
            three.map = two.map
            three.follow(10)
            assert three.snapshots == 0


def test_who_is_too_far_behind_or_of_another_map_gets_a_snapshot():
    with serving(max_ring_bytes=10_000) as (engine, address):
        with client(address) as one:
            name = one.greet().map
            engine.publish(30)
            one.follow(30)
        for resume in (Resume(name, 3), Resume("another", 29), Resume(name, 50)):
            with client(address) as two:
                assert not two.greet(resume_from=resume).resumed
                two.follow(30)
                assert two.snapshots == 1
                assert same_map(two.map, truth(30))
        assert 0 < metric(address, "ring_bytes") <= 10_000


def test_who_wants_no_map_gets_none():
    with serving() as (engine, address), client(address) as one:
        one.greet(want=())
        engine.publish(3)
        one.send(Flush(1))
        assert one.receive() == Flushed(1, 3)


def test_a_slow_reader_costs_little_and_catches_up_with_a_snapshot():
    size = 5000  # splats a delta: about 200 kB on the wire
    with (
        serving(StandIn(splats=size), max_behind_bytes=1 << 20, max_ring_bytes=4 << 20) as (
            engine,
            address,
        ),
        client(address, max_queue=1) as slow,
        client(address) as quick,
    ):
        slow.greet(want=("delta",))
        quick.greet(want=("delta",))
        for number in range(1, 101):
            engine.publish()
            quick.follow(number)
        assert quick.snapshots == 0
        assert metric(address, "ring_bytes") <= 4 << 20
        assert metric(address, "deltas_sent_total") < 200
        slow.follow(100)
        assert slow.snapshots >= 1
        assert metric(address, "deltas_skipped_total") > 0
        assert same_map(slow.map, truth(100, size))
        assert same_map(slow.map, quick.map)


def test_who_never_reads_is_closed():
    with (
        serving(StandIn(splats=20_000), idle=0.5, ping=0.1) as (engine, address),
        client(address, max_queue=1) as one,
    ):
        one.greet(want=("delta",))
        deadline = time.monotonic() + PATIENCE
        while metric(address, "sessions") and time.monotonic() < deadline:
            engine.publish()
        assert metric(address, "sessions") == 0
        assert metric(address, 'refused_total{reason="4408"}') == 1


def test_many_clients_at_once_end_with_the_same_map():
    with serving() as (engine, address):
        maps: list[Replica] = []

        def follow(late: threading.Event) -> None:
            assert late.wait(PATIENCE)
            with client(address) as one:
                one.greet()
                one.follow(60)
                maps.append(one.map)

        starts = [threading.Event() for _ in range(6)]
        threads = [threading.Thread(target=follow, args=(start,)) for start in starts]
        for thread in threads:
            thread.start()
        for start in starts:
            start.set()
            engine.publish(10)
        for thread in threads:
            thread.join(PATIENCE)
        assert len(maps) == 6
        assert all(same_map(one, truth(60)) for one in maps)


def test_a_delta_that_does_not_fit_is_a_reason_to_restart():
    with serving() as (engine, address), client(address) as one:
        one.greet()
        engine.publish()
        one.follow(1)
        engine.number = 7
        engine.publish()
        deadline = time.monotonic() + PATIENCE
        while ask(address, "/healthz")[0] == 200 and time.monotonic() < deadline:
            pass
        assert ask(address, "/healthz")[0] == 503
        assert metric(address, "map_delta") == 1
