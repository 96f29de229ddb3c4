import signal
import subprocess
import sys
import textwrap
import threading
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mcap.exceptions import McapError
from mcap.reader import NonSeekingReader, make_reader
from PIL import Image
from ros_messages import hit
from rosbags.highlevel import AnyReader
from toydeltas import ToyMap

from ffsplat.errors import OutputError, StreamError, UsageError
from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.protocol.document import write_document
from ffsplat.stream.protocol.header import Kind
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.ros import sink as sink_module
from ffsplat.stream.ros.feed import MADE
from ffsplat.stream.ros.frames import MAP_FROM_WORLD
from ffsplat.stream.ros.output import MapMessages
from ffsplat.stream.ros.record import Recorder, recorded_deltas, recorded_map
from ffsplat.stream.ros.transforms import TransformBuffer
from ffsplat.stream.sources.bag import BagSource

S = 10**9
ROOT = Path(__file__).resolve().parents[3]
INTRINSICS = np.array([[50, 0, 4.0], [0, 50, 3.0], [0, 0, 1.0]])


def jpeg(i):
    file = BytesIO()
    Image.fromarray(np.full((6, 8, 3), 10 * i, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def pose(i):
    matrix = np.eye(4)
    matrix[:3, 3] = [i, 2 * i, 3 * i]
    return matrix


def recorded(path, count=6, toy=None, **options):
    """A short stream into a file, and the map that it ended with."""
    toy, replica = toy or ToyMap(1), Replica()
    recorder = Recorder(path, **options)
    for i in range(count):
        frame = Frame(jpeg(i), (i + 1) * S, i, None, INTRINSICS)
        recorder.on_frame(frame, Verdict(i, "keyframe", pose(i)))
        delta = toy.next()
        replica.apply(delta)
        recorder.on_delta(delta, replica)
    recorder.on_hits([hit()], count * S)
    recorder.close()
    assert not recorder.dropped.total()
    return replica


def test_a_recording_replays_into_the_same_map(tmp_path):
    replica = recorded(tmp_path / "out.mcap")
    again = recorded_map(tmp_path / "out.mcap")
    assert write_document(again.snapshot()) == write_document(replica.snapshot())
    kinds = [(kind, delta.number) for kind, delta in recorded_deltas(tmp_path / "out.mcap")]
    assert kinds == [(Kind.DELTA, i + 1) for i in range(6)]


def test_the_poses_of_the_map_are_not_given_back_to_it_as_the_truth(tmp_path, caplog):
    recorded(tmp_path / "out.mcap")
    with BagSource(tmp_path / "out.mcap") as source:
        frames = list(source)
    assert [f.pose for f in frames] == [None] * 6
    assert [f.time_ns for f in frames] == [(i + 1) * S for i in range(6)]
    assert caplog.messages == [MADE % "/ffsplat/image/compressed"]
    caplog.clear()
    assert all(f.pose is None for f in BagSource(tmp_path / "out.mcap", poses=False))
    assert caplog.messages == []


def test_it_plays_as_a_source_with_pictures_intrinsics_and_poses_if_asked_for(tmp_path):
    recorded(tmp_path / "out.mcap")
    with BagSource(tmp_path / "out.mcap", fixed_frame="map") as source:
        frames = list(source)
    assert [f.image for f in frames] == [jpeg(i) for i in range(6)]
    assert [f.time_ns for f in frames] == [(i + 1) * S for i in range(6)]
    for i, frame in enumerate(frames):
        np.testing.assert_allclose(frame.pose, MAP_FROM_WORLD @ pose(i), atol=1e-12)
        np.testing.assert_array_equal(frame.intrinsics, INTRINSICS)


def test_a_clock_that_begins_at_0_is_played_from_there(tmp_path):
    recorder = Recorder(tmp_path / "out.mcap")
    for i in range(3):
        recorder.on_frame(Frame(jpeg(i), i * S, i), Verdict(i, "tracked", pose(i)))
    recorder.close()
    frames = list(BagSource(tmp_path / "out.mcap", fixed_frame="map"))
    assert [f.time_ns for f in frames] == [1, S, 2 * S]
    assert all(f.pose is not None for f in frames)


def test_other_readers_see_all_topics(tmp_path):
    recorded(tmp_path / "out.mcap", messages=MapMessages(period_s=0))
    with AnyReader([tmp_path / "out.mcap"]) as reader:
        counts = {topic: info.msgcount for topic, info in reader.topics.items()}
        for connection, _, raw in reader.messages():
            reader.deserialize(raw, connection.msgtype)
    assert counts == {
        "/tf": 6,
        "/tf_static": 1,
        "/ffsplat/image/compressed": 6,
        "/ffsplat/camera_info": 6,
        "/ffsplat/path": 6,
        "/ffsplat/points": 6,
        "/ffsplat/hits": 1,
        "/ffsplat/deltas": 6,
    }
    with (tmp_path / "out.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert len(list(reader.iter_messages())) == 38
        assert reader.get_header().profile == "ros2"
        times = [m.log_time for _, _, m in reader.iter_messages(log_time_order=False)]
    assert times == sorted(times)


def test_points_and_path_come_no_more_often_than_asked(tmp_path):
    now = iter([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    messages = MapMessages(period_s=2, clock=lambda: next(now))
    replica = recorded(tmp_path / "a.mcap", messages=messages)
    with AnyReader([tmp_path / "a.mcap"]) as reader:
        assert reader.topics["/ffsplat/points"].msgcount == 3 + 1  # and the map at the end
        *_, (connection, _, raw) = reader.messages(reader.topics["/ffsplat/points"].connections)
        assert reader.deserialize(raw, connection.msgtype).width == len(replica)


def test_what_queries_find_is_marked_beside_the_points(tmp_path, monkeypatch, caplog):
    def find(scene, text):
        if text != "chair":
            raise UsageError(f"unknown: {text!r}")
        return SimpleNamespace(hits=[hit()] if len(scene) else [])

    monkeypatch.setattr(sink_module, "query", find)
    recorded(tmp_path / "a.mcap", messages=MapMessages(queries=("chair", "qwertz")))
    with AnyReader([tmp_path / "a.mcap"]) as reader:
        assert (
            reader.topics["/ffsplat/hits"].msgcount == reader.topics["/ffsplat/points"].msgcount + 1
        )
        *_, (connection, _, raw) = reader.messages(reader.topics["/ffsplat/hits"].connections)
        assert len(reader.deserialize(raw, connection.msgtype).markers) == 1 + 2
    assert [record.args[0] for record in caplog.records] == ["qwertz"]


def test_the_body_of_the_camera_hangs_below_its_optical_frame(tmp_path):
    recorded(tmp_path / "out.mcap")
    buffer = TransformBuffer()
    with AnyReader([tmp_path / "out.mcap"]) as reader:
        for connection, _, raw in reader.messages():
            if connection.topic.startswith("/tf"):
                message = reader.deserialize(raw, connection.msgtype)
                buffer.add(message.transforms, connection.topic == "/tf_static")
    body = buffer.lookup("map", "ffsplat_camera_link", S)
    np.testing.assert_allclose(body, np.eye(4), atol=1e-12)  # x forward, y left, z up, as the map
    assert buffer.ancestors("ffsplat_camera_link")[1:] == ["ffsplat_camera_optical_frame", "map"]


def test_pixels_without_a_file_around_them_are_recorded_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    recorder = Recorder(tmp_path / "out.mcap")
    recorder.on_frame(Frame(pixels, S, 0), Verdict(0, "blurred"))
    recorder.close()
    (frame,) = BagSource(tmp_path / "out.mcap", "/ffsplat/image")
    np.testing.assert_array_equal(frame.image, pixels)
    assert frame.pose is None


def test_who_joins_late_or_lost_deltas_gets_a_snapshot_first(tmp_path):
    toy, replica = ToyMap(2), Replica()
    for _ in range(3):
        replica.apply(toy.next())
    recorder = Recorder(tmp_path / "out.mcap")
    for _ in range(2):
        delta = toy.next()
        replica.apply(delta)
        recorder.on_delta(delta, replica)
    delta = toy.next()  # one that the recorder is not told of, and then one before it is applied
    replica.apply(delta)
    recorder.on_delta(after := toy.next(), replica)
    replica.apply(after)
    recorder.close()
    kinds = [(kind.name, delta.number) for kind, delta in recorded_deltas(tmp_path / "out.mcap")]
    assert kinds == [("SNAPSHOT", 4), ("DELTA", 5), ("SNAPSHOT", 6), ("DELTA", 7)]
    again = recorded_map(tmp_path / "out.mcap")
    assert write_document(again.snapshot()) == write_document(replica.snapshot())


def test_what_does_not_fit_in_memory_is_dropped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(sink_module, "MAX_BACKLOG_BYTES", 1000)
    recorder = Recorder(tmp_path / "out.mcap")
    toy, replica = ToyMap(2), Replica()
    busy, go = threading.Event(), threading.Event()
    while not recorder._backlog.offer(lambda: (busy.set(), go.wait(10)), 5000):
        continue  # something else is being written
    busy.wait(10)
    for i in range(3):
        delta = toy.next()
        replica.apply(delta)
        recorder.on_delta(delta, replica)
        recorder.on_frame(Frame(jpeg(i), S, i), Verdict(i, "tracked"))
    assert recorder.dropped["frames"] == 3
    assert recorder.dropped["deltas"] == 3
    go.set()
    recorder.close()


def test_many_small_things_that_wait_count_for_what_they_take(tmp_path, monkeypatch):
    monkeypatch.setattr(sink_module, "MAX_BACKLOG_BYTES", 10 * sink_module.JOB_BYTES)
    recorder, busy, go = Recorder(tmp_path / "out.mcap"), threading.Event(), threading.Event()
    recorder._backlog.offer(lambda: (busy.set(), go.wait(10)), 1)
    assert busy.wait(10)
    for i in range(50):
        recorder.on_frame(Frame(b"", S, i), Verdict(i, "tracked"))
    assert recorder.dropped["frames"] == 41  # one byte is taken already
    go.set()
    recorder.close()


def test_a_recording_is_never_overwritten_unless_that_is_asked_for(tmp_path):
    (tmp_path / "out.mcap").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        Recorder(tmp_path / "out.mcap")
    assert (tmp_path / "out.mcap").read_text() == "mine"
    recorded(tmp_path / "out.mcap", overwrite=True)
    with pytest.raises(OutputError, match="does not exist"):
        Recorder(tmp_path / "nowhere" / "out.mcap")


def test_a_full_disk_ends_the_recording_and_not_the_stream(tmp_path, caplog):
    recorder = Recorder(tmp_path / "out.mcap")
    idle = threading.Event()
    recorder._backlog.offer(idle.set, 1)
    assert idle.wait(10)
    disk = recorder._file
    recorder._file = recorder._writer._file = Path("/dev/full").open("wb")  # noqa: SIM115
    disk.close()
    recorder.on_frame(Frame(jpeg(0), S, 0), Verdict(0, "keyframe", pose(0)))
    recorder._backlog.offer(recorder._writer.flush, 1)
    with pytest.raises(OutputError, match=r"No space left|broke off"):
        recorder.close()
    recorder.on_frame(Frame(jpeg(0), S, 0), Verdict(0, "keyframe", pose(0)))
    assert recorder.dropped["frames"] == 1
    assert "No space left" in caplog.text


def test_a_disk_that_hangs_does_not_hold_up_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(sink_module, "CLOSING_SECONDS", 0.01)
    recorder, go = Recorder(tmp_path / "out.mcap"), threading.Event()
    recorder._backlog.offer(lambda: go.wait(10), 1)
    with pytest.raises(OutputError, match="too slow"):
        recorder.close()
    go.set()
    monkeypatch.undo()
    recorder.close()


def test_recordings_without_a_map_say_so(tmp_path):
    Recorder(tmp_path / "out.mcap").close()
    with pytest.raises(StreamError, match="holds no map"):
        recorded_map(tmp_path / "out.mcap")


KILLED = """
import sys
import threading
sys.path[:0] = ["{root}", "{root}/tests", "{root}/tests/stream/ros"]
from test_record import Frame, MapMessages, Recorder, Replica, S, ToyMap, Verdict, jpeg, pose
recorder = Recorder(sys.argv[1], messages=MapMessages(period_s=0))
toy, replica = ToyMap(5), Replica()
waiting = threading.Semaphore(8)  # frames that are not written yet, as a camera's would be
def film(i):
    while not waiting.acquire(timeout=0.1):
        if recorder.failure is not None:
            sys.exit(1)
    recorder.on_frame(Frame(jpeg(i % 20), (i + 1) * S, i), Verdict(i, "keyframe", pose(i)))
    recorder._backlog.offer(waiting.release, 1)
for i in range(20):
    film(i)
    delta = toy.next()
    replica.apply(delta)
    recorder.on_delta(delta, replica)
recorder._backlog.offer(recorder._writer.flush, 1)
recorder._backlog.offer(lambda: print("on disk", flush=True), 1)
for i in range(20, 10**9):
    film(i)
"""


def test_a_process_that_is_killed_leaves_what_it_had_flushed(tmp_path):
    path = tmp_path / "out.mcap"
    code = textwrap.dedent(KILLED).format(root=ROOT)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "on disk\n"
    process.send_signal(signal.SIGKILL)
    process.wait(30)

    toy, replica = ToyMap(5), Replica()
    for _ in range(20):
        replica.apply(toy.next())
    assert write_document(recorded_map(path).snapshot()) == write_document(replica.snapshot())
    frames = list(BagSource(path, fixed_frame="map"))
    assert len(frames) >= 20
    np.testing.assert_allclose(frames[19].pose, MAP_FROM_WORLD @ pose(19), atol=1e-12)

    found = 0
    with path.open("rb") as file:  # the reference reader goes as far as the file does
        try:
            for _ in NonSeekingReader(file).iter_messages(log_time_order=False):
                found += 1
        except McapError:
            pass
    assert found >= 100
