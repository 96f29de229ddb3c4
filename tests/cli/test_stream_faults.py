"""What of a stream fails at its start: one error, one hint, and nothing is left behind."""

import socket
from pathlib import Path

import pytest
from command import Outcome

from ffsplat.cli.stream_plan import CLIENT_SPLATS
from ffsplat.stream.replica.replica import MAX_SPLATS
from tests.cli.standing import stream

OUT = ["--out", "s.ply"]


def told(outcome: Outcome) -> str:
    """What a command says that fails as it should: one error, one hint at the end."""
    lines = outcome.err.splitlines()
    kinds = [line.partition(": ")[0] for line in lines]
    assert (kinds.count("error"), kinds.count("hint")) == (1, 1), outcome.err
    assert kinds[-2:] == ["error", "hint"]
    assert "Traceback" not in outcome.err
    assert "internal" not in outcome.err
    assert outcome.code in (1, 2, 5)
    return "\n".join(lines[-2:])


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder full of things that are no sources, where the command runs."""
    for name in ("empty", "video.mp4", "ride.mcap", "walk", "packed"):
        (tmp_path / name).mkdir()
    (tmp_path / "walk" / "metadata.yaml").write_text("rosbag2_bagfile_information:")
    (tmp_path / "packed" / "metadata.yaml").write_text("compression_mode: FILE")
    (tmp_path / "packed" / "a.db3.zstd").write_bytes(b"hello")
    for suffix in ("mp4", "mcap", "bag", "db3", "pem", "tokens"):
        (tmp_path / f"zero.{suffix}").touch()
        (tmp_path / f"text.{suffix}").write_text("hello\n" * 99)
    (tmp_path / "cut.mcap").write_bytes(b"\x89MCAP0\r\n\x01\x20" + bytes(9))
    (tmp_path / "cut.bag").write_bytes(b"#ROSBAG V2.0\n\x45\0\0\0\x0b\0\0\0conn_")
    (tmp_path / "long.tokens").write_text("0123456789abcdef\n" * 9000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("text.tokens", "no video, or damaged"),
        ("empty", "no images found in empty/"),
        ("empty/*.jpg", "no images match"),
        ("text.mp4", "no video, or damaged"),
        ("zero.mp4", "no video, or damaged"),
        ("video.mp4", "no images found"),
        ("gone.mp4", "no video file gone.mp4"),
        ("zero.mcap", "ends too early"),
        ("text.mcap", "no MCAP file"),
        ("cut.mcap", "breaks off before the first topic"),
        ("ride.mcap", "holds no recording"),
        ("gone.mcap", "no bag gone.mcap"),
        ("zero.bag", "cannot read zero.bag"),
        ("text.bag", "cannot read text.bag"),
        ("cut.bag", "cannot read cut.bag"),
        ("zero.db3", "cannot read zero.db3"),
        ("walk", "holds no recording"),
        ("packed", "cannot unpack a.db3.zstd"),
        ("x" * 300, "file name too long"),
        ("webcam:x", "webcam"),
        ("rtsp://127.0.0.1:1/a", "connection refused"),
        ("ros2:/a", "there is no rclpy"),
        ("zenoh:a//b", "zenoh refuses the key a//b"),
        ("zenoh:a?connect=b", "zenoh refuses b"),
        ("zenoh:a?listen=tcp/1.2.3.4:5", "zenoh cannot listen on tcp/1.2.3.4:5"),
    ],
)
def test_what_is_no_source_is_refused_with_a_hint(mapper, place, source, message):
    before = set(place.rglob("*"))
    assert message in told(stream(source, *OUT))
    assert "/root/" not in told(stream(source, *OUT))
    assert set(place.rglob("*")) == before
    assert mapper.options == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "gone/s.ply"], "folder gone does not exist"),
        (["--out", "empty"], "empty is a folder"),
        (["--out", "x" * 300 + ".ply"], "is too long"),
        (["--record", "gone/a.mcap"], "folder gone does not exist"),
        (["--record", "zero.mcap"], "already exists"),
        ([*OUT, "--window", "1"], "'--window'"),
        ([*OUT, "--seconds", "0"], "'--seconds'"),
        ([*OUT, "--max-splats", "99999999"], "'--max-splats'"),
        (["--serve", "--max-splats", "9999999"], "at most 2097152 Gaussians"),
        ([*OUT, "--queries", "chair", "--to", "spz"], "--queries means nothing to spz"),
        (["--publish", "zenoh:a//b"], "zenoh refuses the key a//b"),
        ([*OUT, "--checkpoint", "gone/state"], "no checkpoints in gone/state"),
        ([*OUT, "--checkpoint", "text.pem"], "no checkpoints in text.pem: File exists"),
        (["--serve", "--token-file", "gone"], "cannot read the token file gone"),
        (["--serve", "--token-file", "zero.tokens"], "holds no token"),
        (["--serve", "--token-file", "text.tokens"], "shorter than 16"),
        (["--serve", "--token-file", "long.tokens"], "larger than 64 KiB"),
        (["--serve", "--tls-key", "text.pem"], "TLS needs a certificate and its key"),
        (["--serve", "--tls-cert", "gone", "--tls-key", "gone"], "gone: No such file"),
        (["--serve", "--tls-cert", "text.pem", "--tls-key", "text.pem"], "cannot use text.pem"),
        (["--serve", "--host", "a.invalid", "--token-file", "good.tokens"], "a.invalid:8765"),
    ],
)
def test_options_that_cannot_be_are_refused_with_a_hint(mapper, place, clip, options, message):
    (place / "good.tokens").write_text("0123456789abcdef")
    (place / "good.tokens").chmod(0o600)
    before = set(place.rglob("*"))
    assert message in told(stream(clip, *options))
    assert set(place.rglob("*")) == before


def test_a_map_that_is_served_fits_into_its_copies():
    assert CLIENT_SPLATS == MAX_SPLATS


def test_a_port_in_use_and_one_for_root_have_their_hints(mapper, clip, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "hint: --port 0" in told(stream(clip, "--serve", "--port", port))

    def bind(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", bind)
    assert "below 1024" in told(stream(clip, "--serve", "--port", 80))


def test_a_folder_that_may_not_be_looked_into_is_no_empty_one(mapper, clip, place, monkeypatch):
    """Else a stream would begin anew, and in the end replace the map that it was to go on from."""

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "glob", refuse)
    outcome = stream(clip, *OUT, "--checkpoint", "empty", "--resume")
    assert "no checkpoints in empty: Permission denied\nhint: have its perm" in told(outcome)


def test_sources_that_may_not_be_read_are_inputs_that_fail(mapper, place, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(Path, "is_file", refuse)
    outcome = stream("locked", *OUT)
    assert "cannot open locked: permission denied\nhint: have its perm" in told(outcome)
    assert outcome.code == 1


@pytest.mark.parametrize(
    "options", [["CLIP", "--out", "s.ply"], ["CLIP", "--serve"], ["--serve"]], ids=" ".join
)
def test_a_network_that_cannot_be_run_ends_the_stream(mapper, clip, tmp_path, monkeypatch, options):
    def fail():
        raise RuntimeError("cold")

    mapper.warm = fail
    monkeypatch.chdir(tmp_path)
    outcome = stream(*[clip if word == "CLIP" else word for word in options], "--port", 0)
    assert "error: the network cannot be run: RuntimeError: cold\nhint: --debug" in told(outcome)
    assert outcome.code == 1
    assert list(tmp_path.iterdir()) == [clip]
