"""Where a stream is published for robots, opened by what a text says."""

from ffsplat.errors import UsageError
from ffsplat.stream.ros.output import MapMessages
from ffsplat.stream.ros.sink import Sink


def open_sink(text: str, messages: MapMessages | None = None) -> Sink:
    """The sink of "zenoh:PREFIX[?connect=...&listen=...]", or of "ros2", a running ROS 2.

    Raises UsageError for any other text, and where the package that it needs is not installed;
    StreamError if it cannot be opened.
    """
    scheme, _, address = text.partition(":")
    if scheme == "zenoh":
        from ffsplat.stream.sources.zenoh import ZenohSink

        return ZenohSink(address, messages)
    if scheme == "ros2" and not address:
        from ffsplat.stream.ros.node import RosSink

        return RosSink(messages)
    raise UsageError(f"{text!r} is nothing to publish to", "give zenoh:PREFIX or ros2")
