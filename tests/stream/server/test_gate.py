"""The door: who has a place, and who makes room."""

import time
from pathlib import Path
from typing import Any

import pytest

from ffsplat.stream.server.gate import Door, network_of
from tests.stream.server.talk import PATIENCE, answer, ask, client, metric, raw, serving


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_flood_of_connections_is_capped_and_leaves_nothing_behind():
    with serving(max_connections=20, handshake=30.0) as (_, address):
        ask(address, "/healthz")
        before = open_files()
        flood = [raw(address) for _ in range(150)]
        for connection in flood[-20:]:
            connection.sendall(b"GET / HTTP/1.1\r\n")
        assert [answer(connection) for connection in flood[:130]] == [b""] * 130
        assert open_files() <= before + 150 + 20 + 5
        assert ask(address, "/healthz")[0] == 200
        assert metric(address, "connections") <= 20
        assert metric(address, "displaced_total") >= 130
        for connection in flood:
            connection.close()
        deadline = time.monotonic() + PATIENCE
        while open_files() > before + 5 and time.monotonic() < deadline:
            ask(address, "/healthz")
        assert open_files() <= before + 5


def test_silence_holds_a_place_only_until_somebody_wants_it():
    with (
        serving(max_connections=8, max_sessions=2, handshake=600.0) as (engine, address),
        client(address) as first,
    ):
        first.greet(want=("delta",))
        silent = [raw(address) for _ in range(30)]
        with client(address) as second:
            second.greet(want=("delta",))
            silent += [raw(address) for _ in range(30)]
            assert [answer(one) for one in silent[:-6]] == [b""] * 54
            engine.publish()
            first.follow(1)
            second.follow(1)
            silent[-1].sendall(f"GET /healthz HTTP/1.1\r\nHost: {address.host}\r\n\r\n".encode())
            assert b"200 OK" in answer(silent[-1])
        for one in silent:
            one.close()


def test_no_place_is_left_when_sessions_have_all():
    with (
        serving(max_connections=2, max_sessions=2) as (_, address),
        client(address) as first,
        client(address) as second,
    ):
        first.greet(want=())
        second.greet(want=())
        assert ask(address, "/healthz")[0] == 503


class Guest:
    """A connection as the door sees it."""

    def __init__(self, network: str, began: float, is_stranger: bool = True):
        self.network, self.began, self.is_stranger = network, began, is_stranger
        self.transport, self.is_cut = self, False

    def abort(self) -> None:
        self.is_cut = True


def test_a_crowd_drives_out_no_one_but_itself():
    known, old = Guest("10.0.0.1", 0.0, is_stranger=False), Guest("10.0.0.2", 1.0)
    crowd = [Guest("10.0.0.3", 10.0 - i) for i in range(4)]
    guests: Any = {known, old, *crowd}
    door = Door(6, 1000, gates=guests)
    assert door.make_room()
    assert [one.is_cut for one in (known, old, *crowd)] == [False] * 5 + [True]
    assert door.make_room()
    assert len(door.gates) == 5
    guests = {known}
    assert not Door(1, 1000, gates=guests).make_room()


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (("10.0.0.1", 80), "10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 80, 0, 0), "2001:0db8:0001:0002"),
        (("::ffff:10.0.0.1", 80, 0, 0), "10.0.0.1"),
        (None, ""),
        ("/run/socket", "/"),
    ],
)
def test_whose_an_address_is(address, network):
    assert network_of(address) == network
