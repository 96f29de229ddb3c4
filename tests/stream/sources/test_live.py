"""Cameras that do not wait: the newest picture, connections that break, and an end in any case."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from ffsplat.errors import StreamError
from ffsplat.stream.sources.container import Picture
from ffsplat.stream.sources.live import LiveSource


class Shown(Picture):
    """A picture that is a number."""

    def pixels(self) -> np.ndarray:
        return np.full((2, 2, 3), self.frame, np.uint8)


class Script:
    """A connection that gives pictures, waits for events, and breaks off as it is told."""

    def __init__(self, *steps: int | threading.Event | Exception):
        self.steps, self.closed = steps, False

    def __iter__(self) -> Iterator[Shown]:
        for step in self.steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, threading.Event):
                assert step.wait(10)
            else:
                yield Shown(step, None)

    def close(self) -> None:
        self.closed = True


def live(*connections: Script | Exception, waits=(0.0, 0.0)) -> LiveSource:
    """A source that connects to one after the other."""
    waiting = iter(connections)

    def connect() -> Script:
        connection = next(waiting)
        if isinstance(connection, Exception):
            raise connection
        return connection

    return LiveSource("camera", connect, waits=waits)


def shown(frame) -> int:
    return int(frame.image[0, 0, 0])


def test_a_first_connection_that_fails_is_an_error_at_once():
    with pytest.raises(StreamError, match=r"^refused$"):
        live(StreamError("refused"))


def test_only_the_newest_picture_is_kept():
    read, go_on = threading.Event(), threading.Event()

    class Watched(Script):
        def __iter__(self):
            yield from (Shown(number, None) for number in range(1, 8))
            read.set()
            go_on.wait(10)

    with live(Watched()) as source:
        assert read.wait(10)
        frame = next(iter(source))
        go_on.set()
    assert (shown(frame), frame.number) == (7, 6)
    assert (source.arrived, source.missed) == (7, 6)


def test_times_and_numbers_rise():
    gates = [threading.Event() for _ in range(3)]
    script = Script(1, gates[0], 2, gates[1], 3, gates[2])
    frames = []
    with live(script) as source:
        for frame, gate in zip(source, gates, strict=False):
            frames.append(frame)
            gate.set()
            if len(frames) == 3:
                break
    assert [shown(frame) for frame in frames] == [1, 2, 3]
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert frames[0].time_ns <= frames[1].time_ns <= frames[2].time_ns


def test_a_broken_connection_is_made_again():
    gate = threading.Event()
    first, second = Script(1, gate, StreamError("cut")), Script(2, threading.Event())
    with live(first, StreamError("not yet"), second) as source:
        frames = iter(source)
        assert shown(next(frames)) == 1
        gate.set()
        frame = next(frames)
        second.steps[1].set()
    assert (shown(frame), frame.number) == (2, 1)
    assert first.closed


def test_a_camera_that_stays_away_is_lost_after_the_last_attempt():
    gone = [StreamError("no route")] * 2
    source = live(Script(StreamError("cut")), *gone)
    with pytest.raises(StreamError) as caught:
        list(source)
    assert str(caught.value) == "camera is lost after 2 attempts to connect again: no route"


def test_connections_that_bring_no_picture_are_attempts_too():
    source = live(Script(), Script(), Script())
    with pytest.raises(StreamError, match="2 attempts to connect again: it ended"):
        list(source)


def test_a_picture_begins_the_row_of_attempts_anew():
    many = [Script(number) for number in range(10)]
    source = live(*many, StreamError("off"), StreamError("off"), waits=(0.0, 0.0))
    with pytest.raises(StreamError, match="2 attempts"):
        list(source)
    assert source.arrived == 10


def test_closing_wakes_who_waits_for_a_picture():
    gate = threading.Event()
    source = live(Script(gate))
    ended = threading.Event()

    def consume() -> None:
        assert list(source) == []
        ended.set()

    thread = threading.Thread(target=consume)
    thread.start()
    source._closed.set()
    gate.set()
    source.close()
    source.close()
    assert ended.wait(10)
    thread.join()


def test_closing_ends_the_wait_between_attempts():
    source = live(Script(), waits=(1000.0,))
    source.close()
    assert not source._thread.is_alive()
    assert list(source) == []


def test_what_is_no_stream_error_reaches_the_caller_too():
    with pytest.raises(ZeroDivisionError):
        list(live(Script(ZeroDivisionError())))
