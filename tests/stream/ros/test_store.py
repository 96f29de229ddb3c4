import random

import numpy as np
import pytest
from ros_messages import camera_info, compressed, image, tf, transform
from rosbags.typesys import Stores, get_typestore

from ffsplat.errors import StreamError
from ffsplat.stream.ros import store
from ffsplat.stream.ros.live import LiveMessages
from ffsplat.stream.ros.store import TF, from_cdr, from_ros1, normal_type, to_cdr

S = 10**9
MESSAGES = [
    image(np.zeros((4, 4, 3), np.uint8), 4, 4, time_ns=S),
    compressed(b"\xff\xd8\xff\xe0 not much of a picture", time_ns=S),
    camera_info(np.eye(3), 4, 4, d=[0.1] * 5, time_ns=S),
    tf(transform("odom", "base", S), transform("base", "camera", S)),
]


def test_messages_come_back_from_their_bytes_in_either_byte_order():
    for message in MESSAGES:
        kind = message.__msgtype__
        big = store.ros2_types().serialize_cdr(message, kind, little_endian=False)
        for data in (to_cdr(message), bytes(big)):
            assert to_cdr(from_cdr(data, kind)) == to_cdr(message)


def test_other_distributions_read_what_is_written():
    for name in ("ROS2_FOXY", "ROS2_JAZZY", "LATEST"):
        other = get_typestore(getattr(Stores, name))
        for message in MESSAGES:
            other.deserialize_cdr(to_cdr(message), message.__msgtype__)


def test_names_of_ros_1_are_those_of_ros_2_and_tf_is_one_type():
    assert normal_type("sensor_msgs/Image") == "sensor_msgs/msg/Image"
    assert normal_type("sensor_msgs/msg/Image") == "sensor_msgs/msg/Image"
    assert normal_type("tf/tfMessage") == normal_type("tf2_msgs/TFMessage") == TF
    assert normal_type("") == ""


def test_transforms_of_ros_1_are_read():
    # tf/tfMessage by hand: count; seq, sec, nsec, frame; child; translation; rotation
    text = b"\x04\0\0\0odom" + b"\x06\0\0\0camera"
    data = b"\x01\0\0\0" + b"\x07\0\0\0" + b"\x05\0\0\0" + b"\x09\0\0\0" + text
    data += np.array([1, 2, 3, 0, 0, 0, 1], "<f8").tobytes()
    (found,) = from_ros1(data, normal_type("tf/tfMessage")).transforms
    assert (found.header.frame_id, found.child_frame_id) == ("odom", "camera")
    assert (found.header.stamp.sec, found.header.stamp.nanosec) == (5, 9)
    assert (found.transform.translation.z, found.transform.rotation.w) == (3, 1)


def test_bytes_that_are_no_message_are_stream_errors(monkeypatch):
    for data in (b"", b"\0", b"\0\1\0\0", b"\0\1\0\0" + b"\xff" * 40, b"\xff" * 100):
        for kind in (store.IMAGE, TF, store.CAMERA_INFO):
            with pytest.raises(StreamError):
                from_cdr(data, kind)
    with pytest.raises(StreamError):
        from_cdr(to_cdr(MESSAGES[0]), "no_msgs/msg/Such")
    monkeypatch.setattr(store, "MAX_MESSAGE_BYTES", 10)
    with pytest.raises(StreamError, match="too large"):
        from_cdr(to_cdr(MESSAGES[0]), store.IMAGE)


def test_no_damaged_message_raises_anything_but_stream_errors():
    rng = random.Random(1)
    source = LiveMessages("robot", None, True)
    for _ in range(1500):
        message = rng.choice(MESSAGES)
        data = bytearray(to_cdr(message))
        for _ in range(rng.choice([1, 2, 10])):
            place = rng.randrange(len(data))
            data[place : place + rng.choice([1, 4])] = rng.choice(
                [b"\xff" * 4, b"\0" * 4, bytes([rng.randrange(256)])]
            )
        source.receive("/topic", message.__msgtype__, bytes(data))
        try:
            source._take(source._mailbox.get())
        except StreamError:
            continue
        list(source._feed.frames())
