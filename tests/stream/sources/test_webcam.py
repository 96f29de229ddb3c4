"""Webcams: how they are named on each system. Pictures come from FFmpeg's own test device here."""

import pytest

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.sources import webcam
from ffsplat.stream.sources.webcam import open_webcam


def test_pictures_come_from_a_device():
    with open_webcam("testsrc=size=64x48:rate=100", format="lavfi") as source:
        frames = iter(source)
        first, second = next(frames), next(frames)
    assert source.live
    assert first.image.shape == (48, 64, 3)
    assert first.number < second.number
    assert first.time_ns < second.time_ns
    assert source.arrived >= 2


def test_a_device_that_ends_is_opened_again_and_lost_in_the_end():
    source = open_webcam("testsrc=size=64x48:duration=0.2", format="lavfi", waits=())
    with pytest.raises(StreamError, match="is lost"):
        list(source)


@pytest.mark.parametrize(
    ("platform", "device", "expected"),
    [
        ("linux", "", ("v4l2", "/dev/video0")),
        ("linux", "2", ("v4l2", "/dev/video2")),
        ("linux", "/dev/video7", ("v4l2", "/dev/video7")),
        ("darwin", "", ("avfoundation", "0")),
        ("darwin", "1", ("avfoundation", "1")),
        ("win32", "USB Camera", ("dshow", "video=USB Camera")),
    ],
)
def test_each_system_has_its_own_names(monkeypatch, platform, device, expected):
    monkeypatch.setattr("sys.platform", platform)
    assert webcam._on_this_system(device) == expected


def test_systems_without_numbers_or_cameras_say_so(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(UsageError, match="needs its name"):
        open_webcam("0")
    monkeypatch.setattr("sys.platform", "sunos5")
    with pytest.raises(UsageError, match="cameras of sunos5 are not supported"):
        open_webcam()


@pytest.mark.skipif("not __import__('sys').platform.startswith('linux')")
def test_a_camera_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(StreamError, match=r"^cannot open webcam 98: ") as caught:
        open_webcam("98")
    assert caught.value.hint is not None
    assert "camera" in caught.value.hint
