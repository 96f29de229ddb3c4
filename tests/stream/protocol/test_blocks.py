from struct import pack as packed

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toydeltas import ToyMap, empty_delta, random_splats

from ffsplat.stream.protocol import blocks
from ffsplat.stream.protocol.blocks import (
    MAX_PART,
    Deltas,
    Joined,
    decode_delta,
    encode_delta,
    pack_delta,
)
from ffsplat.stream.protocol.document import write_document
from ffsplat.stream.protocol.errors import MALFORMED, TOO_LARGE, ProtocolError
from ffsplat.stream.protocol.header import Kind, Message, unpack

LARGE = empty_delta(9, splats=random_splats(np.random.default_rng(0), np.arange(50_000), [0], 9))


def part(index: int, count: int, size: int, piece: bytes) -> bytes:
    return packed("<III", index, count, size) + piece


def refusal(payloads, limit: int = 1 << 20) -> int:
    joined = Joined(limit)
    for payload in payloads[:-1]:
        assert joined.add(payload) is None or payload[0] + 1 == payload[4]
    with pytest.raises(ProtocolError) as caught:
        joined.add(payloads[-1])
    return caught.value.code


def test_a_large_delta_goes_in_parts_of_at_most_a_mebibyte():
    parts = encode_delta(LARGE)
    assert [len(one) <= MAX_PART for one in parts] == [True] * 3
    assert b"".join(one[12:] for one in parts) == write_document(LARGE)
    assert write_document(decode_delta(parts)) == write_document(LARGE)


def test_parts_begin_with_index_count_and_size():
    parts = encode_delta(LARGE)
    size = len(write_document(LARGE))
    assert [one[:12] for one in parts] == [packed("<III", i, 3, size) for i in range(3)]


def test_messages_of_a_delta_give_it_when_they_are_complete():
    messages = pack_delta(LARGE, Kind.SNAPSHOT)
    deltas = Deltas()
    found = [deltas.add(unpack(one, MAX_PART)) for one in messages]
    assert found[:-1] == [None, None]
    kind, delta = found[-1]
    assert kind is Kind.SNAPSHOT
    assert write_document(delta) == write_document(LARGE)
    assert deltas.add(unpack(pack_delta(empty_delta(4))[0], MAX_PART))[0] is Kind.DELTA


def test_a_delta_shrinks_on_the_wire():
    assert sum(map(len, pack_delta(LARGE))) < len(write_document(LARGE))
    assert len(pack_delta(empty_delta())[0]) < len(write_document(empty_delta())) / 2


@pytest.mark.parametrize("wrong", [[], [1, 0, 2], [0, 1], [0, 2], [1, 2], [0, 1, 2, 2]])
def test_parts_that_are_missing_or_out_of_order_are_refused(wrong):
    parts = encode_delta(LARGE)
    with pytest.raises(ProtocolError) as caught:
        decode_delta([parts[i] for i in wrong])
    assert caught.value.code == MALFORMED


@pytest.mark.parametrize(
    "payloads",
    [
        [b""],
        [part(0, 1, 0, b"")],
        [part(0, 1, 3, b"1234")],
        [part(0, 1, 5, b"1234")],
        [part(0, 0, 4, b"1234")],
        [part(0, 2, 4, b"1234")],
        [part(1, 2, 4, b"1234")],
        [part(0, 2, 4, b"12"), part(1, 2, 5, b"345")],
        [part(0, 2, 4, b"12"), part(1, 3, 4, b"34")],
        [part(0, 2, 4, b"12"), part(1, 2, 4, b"345")],
        [part(0, 2, 4, b"12"), part(1, 2, 4, b"3")],
        [part(0, 1, 4, b"1234"), part(1, 1, 4, b"1234")],
        [part(0, 1, 1 << 20, bytes(1 << 20))],
    ],
)
def test_parts_that_cannot_be_are_refused(payloads):
    assert refusal(payloads) == MALFORMED


def test_a_document_over_the_limit_is_refused_by_its_first_part():
    assert refusal([part(0, 2, 101, b"1234")], limit=100) == TOO_LARGE
    assert refusal([part(0, 2, 2**32 - 1, b"1234")], limit=1 << 40) == TOO_LARGE


def test_a_delta_over_the_limit_is_not_sent(monkeypatch):
    monkeypatch.setattr(blocks, "MAX_DOCUMENT", 1000)
    with pytest.raises(ProtocolError) as caught:
        encode_delta(LARGE)
    assert caught.value.code == TOO_LARGE


def test_a_first_part_begins_anew():
    joined = Joined()
    assert joined.add(part(0, 2, 4, b"12")) is None
    assert joined.add(part(0, 2, 6, b"abc")) is None
    assert joined.add(part(1, 2, 6, b"def")) == b"abcdef"


def test_parts_of_different_deltas_do_not_mix():
    first, second, _ = encode_delta(LARGE)
    for kind, number, time_ns in [(3, 9, 1009), (2, 8, 1009), (2, 9, 1)]:
        deltas = Deltas()
        deltas.add(Message(2, 9, 1009, first))
        with pytest.raises(ProtocolError, match="without those before"):
            deltas.add(Message(kind, number, time_ns, second))


def test_a_message_of_another_kind_is_no_delta():
    (only,) = encode_delta(empty_delta(4))
    for kind in (0, Kind.FRAME, 4, 255):
        with pytest.raises(ProtocolError, match="is no delta"):
            Deltas().add(Message(kind, 4, 1004, only))


def test_a_header_that_says_another_number_or_time_is_refused():
    (only,) = encode_delta(empty_delta(4))
    for number, time_ns in [(5, 1004), (4, 1005)]:
        with pytest.raises(ProtocolError, match="says it is 4"):
            Deltas().add(Message(Kind.DELTA, number, time_ns, only))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_changed_messages_give_a_delta_or_are_refused(seed, at, change):
    data = pack_delta(ToyMap(seed).next())[0]
    at %= len(data)
    try:
        found = Deltas().add(unpack(data[:at] + change + data[at + len(change) :], MAX_PART))
    except ProtocolError:
        return
    assert found is None or found[1].number >= 0
