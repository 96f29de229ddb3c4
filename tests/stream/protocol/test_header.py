import os
import tracemalloc
import zlib
from struct import Struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffsplat.stream.protocol.errors import MALFORMED, TOO_LARGE, VERSION, ProtocolError
from ffsplat.stream.protocol.header import (
    HEADER,
    MAX_PAYLOAD,
    MAX_RATIO,
    Kind,
    Message,
    pack,
    unpack,
)

HELLO = bytes.fromhex(
    "46465331 01 00 0000 0700000000000000 40e2010000000000 05000000 86a61036".replace(" ", "")
)
"""The header of the payload `hello` of frame 7 at 123456 ns, written by hand."""


def refusal(data: bytes, limit: int = 1 << 20, **options) -> int:
    with pytest.raises(ProtocolError) as caught:
        unpack(data, limit, **options)
    return caught.value.code


def compressed(stated: int, stream: bytes) -> bytes:
    payload = Struct("<I").pack(stated) + stream
    head = HEADER.pack(b"FFS1", Kind.DELTA, 1, 0, 1, 0, len(payload), zlib.crc32(payload))
    return head + payload


def test_a_message_has_the_bytes_that_the_text_says():
    assert pack(Message(Kind.FRAME, 7, 123456, b"hello")) == HELLO + b"hello"


def test_the_header_has_32_bytes():
    assert HEADER.size == 32


@given(st.integers(0, 255), st.integers(0, 2**53 - 1), st.integers(-(2**63), 2**63 - 1))
def test_what_is_packed_comes_back(kind, number, time_ns):
    payload = os.urandom(40) + bytes(5000)
    for compress in (False, True):
        data = pack(Message(kind, number, time_ns, payload), compress)
        back = unpack(data, 10_000)
        assert (back.kind, back.number, back.time_ns) == (kind, number, time_ns)
        assert back.payload == payload
        assert (len(data) < 1000) == compress


def test_what_does_not_shrink_is_sent_as_it_is():
    payload = os.urandom(5000)
    assert pack(Message(Kind.DELTA, 1, 0, payload), True)[32:] == payload


def test_a_sender_never_inflates_by_more_than_a_receiver_takes():
    payload = bytes(MAX_PAYLOAD)
    assert len(payload) > MAX_RATIO * len(zlib.compress(payload, 1)) * 0.1
    assert unpack(pack(Message(Kind.DELTA, 1, 0, payload), True), MAX_PAYLOAD).payload == payload


@pytest.mark.parametrize(
    ("at", "value", "code"),
    [
        (0, b"FFS2", VERSION),
        (5, b"\x02", MALFORMED),
        (6, b"\x01", MALFORMED),
        (14, b"\x20", MALFORMED),  # a number of 2**53
        (15, b"\x80", MALFORMED),
        (24, b"\x04", MALFORMED),
        (24, b"\xff\xff\xff\xff", TOO_LARGE),
        (28, b"\x00", MALFORMED),
        (32, b"j", MALFORMED),
    ],
)
def test_a_changed_byte_is_refused(at, value, code):
    data = bytearray(HELLO + b"hello")
    data[at : at + len(value)] = value
    assert refusal(bytes(data)) == code


def test_cut_and_lengthened_messages_are_refused():
    whole = HELLO + b"hello"
    assert all(refusal(whole[:end]) == MALFORMED for end in range(len(whole)))
    assert refusal(whole + b"x") == MALFORMED


def test_a_payload_over_the_limit_is_refused_by_its_length():
    assert refusal(HELLO + b"hello", limit=4) == TOO_LARGE


def test_a_bomb_is_refused_by_what_it_states():
    stream = zlib.compress(bytes(1 << 22))
    assert refusal(compressed(1 << 22, stream)) == TOO_LARGE
    assert refusal(compressed(1 << 30, stream), limit=1 << 40) == TOO_LARGE
    assert refusal(compressed(1001 * 12, zlib.compress(b""))) == TOO_LARGE


def test_a_bomb_that_states_too_little_is_not_inflated():
    bomb = compressed(100, zlib.compress(bytes(1 << 26)))
    tracemalloc.start()
    assert refusal(bomb) == MALFORMED
    assert tracemalloc.get_traced_memory()[1] < 1 << 20  # of the 64 MiB that it hides
    tracemalloc.stop()


@pytest.mark.parametrize(
    "broken",
    [
        compressed(5, zlib.compress(b"hello")[:-1]),
        compressed(5, zlib.compress(b"hello") + b"x"),
        compressed(6, zlib.compress(b"hello")),
        compressed(4, zlib.compress(b"hello")),
        compressed(5, b"hello"),
        compressed(5, b""),
    ],
)
def test_a_broken_stream_is_refused(broken):
    assert refusal(broken) == MALFORMED


def test_nothing_is_inflated_where_nothing_may_be_compressed():
    data = compressed(5, zlib.compress(b"hello"))
    assert unpack(data, 100).payload == b"hello"
    assert refusal(data, inflate=False) == MALFORMED


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_are_refused_and_nothing_else(noise, headed):
    data = (HELLO[:5] + noise) if headed else noise
    with pytest.raises(ProtocolError):
        unpack(data, 1000)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 8 * 100 - 1), st.booleans())
def test_a_flipped_bit_of_a_payload_is_refused(bit, compress):
    data = bytearray(pack(Message(Kind.DELTA, 9, 9, bytes(range(256)) * 8), compress))
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    try:
        back = unpack(bytes(data), 1 << 20)
    except ProtocolError:
        return
    assert 4 <= bit // 8 < 24  # kind, flag, number and time are not covered by the checksum
    assert bit == 40 or back.payload == bytes(range(256)) * 8
