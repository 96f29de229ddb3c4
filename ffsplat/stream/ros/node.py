"""Live ROS 2, through the rclpy of the user's own ROS: connections and nothing else.

What comes and goes are serialized messages (CDR), read and made by the modules beside this one.
Qualities of service are those of REP-2003: sensors are subscribed to as best effort, the map is
published reliably and kept for who comes late.
"""

import importlib
import threading
from collections.abc import Callable
from typing import Any

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.ros.images import is_rectified
from ffsplat.stream.ros.live import LiveMessages
from ffsplat.stream.ros.output import MapMessages, Output, Topic
from ffsplat.stream.ros.sink import Sink
from ffsplat.stream.ros.store import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    TF,
    ros2_types,
    to_cdr,
)

CLOSING_SECONDS = 5.0


class RosNode:
    """A node that spins in a thread of its own. Raises UsageError where ROS 2 is not set up."""

    def __init__(self, name: str) -> None:
        try:
            self._rclpy: Any = importlib.import_module("rclpy")
            self._qos: Any = importlib.import_module("rclpy.qos")
            executors: Any = importlib.import_module("rclpy.executors")
        except ImportError as error:
            raise UsageError(
                "there is no rclpy: ROS 2 is not set up in this shell, or for another Python",
                "source /opt/ros/DISTRO/setup.bash and use the Python that it was built for",
            ) from error
        self._context = self._rclpy.Context()
        self._rclpy.init(context=self._context)
        self._node = self._rclpy.create_node(name, context=self._context)
        self._executor = executors.SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._closed = False
        self._thread = threading.Thread(target=self._executor.spin, name=name, daemon=True)
        self._thread.start()

    def subscribe(
        self, topic: str, type_name: str, take: Callable[[bytes], None], latched: bool = False
    ) -> None:
        """Call `take` with each serialized message of a topic."""
        quality = self._quality(latched, reliable=latched, depth=100 if type_name == TF else 5)
        self._node.create_subscription(self._type(type_name), topic, take, quality, raw=True)

    def publisher(self, topic: Topic) -> Callable[[bytes], None]:
        """What publishes serialized messages on a topic."""
        quality = self._quality(topic.latched, reliable=True, depth=1 if topic.latched else 10)
        return self._node.create_publisher(self._type(topic.type_name), topic.name, quality).publish

    def close(self) -> None:
        """Stop spinning and leave ROS."""
        if not self._closed:
            self._closed = True
            self._executor.shutdown()
            self._thread.join(CLOSING_SECONDS)
            self._node.destroy_node()
            self._rclpy.shutdown(context=self._context)

    def _quality(self, latched: bool, reliable: bool, depth: int) -> Any:
        qos = self._qos
        reliability, durability = qos.ReliabilityPolicy, qos.DurabilityPolicy
        return qos.QoSProfile(
            history=qos.HistoryPolicy.KEEP_LAST,
            depth=depth,
            reliability=reliability.RELIABLE if reliable else reliability.BEST_EFFORT,
            durability=durability.TRANSIENT_LOCAL if latched else durability.VOLATILE,
        )

    def _type(self, type_name: str) -> Any:
        package, _, last = type_name.split("/")
        try:
            return getattr(importlib.import_module(f"{package}.msg"), last)
        except (ImportError, AttributeError) as error:
            hint = f"install ros-DISTRO-{package.replace('_', '-')}"
            raise StreamError(f"this ROS has no {type_name}", hint) from error


class RosSource(LiveMessages):
    """The pictures of a topic of a running ROS 2, with the poses of its tf.

    A topic that ends in /compressed has CompressedImages, any other Images. The CameraInfo is the
    one beside it unless it is named.
    """

    def __init__(
        self,
        topic: str,
        camera_info_topic: str | None = None,
        fixed_frame: str | None = None,
        poses: bool = True,
    ) -> None:
        if not topic.startswith("/"):
            raise UsageError(f"ros2:{topic} lacks a topic", "give one such as ros2:/camera/image")
        ros2_types()
        super().__init__(f"ros2:{topic}", fixed_frame, poses, is_rectified(topic))
        self._node = RosNode("ffsplat_camera")
        compressed = topic.endswith("/compressed")
        beside = topic.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"
        try:
            self._subscribe(topic, COMPRESSED_IMAGE if compressed else IMAGE)
            self._subscribe(camera_info_topic or beside, CAMERA_INFO)
            if poses:
                self._subscribe("/tf", TF)
                self._subscribe("/tf_static", TF, latched=True)
        except StreamError:
            self._node.close()
            raise

    def close(self) -> None:
        """End the iteration and the node."""
        super().close()
        self._node.close()

    def _subscribe(self, topic: str, type_name: str, latched: bool = False) -> None:
        def take(data: bytes) -> None:
            self.receive(topic, type_name, bytes(data))

        self._node.subscribe(topic, type_name, take, latched)


class RosSink(Sink):
    """Publishes the messages of a stream in a running ROS 2; see `Sink` for what it takes."""

    def __init__(self, messages: MapMessages | None = None) -> None:
        ros2_types()
        self._node = RosNode("ffsplat_map")
        self._publishers: dict[Topic, Callable[[bytes], None]] = {}
        super().__init__(self._publish, "ros2", messages)

    def close(self) -> None:
        """Send what waits and end the node."""
        super().close()
        self._node.close()

    def _publish(self, output: Output) -> None:
        if output.topic not in self._publishers:
            self._publishers[output.topic] = self._node.publisher(output.topic)
        self._publishers[output.topic](to_cdr(output.message))
