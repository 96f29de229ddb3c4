"""`ffsplat view`: what it opens, what it says, what it refuses, and how it ends."""

import re
import signal
import subprocess
import sys
from urllib.request import urlopen

import numpy as np
import pytest
from command import run
from PIL import Image

from ffsplat.io import write_cameras
from ffsplat.stream.server.serve import ServerThread
from ffsplat.stream.server.settings import ServerSettings
from ffsplat.types import Cameras
from tests.stream.server.standin import StandIn

LOCAL = ("--port", "0", "--no-browser")


class Stopped:
    """A stop that came already."""

    received = signal.SIGINT
    exit_code = 130

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def at_once(monkeypatch):
    """Let the command end as soon as it serves; what it would have opened is listed."""
    opened = []
    monkeypatch.setattr("ffsplat.cli.following.GentleStop", Stopped)
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    return opened


def test_the_page_is_served_until_ctrl_c(scene_file):
    command = [sys.executable, "-m", "ffsplat", "view", str(scene_file), *LOCAL]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stderr is not None
        url = re.search(rb"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert url is not None
        with urlopen(url[0].decode()) as answer:
            assert b"<html" in answer.read()[:200]
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (130, b"", b"")


def test_the_browser_is_opened_unless_told_otherwise(scene_file, at_once):
    outcome = run("view", scene_file, "--port", 0)
    assert [f"viewing at {url}\n" for url in at_once] == [outcome.err]
    assert run("view", scene_file, *LOCAL).code == 130
    assert len(at_once) == 1


def test_another_host_is_warned_of_in_one_line(scene_file, at_once):
    outcome = run("view", scene_file, "--host", "0.0.0.0", *LOCAL)
    warning, address = outcome.err.splitlines()
    assert warning.startswith("warning: whoever has the address below sees the scene")
    assert "/?token=" in address


def test_cameras_and_photos_are_shown(scene_file, at_once, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("ffsplat.view.frusta.Frusta.show", lambda self, scene: shown.append(scene))
    one = np.eye(4, dtype=np.float32)[None], np.eye(3, dtype=np.float32)[None]
    write_cameras(
        Cameras(*one, np.array([[4, 3]], np.int32), ("a.jpg",)), tmp_path / "cameras.json"
    )
    options = ("--cameras", tmp_path / "cameras.json", "--photos", tmp_path)
    assert run("view", scene_file, *options, *LOCAL).code == 130
    assert shown[0].cameras.names == ("a.jpg",)


def test_photos_that_are_not_shown_are_said(scene_file, at_once, tmp_path):
    file, folder = tmp_path / "cameras.json", tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (4, 3)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no photo")
    names = ("a.png", "b.png", "c.png")
    eyes = (np.stack([np.eye(n, dtype=np.float32)] * 3) for n in (4, 3))
    write_cameras(Cameras(*eyes, np.full((3, 2), 4, np.int32), names), file)
    outcome = run("view", scene_file, "--photos", folder, *LOCAL)
    assert "warning: the scene has no cameras to show photos of: --cameras" in outcome.err
    outcome = run("view", scene_file, "--photos", folder, "--cameras", file, *LOCAL)
    assert f"warning: 2 of 3 photos of the cameras are not in {folder}, or" in outcome.err


def test_a_stream_is_followed(at_once, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("# one a line\n\n0123456789abcdef 2999-01-01\n")
    settings = ServerSettings(port=0, drain=2.0, token_file=file)
    with ServerThread(StandIn(), None, settings) as server:
        url = server.address.stream
        outcome = run("view", url, "--token-file", file, *LOCAL)
        assert (outcome.code, len(outcome.err.splitlines())) == (130, 1)
        outcome = run("view", url, *LOCAL)
        assert outcome.code == 1
        assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["{scene}", "--token-file", "t"], 2, "--token-file is for a stream"),
        (["ws://127.0.0.1:9", "--photos", "."], 2, "--photos is for a scene that is a file"),
        (["ws://127.0.0.1:9", "--cameras", "c"], 2, "--cameras is for a scene that is a file"),
        (["ws://127.0.0.1:9", "--token-file", "none"], 2, "cannot read the token file"),
        (["ws://127.0.0.1:9"], 1, "hint: ffsplat stream SOURCE --serve starts a server"),
        (["ws://"], 2, "error: ws:// is no WebSocket URL"),
        (["http://127.0.0.1:9"], 2, "http://127.0.0.1:9 is no address of a stream"),
        (["{scene}", "--photos", "none"], 2, "none is no folder"),
        (["none.ply"], 1, "hint: check its name and folder"),
        (["{scene}", "--cameras", "{scene}"], 1, "hint: infer writes one with --cameras-out"),
        (["{scene}", "--host", "203.0.113.7"], 2, "hint: --host takes an address of this machine"),
        (["{scene}", "--max-splats", "0"], 2, "--max-splats"),
    ],
)
def test_mistakes_are_named(arguments, code, told, scene_file, at_once):
    outcome = run("view", *(text.format(scene=scene_file) for text in arguments), *LOCAL)
    assert outcome.code == code
    assert told in outcome.err
    assert "Traceback" not in outcome.err
    assert [line.partition(": ")[0] for line in outcome.err.splitlines()][-2:] == ["error", "hint"]
