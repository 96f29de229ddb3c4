"""Sessions: who is let in, and what ends them."""

import struct
import time
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from ffsplat.stream.protocol.control import (
    Ack,
    Bye,
    Flush,
    Health,
    Hello,
    Query,
)
from ffsplat.stream.protocol.frames import frame_message
from ffsplat.stream.protocol.header import COMPRESSED, HEADER, Kind, Message, pack
from tests.stream.server.standin import StandIn
from tests.stream.server.talk import PATIENCE, ask, client, frame, metric, serving

TOKEN = "a-token-of-many-letters"


def test_a_welcome_states_the_limits():
    with (
        serving(max_fps=30.0, max_frame_bytes=1 << 20) as (engine, address),
        client(address) as one,
    ):
        welcome = one.greet()
        assert (welcome.number, welcome.resumed) == (0, False)
        limits = welcome.limits
        assert (limits.max_fps, limits.max_frame_bytes, limits.max_queue) == (30, 1 << 20, 4)
        assert limits.max_pixels == engine.settings.max_megapixels * 1_000_000
        one.send(Bye())
        assert one.closed() == (1000, None)


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (dict(id=1), 4400),
        (b"FFS1" + bytes(28), 4400),
        ("", 4400),
        ("[]", 4400),
        ("{" * 1000, 4400),
        ('{"type":"hello","token":NaN}', 4400),
        ('{"type":"hello","path":"/etc/passwd"}', 4400),
        ('{"type":"bye"}', 4400),
        ("x" * 70_000, 1009),
    ],
)
def test_a_session_begins_with_a_hello_to_the_letter(first, code):
    with serving() as (_, address):
        with client(address) as one:
            one.send(Query(**first, text="chair") if isinstance(first, dict) else first)
            assert one.closed()[0] == code
        assert metric(address, 'refused_total{reason="4400"}') == (code == 4400)
        with client(address) as two:
            two.greet()


def test_who_says_nothing_is_closed():
    with serving(handshake=0.2) as (_, address), client(address) as one:
        code, error = one.closed()
        assert (code, error.retryable) == (4408, True)


@pytest.mark.parametrize("offered", [None, ["ffsplat.v2"], ["chat", "ffsplat.v2"]])
def test_another_version_of_the_protocol_is_named_as_such(offered):
    with serving() as (_, address), client(address, subprotocols=offered) as one:
        code, error = one.closed()
        assert code == error.code == 4409
        assert "ffsplat.v1" in error.message


def test_only_a_token_that_holds_lets_a_client_in(tmp_path: Path):
    file = tmp_path / "tokens"
    file.write_text(f"{TOKEN}\nold-{TOKEN} 2020-01-01\n")
    with serving(token_file=file) as (_, address):
        for wrong in ("", "wrong", f"old-{TOKEN}", TOKEN[:-1]):
            with client(address) as one:
                one.send(Hello(token=wrong))
                code, error = one.closed()
                assert (code, error.message, error.retryable) == (4401, "no valid token", False)
        with client(address) as one:
            one.greet(token=TOKEN)
        with client(address, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as one:
            one.greet()


def test_a_session_ends_with_its_token(tmp_path: Path):
    file = tmp_path / "tokens"
    end = datetime.now(UTC) + timedelta(seconds=0.6)
    file.write_text(f"{TOKEN} {end.isoformat()}")
    with serving(token_file=file, idle=0.8) as (_, address), client(address) as one:
        one.greet(token=TOKEN)
        deadline = time.monotonic() + PATIENCE
        while time.time() < end.timestamp() - 0.3 and time.monotonic() < deadline:
            one.wait_for(Health)
        one.send(Query(1, "chair"))
        assert one.closed()[0] == 4401


def test_one_session_too_many_is_sent_away_for_now():
    with serving(max_sessions=2) as (_, address):
        with client(address) as one, client(address) as two:
            one.greet()
            two.greet()
            with client(address) as three:
                three.send(Hello())
                code, error = three.closed()
                assert (code, error.retryable) == (4503, True)
            one.send(Bye())
            one.closed()
        with client(address) as four:
            four.greet()


def test_a_page_of_another_origin_opens_no_session():
    with (
        serving() as (_, address),
        pytest.raises(Exception, match="403"),
        client(address, origin="http://evil.example"),
    ):
        pass


def posed(pose: str) -> bytes:
    """A frame with this text for its pose."""
    block = f'{{"pose":[{pose}]}}'.encode()
    payload = struct.pack("<I", len(block)) + block + frame(1).image
    return pack(Message(Kind.FRAME, 1, 0, payload))


def bomb() -> bytes:
    """A frame of a megabyte of zeros, compressed."""
    packed = struct.pack("<I", 1 << 20) + zlib.compress(bytes(1 << 20))
    return HEADER.pack(
        b"FFS1", Kind.FRAME, COMPRESSED, 0, 1, 0, len(packed), zlib.crc32(packed)
    ) + (packed)


GOOD = pack(frame_message(frame(1)))

BROKEN = {
    "another checksum": GOOD[:-1] + bytes([GOOD[-1] ^ 1]),
    "another magic": b"FFS2" + GOOD[4:],
    "more than its length": GOOD + b"x",
    "unknown flags": GOOD[:5] + b"\x80" + GOOD[6:],
    "no whole header": GOOD[:20],
    "a delta": pack(Message(Kind.DELTA, 1, 0, b"x" * 20)),
    "no picture": pack(Message(Kind.FRAME, 1, 0, struct.pack("<I", 0) + b"GIF89a")),
    "a bomb": bomb(),
    "a pose that is no number": posed("NaN" + ",1" * 15),
    "a pose that is skewed": posed("2,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1"),
    "a pose that is short": posed("1,0,0,0"),
    "no JSON": "\x00" * 30,
    "a second hello": '{"type":"hello"}',
    "a long question": '{"type":"query","id":1,"text":"' + "a" * 5000 + '"}',
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_message_that_breaks_a_rule_ends_the_session_and_is_counted(kind):
    code = 4409 if kind == "another magic" else 4400
    with serving() as (engine, address):
        with client(address) as one:
            one.greet()
            one.send(BROKEN[kind])
            closed, error = one.closed()
            assert closed == error.code == code
            assert "/" not in error.message + error.hint
        assert metric(address, f'refused_total{{reason="{code}"}}') == 1
        assert not engine.offered
        assert ask(address, "/healthz")[0] == 200


def test_a_frame_that_is_too_large_is_not_read():
    with serving(max_frame_bytes=100_000) as (engine, address), client(address) as one:
        one.greet()
        one.send(pack(frame_message(frame(1, b"\xff\xd8\xff" + bytes(200_000)))))
        assert one.closed()[0] == 1009
        assert not engine.offered


def test_a_viewer_sends_no_frames():
    with serving() as (_, address), client(address) as one:
        one.greet(role="viewer")
        one.send(frame(1))
        assert one.closed()[0] == 4400


def test_too_many_frames_a_second_end_a_session():
    with serving(max_fps=3.0) as (engine, address), client(address) as one:
        one.greet(want=())
        for number in range(1, 6):
            one.send(frame(number))
        code, error = one.closed()
        assert (code, error.retryable) == (4429, True)
        assert len(engine.offered) <= 3


def test_too_many_messages_end_a_session():
    with serving(max_fps=2.0) as (_, address), client(address) as one:
        one.greet(want=())
        with suppress(ConnectionClosed):  # it may be over before all are sent
            for number in range(20):
                one.send(Flush(number))
        assert one.closed()[0] == 4429


def test_health_tells_counts_that_add_up():
    with serving() as (engine, address), client(address) as one:
        one.greet(want=("health", "ack"))
        one.send(frame(1))
        one.wait_for(Ack)
        engine.degraded = True
        health = one.wait_for(Health)
        while health.number < 1:
            health = one.wait_for(Health)
        assert health.received == health.processed + sum(health.dropped.values()) + health.queued
        assert (health.received, health.degraded, health.splats) == (1, True, 20)


def test_who_is_silent_is_closed():
    with serving(idle=0.4, ping=60.0) as (_, address), client(address) as one:
        one.greet(want=())
        assert one.closed()[0] == 4408


def test_who_answers_pings_stays():
    with serving(idle=0.6, ping=0.1) as (_, address), client(address) as one:
        one.greet(want=("health",))
        for _ in range(6):
            one.wait_for(Health)


class Freezing(StandIn):
    """Stands still once, and with it the loop that asks how it is, when it is told to."""

    frozen_for = 0.0

    @property
    def degraded(self) -> bool:
        seconds, self.frozen_for = self.frozen_for, 0.0
        time.sleep(seconds)
        return False

    @degraded.setter
    def degraded(self, value: bool) -> None:
        pass


def test_a_server_that_stood_still_closes_nobody():
    with (
        serving(engine := Freezing(), idle=0.8, ping=0.2) as (_, address),
        client(address) as one,
        client(address) as two,
    ):
        for each in (one, two):
            each.greet(want=("health",))
            each.wait_for(Health)
        engine.frozen_for = 2.0
        for each in (one, two):
            for _ in range(8):
                each.wait_for(Health)
        assert engine.frozen_for == 0


def test_a_token_that_stands_twice_in_a_request_is_none(tmp_path: Path):
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    headers = [("Authorization", f"Bearer {TOKEN}")] * 2
    with (
        serving(token_file=file) as (_, address),
        client(address, additional_headers=headers) as one,
    ):
        one.send(Hello())
        assert one.closed()[0] == 4401


def test_a_fault_of_the_server_costs_one_session(monkeypatch):
    def fail(*_):
        raise RuntimeError("what nobody expected, in /secret/place")

    with serving() as (_, address), client(address) as other:
        other.greet(want=())
        monkeypatch.setattr("ffsplat.stream.server.session.unpack", fail)
        with client(address) as one:
            one.greet(want=())
            one.send(frame(1))
            assert one.closed() == (1011, None)
        other.send(Bye())
        assert other.closed()[0] == 1000
