"""What is sent to the pages, and when."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from ffsplat.types import Gaussians
from ffsplat.view.packing import colored, shapes
from ffsplat.view.screen import Packer, Picture, Screen
from tests.io.scenes import random_gaussians
from tests.view.nodes import Server

PATIENCE = 10.0
HERE = np.eye(4)


def picture(gaussians: Gaussians, groups: np.ndarray | None = None) -> Picture:
    visible = np.ones(len(gaussians), bool)
    return Picture(gaussians, gaussians.colors, gaussians.opacities, visible, groups)


def test_all_that_is_visible_is_one_part():
    gaussians = random_gaussians(10)
    shown = replace(picture(gaussians), visible=np.arange(10) % 2 == 0)
    (words,) = Packer().parts(shown, 100, HERE).values()
    expected = colored(shapes(gaussians), gaussians.colors, gaussians.opacities)
    assert (words == expected[::2]).all()


def test_nothing_visible_is_one_that_cannot_be_seen():
    shown = replace(picture(random_gaussians(4)), visible=np.zeros(4, bool))
    (words,) = Packer().parts(shown, 100, HERE).values()
    assert words.tolist() == [[0] * 8]


def test_over_budget_those_that_matter_stay_and_grow():
    gaussians = random_gaussians(100)
    opacities = np.where(np.arange(100) < 25, 1.0, 0.0).astype(np.float32)
    shown = picture(replace(gaussians, opacities=opacities))
    (words,) = Packer().parts(shown, 25, HERE).values()
    assert (words[:, :3] == shapes(gaussians)[:25, :3]).all()
    own = np.ascontiguousarray(shapes(gaussians)[:25, 4:7]).view(np.float16).astype(float)
    sent = np.ascontiguousarray(words[:, 4:7]).view(np.float16).astype(float)
    np.testing.assert_allclose(sent, 4 * own, rtol=1e-3)


def test_the_fewer_are_drawn_of_a_group_the_more_groups_are_one_part():
    shown = picture(random_gaussians(100), np.arange(100) // 10)
    assert list(Packer().parts(shown, 100, HERE)) == list(range(10))
    parts = Packer().parts(shown, 25, HERE)
    assert set(parts) <= {0, 1, 2}
    assert sum(map(len, parts.values())) == 25


def test_shapes_are_made_again_only_for_other_gaussians(monkeypatch):
    made = []
    monkeypatch.setattr("ffsplat.view.screen.shapes", lambda g: made.append(g) or shapes(g))
    packer, gaussians = Packer(), random_gaussians(5)
    packer.parts(picture(gaussians), 9, HERE)
    packer.parts(picture(replace(gaussians, opacities=gaussians.opacities / 2)), 9, HERE)
    assert len(made) == 1
    packer.parts(picture(random_gaussians(5)), 9, HERE)
    assert len(made) == 2


@pytest.fixture
def large(monkeypatch):
    """A screen that shows 1000 Gaussians, and how to wait for its next picture."""
    monkeypatch.setattr("ffsplat.view.detail.FIRST", 500)
    monkeypatch.setattr("ffsplat.view.detail.FEWEST", 10)
    monkeypatch.setattr("ffsplat.view.detail.STILL_SECONDS", 600.0)
    gaussians, drawn = random_gaussians(1000), threading.Semaphore(0)
    screen = Screen(Server(), lambda: picture(gaussians), 800)
    screen.on_drawn = drawn.release

    def wait() -> tuple[int, int]:
        assert drawn.acquire(timeout=PATIENCE)
        return screen.drawn

    screen.start()
    yield screen, wait
    screen.stop()


def test_a_page_that_nothing_is_known_of_gets_a_first_helping(large):
    _, wait = large
    assert wait() == (500, 1000)


def test_a_page_that_can_bear_more_is_given_more_at_rest(large):
    screen, wait = large
    wait()
    screen.told(500, 0.5)
    assert wait() == (800, 1000)  # a second's worth is 1000, the most is 800


def test_a_moving_page_is_given_less_until_it_rests(large, monkeypatch):
    screen, wait = large
    wait()
    screen.told(500, 0.5)
    wait()
    screen.note_camera(0, HERE)
    assert wait() == (250, 1000)
    assert screen.is_moving
    assert not screen.is_settled
    monkeypatch.setattr("ffsplat.view.detail.STILL_SECONDS", 0.0)
    monkeypatch.setattr("ffsplat.view.detail.LONGEST_STILL", 0.0)
    screen.request()
    assert wait() == (800, 1000)
    assert not screen.is_moving


def test_a_page_that_leaves_in_motion_is_forgotten(large):
    screen, wait = large
    wait()
    screen.note_camera(3, HERE)
    wait()
    screen.forget(3)
    assert not screen.is_moving


def test_a_picture_that_fails_is_not_the_last(monkeypatch):
    gaussians, drawn, calls = random_gaussians(3), threading.Semaphore(0), []

    def look() -> Picture:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("a picture that cannot be made")
        return picture(gaussians)

    screen = Screen(Server(), look, 10)
    screen.on_drawn = drawn.release
    failed = threading.Event()
    monkeypatch.setattr("logging.Logger.exception", lambda *_: failed.set())
    screen.start()
    try:
        assert failed.wait(PATIENCE)
        screen.request()
        assert drawn.acquire(timeout=PATIENCE)
    finally:
        screen.stop()
