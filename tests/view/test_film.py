"""The video of a page: one at a time, only for who waits for it, and nobody waits for its end."""

import subprocess
import sys
import threading

import pytest
from small_room import small_room

from ffsplat.errors import FFSplatError, UsageError
from ffsplat.view import film
from ffsplat.view.film import Film

PATIENCE = 30.0
ENDLESS = """
import sys, threading
from ffsplat.cli.environment import leave
from ffsplat.view import film

begun = threading.Event()
def orbit_video(scene, progress):
    begun.set()
    threading.Event().wait()
film.orbit_video = orbit_video
one = film.Film(lambda action: action(), print)
one.start(None, lambda: True, print)
begun.wait()
one.stop()
sys.exit(leave(130))
"""


class Drawing:
    """A video of two frames; the second one is drawn when it is let go."""

    def __init__(self):
        self.first, self.go, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.delivered: list[tuple[str, bytes]] = []
        self.errors: list[FFSplatError] = []
        self.said: list[str] = []
        self.is_wanted = True
        self.film = Film(self._run, self.said.append)

    def __call__(self, scene, progress):
        progress(0)
        self.first.set()
        assert self.go.wait(PATIENCE)
        progress(1)
        return "orbit.mp4", b"video"

    def start(self) -> None:
        deliver = lambda name, content: self.delivered.append((name, content))  # noqa: E731
        self.film.start(small_room(10), lambda: self.is_wanted, deliver)

    def end(self) -> None:
        self.go.set()
        assert self.ended.wait(PATIENCE)

    def _run(self, action) -> None:
        try:
            action()
        except FFSplatError as error:
            self.errors.append(error)
        finally:
            self.ended.set()


@pytest.fixture
def drawing(monkeypatch):
    drawing = Drawing()
    monkeypatch.setattr(film, "orbit_video", drawing)
    drawing.start()
    assert drawing.first.wait(PATIENCE)
    yield drawing
    drawing.end()


def test_a_video_is_delivered_and_its_progress_said(drawing):
    drawing.end()
    assert drawing.delivered == [("orbit.mp4", b"video")]
    assert drawing.said == [
        "drawing frame 1 of 48", "drawing frame 2 of 48", "orbit.mp4 is among the downloads",
    ]  # fmt: skip


def test_a_second_video_waits_for_the_first(drawing):
    with pytest.raises(UsageError, match="a video is being drawn"):
        drawing.start()
    drawing.end()
    drawing.ended.clear()
    drawing.start()
    drawing.end()
    assert len(drawing.delivered) == 2


def test_a_video_ends_with_the_page_that_wanted_it(drawing):
    drawing.is_wanted = False
    drawing.end()
    assert [str(error) for error in drawing.errors] == ["the page that wanted a video is gone"]
    assert not drawing.delivered


def test_a_video_ends_with_its_viewer(drawing):
    drawing.film.stop()
    drawing.end()
    assert len(drawing.errors) == 1
    assert not drawing.delivered


def test_a_command_does_not_wait_for_a_frame_that_is_drawn():
    done = subprocess.run([sys.executable, "-c", ENDLESS], timeout=PATIENCE, capture_output=True)
    assert (done.returncode, done.stderr) == (130, b"")
