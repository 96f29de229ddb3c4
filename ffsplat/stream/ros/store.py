"""Messages from bytes and to bytes, by the standard definitions that `rosbags` has.

The definitions that a bag brings along are not used: the types that matter here are the same in
every release of ROS, and text from a stranger's file should define nothing.
"""

import struct
from functools import cache
from typing import Any

from ffsplat.errors import StreamError, UsageError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF = "tf2_msgs/msg/TFMessage"
POINTS = "sensor_msgs/msg/PointCloud2"
PATH = "nav_msgs/msg/Path"
MARKERS = "visualization_msgs/msg/MarkerArray"
BYTES = "std_msgs/msg/UInt8MultiArray"

IMAGES = (IMAGE, COMPRESSED_IMAGE)

MAX_MESSAGE_BYTES = 256 << 20
"""Longest message that is read or written."""

_ERRORS = (
    ValueError,  # UnicodeDecodeError and SerdeError's causes among them
    IndexError,
    KeyError,
    TypeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
)


@cache
def ros2_types() -> Any:
    """The message classes of ROS 2, as a typestore of `rosbags`; UsageError without it."""
    try:
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise UsageError("ROS messages need rosbags", 'pip install "ffsplat[ros]"') from error
    return get_typestore(Stores.ROS2_HUMBLE)


@cache
def _ros1_types() -> Any:
    ros2_types()
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", TF))
    return store


def make(type_name: str, **values: Any) -> Any:
    """A message of that type; every field must be given."""
    return ros2_types().types[type_name](**values)


def definition(type_name: str) -> str:
    """The text that defines a type and all types in it, as recordings carry it ("ros2msg")."""
    return ros2_types().generate_msgdef(type_name, ros_version=2)[0]


def to_cdr(message: Any) -> bytes:
    """A message as ROS 2 sends it (CDR, little endian, with its header of 4 bytes)."""
    store = ros2_types()
    return bytes(store.serialize_cdr(message, message.__msgtype__, little_endian=True))


def from_cdr(data: bytes, type_name: str) -> Any:
    """A message that ROS 2 wrote. Raises StreamError if the bytes are no such message."""
    return _parse(data, type_name, ros2_types().deserialize_cdr)


def from_ros1(data: bytes, type_name: str) -> Any:
    """A message that ROS 1 wrote. Raises StreamError if the bytes are no such message."""
    return _parse(data, type_name, _ros1_types().deserialize_ros1)


def normal_type(name: str) -> str:
    """The ROS 2 name of a type: "sensor_msgs/Image" is "sensor_msgs/msg/Image"."""
    if name in (
        "tf/tfMessage",
        "tf/msg/tfMessage",
    ):  # what tf2_msgs/TFMessage was in the days of tf
        return TF
    package, _, last = name.partition("/")
    return name if not last or "/" in last else f"{package}/msg/{last}"


def _parse(data: bytes, type_name: str, parse: Any) -> Any:
    from rosbags.serde import SerdeError

    if len(data) > MAX_MESSAGE_BYTES:
        raise StreamError(f"a {type_name} of {len(data) >> 20} MB is too large")
    try:
        return parse(data, type_name)
    except (*_ERRORS, SerdeError) as error:
        raise StreamError(f"damaged {type_name}: {str(error)[:100]}") from error
