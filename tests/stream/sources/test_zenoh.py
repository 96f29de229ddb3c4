import contextlib
import json
import socket
import threading
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from ros_messages import camera_info, image, tf, transform
from toydeltas import ToyMap

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.protocol.blocks import Deltas
from ffsplat.stream.protocol.header import MAX_PAYLOAD, unpack
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.ros.frames import MAP_FROM_WORLD
from ffsplat.stream.ros.output import MapMessages
from ffsplat.stream.ros.store import IMAGE, POINTS, from_cdr, to_cdr
from ffsplat.stream.sources.zenoh import (
    LOOPBACK,
    ROUTER,
    ZenohAddress,
    ZenohSink,
    ZenohSource,
    open_session,
)

zenoh = pytest.importorskip("zenoh")

S = 10**9
K = [[50, 0, 1.5], [0, 50, 1.5], [0, 0, 1]]


def jpeg():
    file = BytesIO()
    Image.fromarray(np.full((4, 4, 3), 99, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def free_endpoint():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{one.getsockname()[1]}"


@contextlib.contextmanager
def publisher(endpoint, key):
    """Publishes under a key to whoever listens at an endpoint, once that one has subscribed."""
    session = open_session("robot", [endpoint], [LOOPBACK])
    try:
        yield matched(session.declare_publisher(key))
    finally:
        session.close()


def matched(publisher):
    """The publisher once somebody subscribes to its key."""
    there = threading.Event()
    listener = publisher.declare_matching_listener(lambda status: status.matching and there.set())
    assert publisher.matching_status or there.wait(10)
    del listener
    return publisher


def test_addresses_say_key_endpoints_type_and_frame():
    address = ZenohAddress.parse(
        "robot/camera?connect=tcp/10.0.0.7:7447&connect=tcp/b:1&type=sensor_msgs/Image&fixed_frame=map"
    )
    assert address.key == "robot/camera"
    assert address.connect == ("tcp/10.0.0.7:7447", "tcp/b:1")
    assert address.listen == (LOOPBACK,)
    assert (address.type_name, address.fixed_frame) == (IMAGE, "map")


def test_without_endpoints_the_router_of_this_machine_is_asked():
    assert ZenohAddress.parse("key").connect == (ROUTER,)
    assert ZenohAddress.parse("key").listen == (LOOPBACK,)
    assert ZenohAddress.parse("key?listen=tcp/a:1").connect == ()


@pytest.mark.parametrize("text", ["", "?connect=tcp/a:1", "key?scout=1", "key?conect=tcp/a:1"])
def test_addresses_that_make_no_sense_are_refused(text):
    with pytest.raises(UsageError):
        ZenohAddress.parse(text)


@pytest.mark.parametrize("text", ["a//b", "key?connect=nonsense", "a/*b"])
def test_what_zenoh_refuses_is_a_usage_error(text):
    with pytest.raises(UsageError, match="zenoh refuses"):
        ZenohSource(text)


def test_by_default_it_listens_on_this_machine_only_and_looks_for_nobody(monkeypatch):
    seen = []
    monkeypatch.setattr(zenoh, "open", lambda config: seen.append(config) or "session")
    assert open_session("robot", (), (LOOPBACK,)) == "session"
    config = json.loads(str(seen[0]))
    assert config["mode"] == "peer"
    assert config["listen"]["endpoints"] == ["tcp/127.0.0.1:0"]
    assert config["connect"]["endpoints"] == []
    assert config["scouting"]["multicast"]["enabled"] is False
    assert config["scouting"]["gossip"]["enabled"] is False


def test_an_address_in_use_is_a_stream_error():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        taken = f"tcp/127.0.0.1:{one.getsockname()[1]}"
        with pytest.raises(StreamError, match="cannot listen"):
            ZenohSource(f"key?listen={taken}")


def test_pictures_arrive_as_they_were_sent():
    endpoint = free_endpoint()
    with (
        ZenohSource(f"camera?listen={endpoint}") as source,
        publisher(endpoint, "camera") as camera,
    ):
        camera.put(b"neither picture nor message")
        camera.put(jpeg())
        frame = next(iter(source))
        assert frame.image == jpeg()
        assert frame.time_ns > 0
        camera.put(jpeg(), encoding="image/jpeg")
        assert next(iter(source)).number == 1
    assert source.skipped == {"message of another type": 1}
    assert source.live


def test_messages_of_ros_are_told_by_encoding_by_key_and_by_option():
    data = to_cdr(image(np.full((4, 4, 3), 7, np.uint8), 4, 4, time_ns=5 * S))
    rmw = "0/camera/image/sensor_msgs::msg::dds_::Image_/RIHS01_0"
    for key, query, encoding in [
        ("camera", "", "application/cdr;sensor_msgs/msg/Image"),
        (rmw, "", "zenoh/bytes"),
        ("camera", "&type=sensor_msgs/Image", "application/cdr"),
    ]:
        endpoint = free_endpoint()
        with (
            ZenohSource(f"{key}?listen={endpoint}{query}") as source,
            publisher(endpoint, key) as camera,
        ):
            camera.put(data, encoding=encoding)
            frame = next(iter(source))
        assert frame.time_ns == 5 * S
        assert (frame.image == 7).all()


@pytest.mark.parametrize("poses", [True, False])
def test_a_pattern_brings_intrinsics_and_poses_and_one_camera(poses):
    endpoint = free_endpoint()
    pixels = np.zeros((4, 4, 3), np.uint8)
    with ZenohSource(f"robot/**?listen={endpoint}", poses) as source:
        session = open_session("robot", [endpoint], [LOOPBACK])
        everything = matched(session.declare_publisher("robot/tf"))
        kind = "application/cdr;sensor_msgs/msg/"
        everything.put(
            to_cdr(tf(transform("odom", "camera", S, (1, 2, 3)))),
            encoding="application/cdr;tf2_msgs/msg/TFMessage",
        )
        session.put("robot/info", to_cdr(camera_info(K, 4, 4)), encoding=kind + "CameraInfo")
        session.put("robot/a", to_cdr(image(pixels, 4, 4, time_ns=S)), encoding=kind + "Image")
        session.put("robot/b", to_cdr(image(pixels, 4, 4, time_ns=S)), encoding=kind + "Image")
        session.put("robot/imu", b"\0\1\0\0", encoding=kind + "Imu")
        session.put("robot/a", to_cdr(image(pixels, 4, 4, time_ns=S)), encoding=kind + "Image")
        frames = iter(source)
        first, second = next(frames), next(frames)
        session.close()
    assert (first.pose is None) != poses
    assert not poses or first.pose[:3, 3].tolist() == [1, 2, 3]
    assert first.intrinsics[0].tolist() == [50, 0, 2]
    assert second.number == 1
    assert source.skipped == {"picture of another camera": 1, "message of another type": 1}


def test_closing_ends_the_iteration_from_another_thread():
    source = ZenohSource("camera")
    found = []
    reading = threading.Thread(target=lambda: found.extend(source))
    reading.start()
    source.close()
    source.close()
    reading.join(10)
    assert not reading.is_alive()
    assert found == []


def test_what_a_stream_makes_goes_out_as_messages_and_comes_in_again():
    endpoint = free_endpoint()
    toy, replica = ToyMap(20), Replica()
    received, complete = {}, threading.Event()

    def take(sample):
        kind = str(sample.encoding).removeprefix("application/cdr;")
        received.setdefault(str(sample.key_expr), []).append(
            from_cdr(sample.payload.to_bytes(), kind)
        )
        if len(received.get("map/points", [])) == 1 and len(received.get("map/deltas", [])) == 3:
            complete.set()

    listening = open_session("robot", (), (endpoint,))
    subscriber = listening.declare_subscriber("map/**", take)
    sink = ZenohSink(f"map?connect={endpoint}", MapMessages(period_s=3600))
    matched(sink._session.declare_publisher("map/tf"))
    sink.on_frame(Frame(jpeg(), S, 0), Verdict(0, "keyframe", np.eye(4)))
    for _ in range(3):
        delta = toy.next()
        replica.apply(delta)
        sink.on_delta(delta, replica)
    assert complete.wait(10)
    sink.close()
    subscriber.undeclare()
    listening.close()
    assert not sink.dropped.total()
    assert received["map/image/compressed"][0].data.tobytes() == jpeg()
    assert received["map/points"][0].__msgtype__ == POINTS
    placed = received["map/tf"][0].transforms[0]
    turn = placed.transform.rotation
    np.testing.assert_allclose((turn.x, turn.y, turn.z, turn.w), (-0.5, 0.5, -0.5, 0.5))
    assert MAP_FROM_WORLD[0, 2] == 1

    deltas, again = Deltas(), Replica()
    for message in received["map/deltas"]:
        found = deltas.add(unpack(message.data.tobytes(), MAX_PAYLOAD))
        if found is not None:
            again.apply(found[1])
    assert again.number == 3


def test_nothing_is_published_under_a_pattern():
    with pytest.raises(UsageError, match="pattern"):
        ZenohSink("map/**")
