"""What a text means as a source, and the speed at which recordings are played."""

import sys
import threading

import numpy as np
import pytest
from clips import write_clip
from PIL import Image
from rtsp_camera import Camera

from ffsplat.errors import FFSplatError, StreamError, UsageError
from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.ros.frames import FrameNames
from ffsplat.stream.ros.output import MapMessages
from ffsplat.stream.ros.record import Recorder
from ffsplat.stream.sources import Source, open_source
from ffsplat.stream.sources import pacing as pacing_module
from ffsplat.stream.sources.folder import FolderSource
from ffsplat.stream.sources.live import LiveSource
from ffsplat.stream.sources.pacing import Paced
from ffsplat.stream.sources.video import VideoSource
from tests.stream.mappers import jpeg, picture


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((20, 20, 3), number, np.uint8)).save(folder / f"{number}.jpg")
    return folder


def test_folders_patterns_and_photos_are_photos(photos):
    for text in (photos, f"{photos}/*.jpg", photos / "1.jpg"):
        source = open_source(str(text), fps=2)
        assert isinstance(source, FolderSource)
        assert [frame.time_ns for frame in source][:2] in ([0], [0, 500_000_000])


def test_files_are_videos(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 20)
    with open_source(str(clip)) as source:
        assert isinstance(source, VideoSource)
        assert len(list(source)) == 20
    assert len(list(open_source(str(clip), fps=5))) == 10


def test_addresses_are_cameras():
    with Camera(200) as camera, open_source(camera.address()) as source:
        assert isinstance(source, LiveSource)
        with pytest.raises(UsageError, match=r"is live: it has no other speed"):
            open_source(camera.address(), realtime=1)


def test_a_webcam_that_is_not_there_is_a_stream_error():
    for text in ("webcam:97", "/dev/video97"):
        with pytest.raises(StreamError, match=r"cannot open webcam .*97"):
            open_source(text)


@pytest.mark.parametrize("text", ["nowhere", "nowhere/at/all", "", "rtsp:x", "ros3:/camera", "a:b"])
def test_what_is_no_source_is_refused_with_the_list_of_those_that_are(text):
    with pytest.raises(UsageError) as caught:
        open_source(text)
    assert caught.value.hint is not None


@pytest.mark.parametrize("text", ["gone.mp4", "gone/*.jpg", "gone.jpg", "gone.bag", "gone.mcap"])
def test_what_is_missing_is_named(text):
    with pytest.raises(FFSplatError, match="gone"):
        open_source(text)


@pytest.mark.parametrize(
    "options", [{"fps": 0}, {"fps": float("nan")}, {"realtime": 0}, {"realtime": -1}]
)
def test_rates_that_cannot_be_are_refused(photos, options):
    with pytest.raises(UsageError, match="cannot be"):
        open_source(str(photos), **options)


def test_bags_and_cameras_have_times_of_their_own(tmp_path):
    bag = tmp_path / "a.bag"
    bag.touch()
    for text in (str(bag), "rtsp://h/a", "ros2:/image", "zenoh:camera"):
        with pytest.raises(UsageError, match="has its own times"):
            open_source(text, fps=5)


def test_middleware_is_opened_by_its_scheme():
    with open_source("zenoh:robot/camera?listen=tcp/127.0.0.1:0") as source:
        assert source.live
        assert source.name == "zenoh:robot/camera"
    with pytest.raises(UsageError, match="there is no rclpy"):
        open_source("ros2:/camera/image")


def test_poses_are_those_of_bags(photos, tmp_path):
    for text in (str(photos), "webcam", "rtsp://h/a"):
        with pytest.raises(UsageError, match="has no poses") as caught:
            open_source(text, no_poses=True)
        assert caught.value.hint == "leave out --no-poses"
    recorder = Recorder(tmp_path / "out.mcap", messages=MapMessages(FrameNames(optical="eye")))
    for number in range(2):
        recorder.on_frame(
            Frame(jpeg(picture()), number, number), Verdict(number, "tracked", np.eye(4))
        )
    recorder.close()
    for no_poses in (False, True):
        with open_source(str(tmp_path / "out.mcap"), no_poses=no_poses) as source:
            assert [frame.pose is None for frame in source] == [no_poses] * 2


def test_topics_are_for_bags(photos):
    for text in (str(photos), "rtsp://h/a", "webcam"):
        with pytest.raises(UsageError, match="has no topics"):
            open_source(text, topic="/image")


def test_without_pyav_the_hint_names_the_extra(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError) as caught:
        open_source(str(clip))
    assert caught.value.hint == 'install it with: pip install "ffsplat[video]"'


class Recorded(Source):
    """Frames at given seconds."""

    name, live = "recording", False

    def __init__(self, *seconds: float):
        self.seconds, self.closed = seconds, False

    def __iter__(self):
        for number, second in enumerate(self.seconds):
            yield Frame(b"", round(second * 1e9), number)

    def close(self):
        self.closed = True


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(pacing_module.time, "monotonic", lambda: self.now)

    def pace(self, source: Source, speed: float) -> Paced:
        paced = Paced(source, speed)
        paced._closed.wait = self._wait
        return paced

    def _wait(self, seconds: float) -> bool:
        self.now += seconds
        return False


def test_a_recording_is_played_at_its_speed(monkeypatch):
    clock = Clock(monkeypatch)
    for speed, expected in ((1.0, [0, 0.1, 0.5, 0.6]), (2.0, [0, 0.05, 0.25, 0.3])):
        clock.now = 0.0
        paced = clock.pace(Recorded(7.0, 7.1, 7.5, 7.6), speed)
        assert paced.live
        np.testing.assert_allclose([clock.now for _ in paced], expected)


def test_frames_that_are_overdue_come_at_once_and_none_is_left_out(monkeypatch):
    clock = Clock(monkeypatch)
    times = []
    for frame in clock.pace(Recorded(0, 1, 2, 3, 4), 1.0):
        times.append(clock.now)
        if frame.number == 0:
            clock.now += 2.5
    np.testing.assert_allclose(times, [0, 2.5, 2.5, 3, 4])


def test_clocks_that_jump_are_not_waited_for(monkeypatch):
    clock = Clock(monkeypatch)
    paced = clock.pace(Recorded(0, 1, 1e6, 5, 6), 1.0)
    times = [clock.now for _ in paced]
    np.testing.assert_allclose(np.diff(times), [1, pacing_module.LONGEST_WAIT, 0, 1])


def test_closing_ends_the_wait():
    inner = Recorded(0, 10**6)
    paced = Paced(inner, 1e-6)
    frames = iter(paced)
    next(frames)
    threading.Timer(0.05, paced.close).start()
    assert list(frames) == []
    assert inner.closed
