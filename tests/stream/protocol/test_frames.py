import io
import json
from contextlib import suppress
from struct import pack

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ffsplat.stream.frame import Frame
from ffsplat.stream.protocol.errors import MALFORMED, TOO_LARGE, ProtocolError
from ffsplat.stream.protocol.frames import frame_message, read_frame
from ffsplat.stream.protocol.header import Kind, Message

JPEG = b"\xff\xd8\xff\xe0 and so on"
INTRINSICS = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])
POSE = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])


def message(meta: str, image: bytes = JPEG) -> Message:
    block = meta.encode()
    return Message(Kind.FRAME, 1, 2, pack("<I", len(block)) + block + image)


def refusal(broken: Message) -> int:
    with pytest.raises(ProtocolError) as caught:
        read_frame(broken)
    return caught.value.code


def pose_meta(pose: np.ndarray) -> str:
    return json.dumps({"pose": pose.ravel().tolist()})


def test_a_frame_has_the_bytes_that_the_text_says():
    sent = frame_message(Frame(JPEG, 5, 7, intrinsics=INTRINSICS))
    block = b'{"intrinsics":[500.0,510.0,320.0,240.0]}'
    assert sent.payload == pack("<I", len(block)) + block + JPEG
    assert (sent.kind, sent.number, sent.time_ns) == (Kind.FRAME, 7, 5)
    assert frame_message(Frame(JPEG, 5, 7)).payload == bytes(4) + JPEG


def test_a_frame_comes_back_with_its_camera():
    back = read_frame(frame_message(Frame(JPEG, -5, 7, POSE, INTRINSICS)))
    assert (back.image, back.time_ns, back.number) == (JPEG, -5, 7)
    assert np.array_equal(back.pose, POSE)
    assert np.array_equal(back.intrinsics, INTRINSICS)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_pictures_of_the_three_formats_are_known_by_their_first_bytes(name):
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, name)
    assert read_frame(message("", file.getvalue())).image == file.getvalue()


@pytest.mark.parametrize(
    "image", [b"", b"GIF89a", b"%PDF", b"\xff\xd8", b"RIFF1234WAVE", b"\x89PNG"]
)
def test_other_pictures_are_refused(image):
    assert refusal(message("", image)) == MALFORMED


@pytest.mark.parametrize(
    "meta",
    [
        "[]",
        "{",
        '{"name": "x"}',
        '{"intrinsics": null}',
        '{"intrinsics": [500, 500, 320]}',
        '{"intrinsics": [[500, 0, 320], [0, 500, 240], [0, 0, 1]]}',
        '{"intrinsics": [0, 500, 320, 240]}',
        '{"intrinsics": [-500, 500, 320, 240]}',
        '{"intrinsics": [500, 500, 1e7, 240]}',
        '{"intrinsics": [500, NaN, 320, 240]}',
        '{"intrinsics": ["500", 500, 320, 240]}',
        '{"intrinsics": [true, 500, 320, 240]}',
        '{"pose": [1, 0, 0, 0]}',
        pose_meta(np.zeros((4, 4))),
        pose_meta(np.diag([1.0, 1, -1, 1])),
        pose_meta(np.diag([2.0, 2, 2, 1])),
        pose_meta(np.diag([1.002, 1, 1, 1])),
        pose_meta(np.diag([1.0, 1, 1, 2])),
        pose_meta(np.diag([1e300, 1, 1, 1])),
        pose_meta(POSE.T),
        pose_meta(POSE * np.array([1, 1, 1, np.inf])),
        pose_meta(POSE * np.array([1, 1, 1, 1e12])),
    ],
)
def test_cameras_that_cannot_be_are_refused(meta):
    assert refusal(message(meta)) == MALFORMED


def test_a_pose_may_be_rounded():
    assert read_frame(message(pose_meta(np.round(POSE + 3e-4 * np.eye(4, k=1), 4)[:4]))) is not None


def test_a_payload_that_is_cut_off_is_refused():
    whole = frame_message(Frame(JPEG, 5, 7, POSE, INTRINSICS)).payload
    end = len(whole) - len(JPEG) + 3
    for length in range(end):
        assert refusal(Message(Kind.FRAME, 1, 2, whole[:length])) == MALFORMED


def test_long_notes_are_refused_before_they_are_read():
    assert refusal(Message(Kind.FRAME, 1, 2, pack("<I", 4097) + JPEG)) == TOO_LARGE
    assert refusal(Message(Kind.FRAME, 1, 2, pack("<I", 2**32 - 1) + JPEG)) == TOO_LARGE


def test_a_client_does_not_send_what_a_server_refuses():
    for broken in (
        Frame(b"no picture", 1, 1),
        Frame(np.zeros((4, 4, 3), np.uint8), 1, 1),
        Frame(JPEG, 1, 1, 2 * POSE),
        Frame(JPEG, 1, 1, intrinsics=np.zeros((3, 3))),
    ):
        with pytest.raises(ProtocolError):
            frame_message(broken)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 250), st.binary(min_size=1, max_size=4))
def test_any_payload_is_read_or_refused(noise, at, change):
    whole = frame_message(Frame(JPEG, 5, 7, POSE, INTRINSICS)).payload
    at %= len(whole)
    for payload in (noise, whole[:at] + change + whole[at + len(change) :]):
        with suppress(ProtocolError):
            read_frame(Message(Kind.FRAME, 1, 2, payload))
