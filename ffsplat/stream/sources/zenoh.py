"""Zenoh: pictures in and the map out, by default on this machine only.

A session talks to the router of this machine and asks nobody on the network who is there; others
take part when their addresses are given. Keys and types of ROS nodes that talk Zenoh
(rmw_zenoh) are understood. Source: the configuration reference of Eclipse Zenoh 1.x.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.ros.live import LiveMessages
from ffsplat.stream.ros.output import MapMessages, Output, Topic
from ffsplat.stream.ros.sink import Sink
from ffsplat.stream.ros.store import (
    CAMERA_INFO,
    IMAGES,
    MAX_MESSAGE_BYTES,
    TF,
    normal_type,
    ros2_types,
    to_cdr,
)

LOOPBACK = "tcp/127.0.0.1:0"

ROUTER = "tcp/127.0.0.1:7447"
"""Where a router of this machine listens, by default, as nodes of ROS with rmw_zenoh expect it."""

_OPTIONS = ("connect", "listen", "type", "fixed_frame")
_MAGICS = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")
_RMW_TYPE = re.compile(r"(\w+)::msg::dds_::(\w+)_(?:/|$)")  # of a key of rmw_zenoh


@dataclass(frozen=True)
class ZenohAddress:
    """A key, and who is talked to: endpoints such as "tcp/192.168.1.7:7447"."""

    key: str
    connect: tuple[str, ...] = ()
    listen: tuple[str, ...] = (LOOPBACK,)
    type_name: str = ""
    fixed_frame: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ZenohAddress":
        """From KEY?connect=ENDPOINT&listen=ENDPOINT&type=TYPE&fixed_frame=NAME.

        Without endpoints it connects to ROUTER, as soon as somebody is there. Raises UsageError for
        an option that does not exist, and without a key.
        """
        key, _, query = text.partition("?")
        options = parse_qs(query, keep_blank_values=True)
        unknown = sorted(options.keys() - set(_OPTIONS))
        if unknown or not key:
            what = f"has no option {unknown[0]}" if unknown else "lacks its key"
            raise UsageError(f"zenoh:{text} {what}", f"zenoh:KEY?{'=...&'.join(_OPTIONS)}=...")
        last = {name: values[-1] for name, values in options.items()}
        return cls(
            key,
            tuple(options.get("connect", () if "listen" in options else (ROUTER,))),
            tuple(options.get("listen", (LOOPBACK,))),
            normal_type(last.get("type", "")),
            last.get("fixed_frame"),
        )


def open_session(key: str, connect: Sequence[str], listen: Sequence[str]) -> Any:
    """A zenoh session with those endpoints and no others, for a key that is one.

    Raises UsageError without the package or for a key or endpoint that is none, StreamError if it
    cannot listen there.
    """
    try:
        import zenoh
    except ImportError as error:
        raise UsageError("zenoh is not installed", 'pip install "ffsplat[zenoh]"') from error
    try:
        zenoh.KeyExpr(key)
    except zenoh.ZError as error:
        why = f"zenoh refuses the key {key}: {_reason(error)}"
        raise UsageError(why, "give one such as robot/camera") from error
    config = zenoh.Config()
    settings = {
        "mode": "peer",
        "connect/endpoints": list(connect),
        "listen/endpoints": list(listen),
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": False,
        "transport/shared_memory/enabled": False,
        "transport/link/rx/max_message_size": MAX_MESSAGE_BYTES,
    }
    try:
        for name, value in settings.items():
            config.insert_json5(name, json.dumps(value))
    except zenoh.ZError as error:
        what = f"zenoh refuses {', '.join([*connect, *listen])}: {_reason(error)}"
        raise UsageError(what, f"write endpoints as {ROUTER}") from error
    try:
        return zenoh.open(config)
    except zenoh.ZError as error:
        what = f"zenoh cannot listen on {', '.join(listen)}: {_reason(error)}"
        raise StreamError(what, f"give an address of this machine, as {LOOPBACK}") from error


def _reason(error: Exception) -> str:
    """What zenoh says, without the places in its own source."""
    return re.sub(r"\s+at /\S*", "", str(error))


class ZenohSource(LiveMessages):
    """Pictures that are published under a key: JPEG, PNG, WebP, or messages of ROS as CDR.

    `text` is as in `ZenohAddress.parse`. The encoding of a sample tells what it is
    ("image/jpeg", "application/cdr;sensor_msgs/msg/Image"), else its key, as rmw_zenoh writes it,
    else `type`. A key with wildcards brings camera infos and transforms as well (`poses` False
    leaves the latter); pictures are taken from the first key that has some.
    """

    def __init__(self, text: str, poses: bool = True) -> None:
        self.address = address = ZenohAddress.parse(text)
        expects = poses and "*" in address.key
        super().__init__(f"zenoh:{address.key}", address.fixed_frame, expects)
        self._poses = poses
        ros2_types()
        self._camera = ""
        self._session = open_session(address.key, address.connect, address.listen)
        self._subscriber = self._session.declare_subscriber(address.key, self._on_sample)

    def close(self) -> None:
        """End the iteration and the session."""
        super().close()
        if not self._session.is_closed():
            self._session.close()

    def _on_sample(self, sample: Any) -> None:
        key, payload = str(sample.key_expr), sample.payload
        if len(payload) > MAX_MESSAGE_BYTES:
            self._feed.skip("too large message", key)
            return
        data = payload.to_bytes()
        kind = self._kind(key, str(sample.encoding), data)
        if kind is None or kind not in ("", *IMAGES, CAMERA_INFO, TF):
            self._feed.skip("message of another type", f"{key}: {kind or sample.encoding}")
            return
        if kind == TF and not self._poses:
            return
        if kind in ("", *IMAGES) and key != (self._camera or key):
            self._feed.skip("picture of another camera", key)
            return
        if kind in ("", *IMAGES):
            self._camera = key
        stamp = sample.timestamp
        self.receive(
            key, kind, data, None if stamp is None else stamp.get_time_as_ntp64().as_nanos()
        )

    def _kind(self, key: str, encoding: str, data: bytes) -> str | None:
        """The type of a message, "" of a bare picture, None of what cannot be told."""
        if encoding.startswith("application/cdr;"):
            return normal_type(encoding.partition(";")[2])
        if found := _RMW_TYPE.search(key):
            return f"{found[1]}/msg/{found[2]}"
        if encoding.startswith("image/") or data.startswith(_MAGICS):
            return ""
        return self.address.type_name or None


class ZenohSink(Sink):
    """Publishes the messages of a stream as CDR, under keys that begin with a prefix.

    Points of the map, say, are at PREFIX/points, with the encoding
    "application/cdr;sensor_msgs/msg/PointCloud2". Where the network is slower than the stream,
    messages are dropped rather than waited for. `text` is as in `ZenohAddress.parse`.
    """

    def __init__(self, text: str, messages: MapMessages | None = None) -> None:
        address = ZenohAddress.parse(text)
        if "*" in address.key:
            raise UsageError(f"zenoh:{text} is a pattern", "give a key to publish under")
        ros2_types()
        self._prefix = address.key.rstrip("/")
        self._session = open_session(self._prefix, address.connect, address.listen)
        self._publishers: dict[Topic, Any] = {}
        super().__init__(self._publish, f"zenoh:{address.key}", messages)

    def key(self, topic: Topic) -> str:
        """The key of a topic."""
        return f"{self._prefix}/{topic.name.removeprefix('/').removeprefix('ffsplat/')}"

    def close(self) -> None:
        """Send what waits and end the session."""
        super().close()
        if not self._session.is_closed():
            self._session.close()

    def _publish(self, output: Output) -> None:
        import zenoh

        topic = output.topic
        try:
            if topic not in self._publishers:
                self._publishers[topic] = self._session.declare_publisher(
                    self.key(topic),
                    encoding=f"application/cdr;{topic.type_name}",
                    congestion_control=zenoh.CongestionControl.DROP,
                )
            self._publishers[topic].put(to_cdr(output.message))
        except zenoh.ZError as error:
            raise StreamError(f"cannot publish {self.key(topic)}: {_reason(error)}") from error
