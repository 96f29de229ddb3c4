"""`ffsplat stream`: from a source to a scene, signals, limits, and what is refused early."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
import zenoh
from rtsp_camera import Camera
from small_room import small_room

from ffsplat.cli import following
from ffsplat.errors import StreamError
from ffsplat.io import load_scene
from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.ros.record import recorded_deltas
from ffsplat.stream.sources import Source
from tests.cli.standing import rows, stream
from tests.stream.mappers import Gate, StandIn, jpeg, picture


def test_a_video_becomes_a_scene(mapper, clip, tmp_path):
    outcome = stream(clip, "--out", tmp_path / "scene.ply")
    assert (outcome.code, outcome.err) == (0, "")
    assert [number for number, *_ in mapper.seen] == list(range(12))
    assert len(load_scene(tmp_path / "scene.ply")) == len(small_room())
    told = rows(outcome)
    assert told["frames"].endswith("12 used: 12 keyframes, 0 tracked")
    assert told["dropped"] == "none"
    assert told["map"] == "120 splats, 1 submaps, 0 loops"
    assert told["network"].startswith("p50 2.")
    assert told["model"] == "stand-in (1), licence CC0-1.0"
    assert told["written"].startswith(str(tmp_path / "scene.ply"))


def test_json_has_the_frames_by_reason_and_the_latency_by_stage(mapper, clip, tmp_path):
    mapper.answer("keyframe", "tracked", "blurred", "tracked", ValueError("no"))
    facts = json.loads(stream(clip, "--out", tmp_path / "scene.ply", "--json").out)
    assert facts["frames"] == {
        "received": 12, "keyframe": 8, "tracked": 2, "dropped": {"blurred": 1, "model_error": 1},
        "missed": 0,
    }  # fmt: skip
    assert facts["map"] == {"splats": 80, "submaps": 1, "loops": 0, "epoch": 0}
    assert set(facts["latency_ms"]) >= {"decode", "queue", "network", "fuse", "total"}
    assert 1.9 < facts["latency_ms"]["network"]["p50"] < 2.1
    assert facts["source"] == str(clip)
    assert [Path(name).name for name in facts["files"]] == [
        "scene.ply", "scene.codebook.safetensors",
    ]  # fmt: skip


def test_options_reach_the_model_the_mapper_and_the_source(mapper, clip, tmp_path):
    options = ["--model", "x", "--device", "cpu", "--dtype", "float32", "--offline"]
    bounds = ["--max-splats", 1000, "--window", 4, "--fps", 5]
    assert stream(clip, "--out", tmp_path / "s.ply", *options, *bounds, "--quiet").out == ""
    assert mapper.options == {
        "model": "x", "device": "cpu", "dtype": "float32", "offline": True, "revision": None,
        "accept_license": False, "max_splats": 1000, "window": 4,
    }  # fmt: skip
    assert [number for number, *_ in mapper.seen] == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("options", [[], ["--realtime", 1000]], ids=["recording", "live"])
def test_only_a_live_source_is_dropped(mapper, clip, tmp_path, monkeypatch, options):
    plain, numbers, gate = following.Engine.offer, iter(range(1, 13)), Gate()
    mapper.answer(gate)  # of the first frame

    def offer(engine, *frame):
        number = next(numbers)
        assert number == 1 or gate.reached.wait(30)
        if number == 6 and not options:  # one is in work, four wait: this one waits for room
            threading.Timer(0.3, gate.set).start()
        plain(engine, *frame)
        if number == 12:
            gate.set()

    monkeypatch.setattr(following.Engine, "offer", offer)
    frames = json.loads(stream(clip, "--out", tmp_path / "s.ply", "--json", *options).out)["frames"]
    assert (frames["received"], frames["dropped"]) == (12, {"queue_full": 7} if options else {})


def test_the_number_of_frames_has_a_limit(mapper, clip, tmp_path):
    stream(clip, "--out", tmp_path / "s.ply", "--max-frames", 5)
    assert len(mapper.seen) == 5


def test_a_network_camera_is_read_until_the_time_is_up(mapper, tmp_path):
    with Camera(2000) as camera:
        outcome = stream(camera.address(), "--out", tmp_path / "s.ply", "--seconds", 0.5, "--json")
    facts = json.loads(outcome.out)
    assert outcome.code == 0
    assert facts["source"] == f"rtsp://127.0.0.1:{camera.port}/front"
    assert facts["frames"]["keyframe"] > 0


def test_photos_that_cannot_be_read_give_code_3(mapper, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(jpeg(picture()))
    (folder / "2.jpg").write_bytes(b"hello")
    outcome = stream(folder, "--out", tmp_path / "s.ply")
    assert outcome.code == 3
    assert "cannot read 2.jpg: not an image in a known format" in outcome.err
    assert rows(outcome)["dropped"] == "1 undecodable"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_stream_and_the_scene_is_written(mapper, clip, tmp_path, number, code):
    add = mapper.add

    def add_and_signal(*arguments, **options):
        if len(mapper.seen) == 3:
            os.kill(os.getpid(), number)
        return add(*arguments, **options)

    mapper.add = add_and_signal
    before = signal.getsignal(number)
    outcome = stream(clip, "--out", tmp_path / "s.ply", "--realtime", 1, "--json")
    assert outcome.code == code
    assert signal.getsignal(number) is before
    frames = json.loads(outcome.out)["frames"]
    assert 4 <= frames["received"] < 12
    assert load_scene(tmp_path / "s.ply")


def test_a_signal_before_anything_was_mapped_leaves_no_file(mapper, clip, tmp_path):
    def cover(*_, number, **__):
        if number == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return Verdict(number, "covered")

    mapper.add = cover
    outcome = stream(clip, "--out", tmp_path / "s.ply", "--realtime", 1)
    assert outcome.code == 130
    assert "warning: nothing has been mapped yet" in outcome.err
    assert not (tmp_path / "s.ply").exists()


def test_the_second_signal_interrupts():
    with following.GentleStop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


class Broken(Source):
    """A camera that is lost after three frames."""

    name, live = "camera", True

    def __iter__(self):
        for number in range(3):
            yield Frame(picture(50 + number), number, number)
        raise StreamError("camera is lost", "mend it")

    def close(self):
        pass


def test_a_camera_that_is_lost_is_an_error_but_what_was_seen_is_kept(mapper, tmp_path, monkeypatch):
    monkeypatch.setattr("ffsplat.stream.sources.open_source", lambda text, **_: Broken())
    outcome = stream("rtsp://h/a", "--out", tmp_path / "s.ply")
    assert outcome.code == 1
    assert outcome.err == "error: camera is lost\nhint: mend it\n"
    assert rows(outcome)["frames"].endswith("3 used: 3 keyframes, 0 tracked")
    assert load_scene(tmp_path / "s.ply")


def test_a_stream_without_a_usable_frame_is_an_error(mapper, clip, tmp_path):
    mapper.answer(*["covered"] * 12)
    outcome = stream(clip, "--out", tmp_path / "s.ply")
    assert outcome.code == 1
    assert "error: nothing has been mapped yet" in outcome.err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mapper_that_dies_is_an_error_but_what_was_seen_is_kept(mapper, clip, tmp_path):
    def add(*arguments, number, **options):
        return sys.exit() if number == 3 else StandIn.add(mapper, *arguments, number=number)

    mapper.add = add
    outcome = stream(clip, "--out", tmp_path / "s.ply", "--realtime", 1)
    assert outcome.code == 1
    assert "error: the mapper failed: the stream ended before its time" in outcome.err
    assert load_scene(tmp_path / "s.ply")


def test_the_state_is_saved_and_a_stream_goes_on_from_it(mapper, clip, tmp_path):
    folder = tmp_path / "state"
    options = ["--checkpoint", folder, "--checkpoint-every", 5]
    stream(clip, "--out", tmp_path / "s.ply", *options)
    assert max(folder.iterdir()).read_text() == "12"
    mapper.keyframes = 1000  # of a mapper that must not be used
    outcome = stream(clip, "--out", tmp_path / "t.ply", *options, "--resume", "--json")
    assert json.loads(outcome.out)["map"]["splats"] == 240
    assert mapper.keyframes == 1000


def test_a_state_that_could_not_be_saved_is_an_error_in_the_end(mapper, clip, tmp_path):
    def save(path):
        raise OSError(28, "No space left on device")

    mapper.save = save
    folder = tmp_path / "state"
    outcome = stream(clip, "--out", tmp_path / "s.ply", "--checkpoint", folder)
    assert outcome.code == 5
    assert f"error: the last frames are in no checkpoint of {folder}" in outcome.err
    assert load_scene(tmp_path / "s.ply")


def test_resuming_from_nothing_begins_anew_and_says_so(mapper, clip, tmp_path):
    options = ["--checkpoint", tmp_path / "state", "--resume"]
    outcome = stream(clip, "--out", tmp_path / "s.ply", *options)
    assert outcome.code == 0
    assert "nothing to go on from" in outcome.err


def test_the_map_is_served_until_a_signal_comes(mapper, clip, tmp_path, monkeypatch):
    opened = []

    def look(address: str) -> bool:
        with urllib.request.urlopen(f"{address}healthz", timeout=10) as answer:
            opened.append(answer.status)
        return True

    def add(*arguments, number, **options):
        if number == 11:  # the end of the source is not the end of the server
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return StandIn.add(mapper, *arguments, number=number, **options)

    monkeypatch.setattr("webbrowser.open", look)
    mapper.add = add
    outcome = stream(clip, "--view", "--port", 0, "--out", tmp_path / "s.ply")
    assert outcome.code == 143
    assert outcome.err.startswith("serving at ws://127.0.0.1:")
    assert opened == [200]
    assert rows(outcome)["frames"].endswith("12 used: 12 keyframes, 0 tracked")


def test_a_camera_is_recorded_and_can_be_played_again(mapper, tmp_path):
    bag = tmp_path / "walk.mcap"
    with Camera(2000) as camera:
        outcome = stream(camera.address(), "--record", bag, "--max-frames", 8, "--json")
    facts = json.loads(outcome.out)
    assert (outcome.code, facts["files"]) == (0, [str(bag)])
    assert facts["frames"]["received"] == 8
    deltas = mapper.deltas
    mapper.answer()
    played = json.loads(stream(bag, "--out", tmp_path / "s.ply", "--json").out)
    assert played["frames"]["received"] == 8
    assert {shape for _, shape, *_ in mapper.seen} == {(48, 64, 3)}
    assert len(list(recorded_deltas(bag))) == deltas


def test_a_stream_is_published(mapper, clip, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"tcp/127.0.0.1:{free.getsockname()[1]}"
    heard = threading.Event()
    config = zenoh.Config()
    config.insert_json5("listen/endpoints", json.dumps([endpoint]))
    config.insert_json5("scouting/multicast/enabled", "false")
    keys = []

    def hear(sample) -> None:
        keys.append(str(sample.key_expr))
        if keys[-1] == "robot/deltas":
            heard.set()

    with zenoh.open(config) as session, session.declare_subscriber("robot/**", hear):
        outcome = stream(clip, "--publish", f"zenoh:robot?connect={endpoint}", "--realtime", 2)
        assert heard.wait(10)
    assert outcome.code == 0
    assert set(keys) >= {"robot/deltas"}


def test_without_ros_publishing_there_says_what_is_missing(mapper, clip):
    outcome = stream(clip, "--publish", "ros2")
    assert outcome.code == 2
    assert "error: there is no rclpy" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CLIP"], "nothing would come of the map"),
        (["--out", "s.ply"], "there is no source of frames"),
        (["-", "--out", "s.ply"], "there is no source of frames"),
        (["CLIP", "--out", "s.ply", "--resume"], "--resume needs the folder to go on from"),
        (["CLIP", "--out", "s.ply", "--record", "s.ply"], "two of the files are the same"),
        (["CLIP", "--out", "s.txt"], "no format is known for the name s.txt"),
        (["CLIP", "--serve", "--host", "0.0.0.0"], "refusing to listen on 0.0.0.0 without a token"),
        (["CLIP", "--serve", "--tls-cert", "a"], "TLS needs a certificate and its key"),
        (["nowhere", "--out", "s.ply"], "nowhere is no source of frames"),
        (["CLIP", "--publish", "mqtt:a"], "nobody publishes to mqtt:a"),
        (["--serve", "--fps", "3"], "--fps is for a source"),
        (["CLIP", "--out", "s.ply", "--topic", "/a"], "walk.mp4 has no topics"),
        (["CLIP", "--out", "s.ply", "--fps", "0"], "invalid value for '--fps'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_model_is_loaded(
    mapper, clip, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    outcome = stream(*[clip if word == "CLIP" else word for word in arguments])
    assert outcome.code == 2
    assert message in outcome.err
    assert mapper.options == {}


def test_files_that_exist_are_not_replaced_unasked(mapper, clip, tmp_path):
    (tmp_path / "s.ply").write_text("mine")
    assert stream(clip, "--out", tmp_path / "s.ply").code == 5
    assert mapper.options == {}
    assert stream(clip, "--out", tmp_path / "s.ply", "--overwrite").code == 0


def test_help_loads_neither_numpy_nor_torch():
    check = (
        "import sys; from ffsplat.cli import app; from ffsplat.cli.environment import StopSignals;"
        "app.run(['stream', '--help'], StopSignals());"
        "print([name for name in ('numpy', 'torch', 'av', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_scene_is_written_in_the_format_of_its_name(mapper, clip, tmp_path):
    outcome = stream(clip, "--out", tmp_path / "scene.spz", "--spz-version", 3)
    assert outcome.code == 0
    assert "note: spz does not carry" in outcome.err
    assert len(load_scene(tmp_path / "scene.spz")) == len(small_room())
    assert (
        "--queries means nothing to spz"
        in stream(clip, "--out", tmp_path / "other.spz", "--queries", "chair").err
    )
