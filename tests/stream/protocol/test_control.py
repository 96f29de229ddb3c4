import json
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffsplat.stream.protocol.control import (
    Ack,
    Bye,
    Error,
    Flush,
    Flushed,
    FoundHit,
    FrameAck,
    Health,
    Hello,
    Hits,
    Limits,
    Pose,
    Query,
    Resume,
    Welcome,
    dump,
    parse_client,
    parse_server,
)
from ffsplat.stream.protocol.errors import MALFORMED, TOO_LARGE, ProtocolError
from ffsplat.stream.protocol.fields import MAX_JSON, read_object

FROM_CLIENT = [
    Hello(),
    Hello("secret", "viewer", "latest", ("delta", "health"), Resume("kitchen", 17)),
    Hello(want=()),
    Query(3, "red chair"),
    Query(2**53 - 1, "stuhl ü", 5, 0.25),
    Flush(0),
    Bye(),
]

FROM_SERVER = [
    Welcome("s1", "kitchen", 12, True, Limits(1 << 23, 64_000_000, 60.0, 4, 30.0)),
    Ack((FrameAck(1, True, "keyframe", {"decode": 1.5}), FrameAck(2, False, "queue_full"))),
    Pose(4, 1_800_000_000_000_000_001, 2, tuple(float(i % 5 == 0) for i in range(16))),
    Pose(5, -(2**63), 0, tuple(float(i % 5 == 0) for i in range(16))),
    Hits(3, 12, (FoundHit("chair", 4, 0.9, 120, (0.0, 1.0, 2.0), (-1.0, 0.0, 1.0), (1.0,) * 3),)),
    Hits(4, 12, ()),
    Hits(5, 12, (FoundHit("cup", -1, 0.5, 4, (0.0,) * 3, (0.0,) * 3, (0.0,) * 3, "BQOkAgE="),)),
    Flushed(1, 9),
    Health(10, 7, {"blurred": 1}, 2, False, 12, 1, 4000),
    Health(10, 7, {}, 3, False, 12, 1, 4000, {"network": 20.5, "total": 31.0}),
    Error(4429, "too many frames", "send fewer", True, 500),
    Error(4422, "no word 'xyzzy'", id=3),
]


def refusal(text: str | bytes) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        parse_client(text)
    return caught.value


@pytest.mark.parametrize("message", FROM_CLIENT, ids=repr)
def test_a_client_message_comes_back(message):
    assert parse_client(dump(message)) == message
    assert parse_client(dump(message).encode()) == message


@pytest.mark.parametrize("message", FROM_SERVER, ids=repr)
def test_a_server_message_comes_back(message):
    assert parse_server(dump(message)) == message


def test_messages_look_as_the_text_says():
    assert dump(Query(3, "red chair")) == (
        '{"type":"query","id":3,"text":"red chair","max_hits":20}'
    )
    assert json.loads(dump(FROM_CLIENT[1])) == {
        "type": "hello",
        "token": "secret",
        "role": "viewer",
        "drop": "latest",
        "want": ["delta", "health"],
        "resume_from": {"map": "kitchen", "number": 17},
    }


def test_a_client_may_leave_out_all_but_the_type():
    assert parse_client('{"type": "hello"}') == Hello()
    assert Hello().want == ("delta", "pose", "ack", "health")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "null",
        "{}",
        '{"type": 1}',
        '{"type": "welcome"}',
        '{"type": "hello", "token": 1}',
        '{"type": "hello", "token": null}',
        '{"type": "hello", "resume_form": {}}',
        '{"type": "hello", "role": "admin"}',
        '{"type": "hello", "drop": ["latest"]}',
        '{"type": "hello", "want": "delta"}',
        '{"type": "hello", "want": [{}]}',
        '{"type": "hello", "resume_from": {"map": "m", "number": -1}}',
        '{"type": "hello", "resume_from": {"map": "m", "number": 1.0}}',
        '{"type": "hello", "resume_from": {"map": "m", "number": 1, "x": 1}}',
        '{"type": "hello", "resume_from": {"map": "m"}}',
        '{"type": "hello", "token": "\\ud800"}',
        '{"type": "hello", "type": "bye"}',
        '{"type": "query", "id": true, "text": "a"}',
        '{"type": "query", "id": 9007199254740992, "text": "a"}',
        '{"type": "query", "id": 1, "text": "' + 257 * "a" + '"}',
        '{"type": "query", "id": 1, "text": "a", "threshold": NaN}',
        '{"type": "query", "id": 1, "text": "a", "threshold": -Infinity}',
        '{"type": "query", "id": 1, "text": "a", "threshold": 1e999}',
        '{"type": "query", "id": 1, "text": "a", "threshold": ' + 5000 * "1" + "}",
        '{"type": "query", "id": 1, "text": "a", "threshold": ' + 400 * "1" + "}",
        '{"type": "query", "id": 1, "text": "a", "max_hits": 101}',
        '{"type": "flush"}',
        '{"type": "bye", "now": true}',
        b'{"type": "bye", "\xff": 1}',
    ],
)
def test_what_is_not_to_the_letter_is_refused(text):
    assert refusal(text).code == MALFORMED


def test_long_texts_are_refused_before_they_are_read():
    assert refusal('{"type": "' + "a" * MAX_JSON + '"}').code == TOO_LARGE
    assert refusal('{"type": "' + "ü" * (MAX_JSON // 2) + '"}').code == TOO_LARGE


@pytest.mark.parametrize(
    "text",
    [
        "[" * MAX_JSON,
        '{"a":' * 10_000,
        '"' + '\\"' * 30_000,
        '\\"' * 30_000,
        '"' * 60_000,
        "[" + '"[",' * 10_000,
        "9" * 60_000,
        "[" + "1e9," * 10_000,
    ],
)
def test_no_text_takes_long(text):
    start = time.process_time()
    assert refusal(text).code == MALFORMED
    assert time.process_time() - start < 1


def test_brackets_within_strings_do_not_nest():
    assert parse_client('{"type": "query", "id": 1, "text": "[[[[[\\"[[[[[[{{{"}')
    assert read_object('{"a": [[[[[[[1]]]]]]]}')
    with pytest.raises(ProtocolError, match="deeper"):
        read_object('{"a": [[[[[[[[1]]]]]]]]}')


def test_a_client_passes_over_what_later_servers_say():
    assert parse_server('{"type": "flushed", "id": 1, "number": 2, "new": []}') == Flushed(1, 2)
    assert parse_server('{"type": "weather"}') is None


def test_a_client_refuses_a_broken_server():
    for text in ('{"type": "flushed"}', '{"type": "pose", "pose": [1]}', '{"type": "welcome"}'):
        with pytest.raises(ProtocolError):
            parse_server(text)


def test_numbers_that_are_not_finite_are_not_sent():
    with pytest.raises(ValueError, match="JSON"):
        dump(Query(1, "a", threshold=float("nan")))


def test_a_reason_fits_a_close_frame():
    error = ProtocolError(MALFORMED, "ü\n" * 100)
    assert len(error.reason.encode()) <= 123
    assert error.reason.isascii()
    assert error.reason.isprintable()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_json_is_parsed_or_refused(data):
    message = data.draw(st.sampled_from(FROM_CLIENT + FROM_SERVER))
    values = json.loads(dump(message))
    for name in data.draw(st.lists(st.sampled_from([*sorted(values), "x"]), max_size=3)):
        values[name] = data.draw(VALUES)
    text = json.dumps(values)
    for parse in (parse_client, parse_server):
        with suppress(ProtocolError):
            parse(text)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300))
def test_random_texts_are_refused(noise):
    assert refusal(noise).code == MALFORMED


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FROM_CLIENT), st.integers(0, 400), st.binary(max_size=3))
def test_changed_texts_are_parsed_or_refused(message, at, noise):
    text = dump(message).encode()
    at %= len(text)
    with suppress(ProtocolError):
        parse_client(text[:at] + noise + text[at + len(noise) :])
