"""One camera makes a map: who has its place, who is left out, and who comes back."""

import threading

import pytest

from ffsplat.stream.protocol.control import Ack, Flush, Flushed, Health, Hello
from ffsplat.stream.protocol.frames import frame_message
from ffsplat.stream.protocol.header import pack
from ffsplat.stream.server.intake import UNSEATED
from tests.stream.safety.wire import BINARY, Wire, framed
from tests.stream.server.standin import StandIn
from tests.stream.server.talk import PATIENCE, client, frame, metric, serving


def reasons(one, *numbers):
    """Send frames, and hear why each was used or not."""
    for number in numbers:
        one.send(frame(number))
        yield from (ack.reason for ack in one.wait_for(Ack).frames)


def test_frames_of_a_second_camera_are_left_out_until_the_first_goes():
    with serving() as (engine, address), client(address) as two:
        two.greet(want=("ack",))
        with client(address) as one:
            one.greet(want=("ack",))
            assert [*reasons(one, 0), *reasons(two, 0, 1), *reasons(one, 1)] == [
                "keyframe", UNSEATED, UNSEATED, "keyframe",
            ]  # fmt: skip
            two.send(Flush(3))
            assert two.wait_for(Flushed).number == 2
            assert metric(address, "unseated_frames_total") == 2
        assert list(reasons(two, 2)) == ["keyframe"]
        assert [f.number for f in engine.offered] == [0, 1, 2]
        assert engine.counters().received == 3


def test_who_sends_no_frames_has_no_place():
    with serving() as (_, address), client(address) as one, client(address) as two:
        one.greet(want=("health",), drop="block")
        one.wait_for(Health)
        two.greet(want=("ack",))
        assert list(reasons(two, 0)) == ["keyframe"]


def test_a_server_with_a_source_of_its_own_takes_no_frames():
    with serving(takes_frames=False) as (engine, address), client(address) as one:
        one.greet(want=("ack",))
        assert list(reasons(one, 0, 1)) == [UNSEATED, UNSEATED]
        assert not engine.offered


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("ffsplat.stream.server.seat.SIGN_OF_LIFE", 0.3)
    monkeypatch.setattr("ffsplat.stream.server.seat.RECENT", 0.0)


def test_a_connection_that_broke_off_unnoticed_loses_the_place(quick):
    with serving() as (engine, address), client(address) as one:
        dead = Wire.open(address, Hello(want=()))
        dead.send(framed(pack(frame_message(frame(7))), BINARY))
        assert engine.came.acquire(timeout=PATIENCE)
        one.greet(want=("ack",))  # `dead` answers no ping
        assert list(reasons(one, 8)) == ["keyframe"]
        assert not dead.answered()


def test_a_camera_that_sends_keeps_the_place_though_it_answers_no_ping(quick):
    with serving() as (engine, address), client(address) as one:
        busy, end = Wire.open(address, Hello(want=())), threading.Event()

        def film() -> None:
            number = 0
            while not end.wait(0.05):
                busy.send(framed(pack(frame_message(frame(number))), BINARY))
                number += 1

        camera = threading.Thread(target=film)
        camera.start()
        assert engine.came.acquire(timeout=PATIENCE)
        one.greet(want=("ack",))
        found = list(reasons(one, 0, 1))
        end.set()
        camera.join()
        assert found == [UNSEATED, UNSEATED]
        assert busy.answered()


def test_a_camera_that_was_just_heard_is_not_asked(monkeypatch):
    monkeypatch.setattr("ffsplat.stream.server.seat.RECENT", PATIENCE)
    pings = []
    monkeypatch.setattr("ffsplat.stream.server.gate.Gate.ping", pings.append)
    with serving() as (_, address), client(address) as one, client(address) as two:
        one.greet(want=("ack",))
        two.greet(want=("ack",))
        assert list(reasons(one, 0)) == ["keyframe"]
        assert list(reasons(two, *range(20))) == [UNSEATED] * 20
    assert not pings


def test_of_many_that_want_a_free_place_one_gets_it(quick):
    with serving(StandIn()) as (engine, address):
        dead = Wire.open(address, Hello(want=()))
        dead.send(framed(pack(frame_message(frame(7))), BINARY))
        assert engine.came.acquire(timeout=PATIENCE)
        with client(address) as one, client(address) as two, client(address) as three:
            some = one, two, three
            for each in some:
                each.greet(want=("ack",))
                each.send(frame(1))
            found = [each.wait_for(Ack).frames[0].reason for each in some]
        assert sorted(found) == ["keyframe", UNSEATED, UNSEATED]
