import pytest

from ffsplat.errors import UsageError
from ffsplat.stream.ros.publish import open_sink
from ffsplat.stream.sources.zenoh import ZenohSink


def test_a_text_says_where_to():
    sink = open_sink("zenoh:robot/map")
    assert isinstance(sink, ZenohSink)
    sink.close()


@pytest.mark.parametrize("text", ["", "zenoh", "zenoh:", "mqtt:robot", "ros2:/topic", "out.mcap"])
def test_other_texts_are_refused(text):
    with pytest.raises(UsageError):
        open_sink(text)


def test_ros_is_asked_for_where_there_is_none():
    with pytest.raises(UsageError, match="no rclpy"):
        open_sink("ros2:")
