"""The thin node against a stand-in for rclpy, whose real one comes with ROS and not from PyPI.

The stand-in has the names and the signatures of rclpy (Humble to Kilted) that are used: raw
subscriptions give bytes, `publish` takes bytes.
"""

import queue
import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from ros_messages import camera_info, compressed, hit, image, tf, transform
from toydeltas import ToyMap

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.ros.node import RosSink, RosSource
from ffsplat.stream.ros.output import MapMessages
from ffsplat.stream.ros.store import from_cdr, to_cdr

S = 10**9
K = [[50, 0, 1.5], [0, 50, 1.5], [0, 0, 1]]


class FakeRos:
    """What all nodes share: subscriptions by topic, and messages that wait for the executor."""

    def __init__(self):
        self.subscriptions = {}
        self.published = queue.Queue()
        self.qualities = {}
        self.types = {}
        self.open_contexts = 0
        self.spinning = []

    def send(self, topic, message):
        """A message from elsewhere in the robot."""
        take = self.subscriptions[topic]
        self.spinning[-1].put(lambda: take(to_cdr(message)))

    def modules(self):
        return {
            "rclpy": module(
                Context=lambda: SimpleNamespace(),
                init=self._init,
                shutdown=self._shutdown,
                create_node=lambda name, *, context: FakeNode(self),
            ),
            "rclpy.qos": module(
                QoSProfile=lambda **values: values,
                HistoryPolicy=SimpleNamespace(KEEP_LAST="keep last"),
                ReliabilityPolicy=SimpleNamespace(RELIABLE="reliable", BEST_EFFORT="best effort"),
                DurabilityPolicy=SimpleNamespace(
                    VOLATILE="volatile", TRANSIENT_LOCAL="transient local"
                ),
            ),
            "rclpy.executors": module(SingleThreadedExecutor=lambda *, context: Executor(self)),
            "sensor_msgs.msg": module(
                Image="Image",
                CompressedImage="CompressedImage",
                CameraInfo="CameraInfo",
                PointCloud2="PointCloud2",
            ),
            "tf2_msgs.msg": module(TFMessage="TFMessage"),
            "nav_msgs.msg": module(Path="Path"),
            "visualization_msgs.msg": module(MarkerArray="MarkerArray"),
            "std_msgs.msg": module(UInt8MultiArray="UInt8MultiArray"),
        }

    def _init(self, *, context):
        self.open_contexts += 1

    def _shutdown(self, *, context):
        self.open_contexts -= 1


class FakeNode:
    def __init__(self, ros):
        self.ros = ros

    def create_subscription(self, kind, topic, take, quality, *, raw):
        assert raw
        self.ros.subscriptions[topic] = take
        self.ros.qualities[topic], self.ros.types[topic] = quality, kind

    def create_publisher(self, kind, topic, quality):
        self.ros.qualities[topic], self.ros.types[topic] = quality, kind

        def publish(data):
            assert isinstance(data, bytes)
            self.ros.published.put((topic, data))

        return SimpleNamespace(publish=publish)

    def destroy_node(self):
        pass


class Executor:
    def __init__(self, ros):
        self._work = queue.Queue()
        ros.spinning.append(self._work)

    def add_node(self, node):
        pass

    def spin(self):
        while (job := self._work.get()) is not None:
            job()

    def shutdown(self):
        self._work.put(None)


def module(**names):
    made = ModuleType("fake")
    vars(made).update(names)
    return made


@pytest.fixture
def ros(monkeypatch):
    ros = FakeRos()
    for name, fake in ros.modules().items():
        monkeypatch.setitem(sys.modules, name, fake)
    return ros


def test_without_ros_it_says_what_is_missing():
    with pytest.raises(UsageError, match="no rclpy"):
        RosSource("/camera/image_raw")
    with pytest.raises(UsageError, match="no rclpy"):
        RosSink()


def test_messages_of_a_robot_become_frames(ros):
    with RosSource("/cam/image_raw") as source:
        ros.send("/tf_static", tf(transform("base", "camera", 0, (0, 0, 1))))
        ros.send("/tf", tf(transform("odom", "base", S, (5, 0, 0))))
        ros.send("/cam/camera_info", camera_info(K, 4, 4))
        ros.send("/cam/image_raw", image(np.full((4, 4, 3), 9, np.uint8), 4, 4, time_ns=S))
        frame = next(iter(source))
    assert frame.pose[:3, 3].tolist() == [5, 0, 1]
    assert frame.intrinsics[0].tolist() == [50, 0, 2]
    assert (frame.image == 9).all()
    assert ros.open_contexts == 0


def test_sensors_are_subscribed_to_as_best_effort_and_static_transforms_as_latched(ros):
    RosSource("/cam/image/compressed").close()
    assert ros.types == {
        "/cam/image/compressed": "CompressedImage",
        "/cam/camera_info": "CameraInfo",
        "/tf": "TFMessage",
        "/tf_static": "TFMessage",
    }
    sensor = ros.qualities["/cam/image/compressed"]
    assert (sensor["history"], sensor["reliability"], sensor["durability"]) == (
        "keep last",
        "best effort",
        "volatile",
    )
    static = ros.qualities["/tf_static"]
    assert (static["reliability"], static["durability"]) == ("reliable", "transient local")


def test_compressed_pictures_and_other_camera_infos_are_found_by_name(ros):
    with RosSource("/cam/image/compressed", camera_info_topic="/info", poses=False) as source:
        assert set(ros.subscriptions) == {"/cam/image/compressed", "/info"}
        ros.send("/cam/image/compressed", compressed(b"\xff\xd8\xff", time_ns=3))
        assert next(iter(source)).image == b"\xff\xd8\xff"


def test_the_map_goes_out_reliably_and_is_kept_for_who_comes_late(ros):
    sink = RosSink(MapMessages(period_s=0))
    toy, replica = ToyMap(20), Replica()
    delta = toy.next()
    replica.apply(delta)
    sink.on_frame(Frame(b"\xff\xd8\xff", S, 0), Verdict(0, "keyframe", np.eye(4)))
    sink.on_delta(delta, replica)
    sink.on_hits([hit()], S)
    sink.close()
    found = [ros.published.get_nowait() for _ in range(ros.published.qsize())]
    assert [topic for topic, _ in found] == [
        "/tf_static",
        "/ffsplat/image/compressed",
        "/tf",
        "/ffsplat/deltas",
        "/ffsplat/points",
        "/ffsplat/path",
        "/ffsplat/hits",
    ]
    cloud = from_cdr(dict(found)["/ffsplat/points"], "sensor_msgs/msg/PointCloud2")
    assert cloud.width == len(replica)
    for topic in ("/ffsplat/points", "/ffsplat/path", "/ffsplat/hits", "/tf_static"):
        quality = ros.qualities[topic]
        assert quality["depth"] == 1
        assert (quality["reliability"], quality["durability"]) == ("reliable", "transient local")
    assert ros.qualities["/tf"]["durability"] == "volatile"


def test_a_type_that_this_ros_lacks_is_named(ros, monkeypatch):
    monkeypatch.delitem(sys.modules, "tf2_msgs.msg")
    with pytest.raises(StreamError, match="no tf2_msgs/msg/TFMessage") as error:
        RosSource("/cam/image")
    assert error.value.hint == "install ros-DISTRO-tf2-msgs"
    assert ros.open_contexts == 0


def test_a_source_that_waits_is_closed_from_another_thread(ros):
    source = RosSource("/cam/image")
    found = []
    reading = threading.Thread(target=lambda: found.extend(source))
    reading.start()
    source.close()
    reading.join(10)
    assert not reading.is_alive()


def test_a_topic_needs_its_slash():
    with pytest.raises(UsageError, match="lacks a topic"):
        RosSource("camera")
