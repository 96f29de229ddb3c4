"""A person's walk through the viewer in a real browser: ask, click, change, save, take along."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_room import small_room

from ffsplat.io import load_scene
from ffsplat.types import Cameras
from ffsplat.view import viewing
from ffsplat.view.viewer import PANEL_WIDTH
from tests.stream.server.browser import Page
from tests.view.pages import CANVAS, click_at, open_viewer, press, says, shows, turn_to, until

COUNT = 400
WIDTH = 700
TABLE = slice(0, 120)


def share(picture: np.ndarray, color: tuple[int, int, int], tolerance: int = 60) -> float:
    """How much of the picture is nearly of a colour; the controls at the right do not count."""
    scene = picture[:, : WIDTH - PANEL_WIDTH]
    return float((np.abs(scene - np.array(color)).max(axis=-1) < tolerance).mean())


def red(picture: np.ndarray) -> float:
    return share(picture, (230, 25, 25))


def blue(picture: np.ndarray) -> float:
    return share(picture, (25, 25, 230))


def hot(picture: np.ndarray) -> float:
    return share(picture, (230, 220, 160), 50)


def selected(picture: np.ndarray) -> float:
    return share(picture, (98, 220, 222), 50)


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Where the screenshots stay, for whoever wants to look at them."""
    given = os.environ.get("FFSPLAT_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """The small room with a camera whose photo is yellow."""
    folder = tmp_path_factory.mktemp("viewer")
    Image.new("RGB", (40, 30), (255, 255, 0)).save(folder / "photo.png")
    intrinsics = np.array([[[20, 0, 20], [0, 20, 15], [0, 0, 1]]], np.float32)
    camera = Cameras(
        np.eye(4, dtype=np.float32)[None],
        intrinsics,
        np.array([[40, 30]], np.int32),
        ("photo.png",),
    )
    room = replace(small_room(COUNT), cameras=camera)
    with viewing(room, folder=folder, photos=[folder], port=0) as (viewer, url):
        yield viewer, url, folder


@pytest.fixture(scope="module")
def page(room, kept, chromium):
    with chromium.tab() as page:
        page.download_to(room[2] / "downloads")
        open_viewer(page, room[1], WIDTH)
        shows(page, lambda picture: share(picture, (255, 255, 0)) > 0.001, kept / "opened.png")
        press(page, "Cameras")  # they stand before the things
        shows(page, lambda picture: share(picture, (255, 255, 0)) == 0, kept / "no-cameras.png")
        yield page


def ask(page: Page, text: str) -> None:
    page.type("form input", text)


def place_of(room, row: int) -> tuple[float, float]:
    """Where in the window a Gaussian is seen."""
    viewer = room[0]
    (client,) = viewer._server.get_clients().values()
    camera = client.camera
    forward = camera.look_at - camera.position
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, camera.up_direction)
    right = right / np.linalg.norm(right)
    offset = viewer.session.scene.gaussians.means[row] - camera.position
    focal = camera.image_height / 2 / np.tan(camera.fov / 2)
    x = focal * (offset @ right) / (offset @ forward)
    y = focal * (offset @ np.cross(forward, right)) / (offset @ forward)
    return camera.image_width / 2 + x, camera.image_height / 2 + y


def middle_of(scene, rows: slice) -> int:
    """The Gaussian nearest to the centre of some."""
    means = scene.gaussians.means[rows]
    return rows.start + int(np.linalg.norm(means - means.mean(0), axis=1).argmin())


def test_the_scene_is_seen(page, kept):
    picture = shows(page, lambda p: red(p) > 0.005 and blue(p) > 0.003, kept / "scene.png")
    assert hot(picture) < 0.002


def test_a_question_lights_up_what_matches_and_greys_the_rest(page, room, kept):
    ask(page, "table")
    says(page, "1 match for 'table'")
    picture = shows(page, lambda p: hot(p) > 0.01, kept / "table.png")
    assert blue(picture) < 0.001
    assert red(picture) < 0.001


def test_an_unknown_word_is_one_line_on_the_page(page, room, kept, capfd):
    ask(page, "tabel")
    says(page, "did you mean table")
    assert capfd.readouterr() == ("", "")


def test_what_is_said_is_never_taken_for_html(page, room):
    room[0].panel.say("<img src=x onerror=window.broken=1>")
    says(page, "<img src=x")
    assert page.get("window.broken === undefined")


def test_a_match_can_be_flown_to(page, room, kept):
    (client,) = room[0]._server.get_clients().values()
    before = client.camera.position.copy()
    press(page, "1 table 1.00")
    until(lambda: not np.allclose(client.camera.position, before), "the camera did not move")
    picture = shows(page, lambda p: selected(p) > 0.03, kept / "flown.png")
    assert hot(picture) < 0.005
    x, y = place_of(room, middle_of(room[0].session.scene, TABLE))
    center = client.camera.image_width / 2, client.camera.image_height / 2
    np.testing.assert_allclose((x, y), center, atol=25)


def test_a_click_selects_the_thing_below(page, room, kept):
    viewer = room[0]
    ask(page, "sofa")
    says(page, "1 match for 'sofa'")
    press(page, "1 sofa 1.00")
    until(lambda: viewer.session.selected[120:200].all(), "the sofa is not selected")
    turn_to(page, "Select", "Clear")
    press(page, "Clear")
    until(lambda: not viewer.session.selected.any(), "something is selected")
    shows(page, lambda p: selected(p) == 0, kept / "nothing.png")
    click_at(page, *place_of(room, middle_of(viewer.session.scene, slice(120, 200))))
    until(lambda: viewer.session.selected.any(), "the click selected nothing")
    assert viewer.session.selected.nonzero()[0].tolist() == list(range(120, 200))
    shows(page, lambda p: selected(p) > 0.03, kept / "clicked.png")


def test_what_is_hidden_is_not_seen_until_all_is_shown(page, room, kept):
    press(page, "Hide")
    says(page, "80 Gaussians hidden")
    shows(page, lambda p: selected(p) + hot(p) < 0.001, kept / "hidden.png")
    press(page, "Show all")
    says(page, "80 Gaussians shown again")
    shows(page, lambda p: hot(p) > 0.03, kept / "shown.png")


def test_a_new_colour_is_seen_at_once_and_goes_again(page, room, kept):
    viewer = room[0]
    click_at(page, *place_of(room, middle_of(viewer.session.scene, slice(120, 200))))
    says(page, "80 Gaussians selected")
    turn_to(page, "Change", "Recolour")
    press(page, "Recolour")
    says(page, "80 Gaussians recoloured")
    shows(page, lambda p: selected(p) + blue(p) < 0.001 and red(p) > 0.03, kept / "red.png")
    press(page, "Undo")
    says(page, "the last change is undone")
    shows(page, lambda p: blue(p) > 0.003, kept / "blue.png")


def test_what_is_selected_can_be_removed_and_comes_back(page, room, kept):
    viewer = room[0]
    press(page, "Remove")
    says(page, "80 Gaussians removed")
    until(lambda: len(viewer.session.scene) == COUNT - 80, "nothing was removed")
    shows(page, lambda p: selected(p) == 0, kept / "removed.png")
    press(page, "Undo")
    until(lambda: len(viewer.session.scene) == COUNT, "nothing came back")


def test_a_selection_is_saved_by_its_name(page, room, kept):
    viewer, _, folder = room
    click_at(page, *place_of(room, middle_of(viewer.session.scene, slice(120, 200))))
    until(lambda: viewer.session.selected.any(), "the click selected nothing")
    turn_to(page, "Save", "Screenshot")
    press(page, "Save selection")
    says(page, "saved ")
    says(page, "selection.ply")
    assert len(load_scene(folder / "selection.ply")) == 80
    press(page, "Save selection")
    says(page, "already exists")
    page.picture(kept / "saved.png")


def test_a_screenshot_comes_as_a_download(page, room, kept):
    file = room[2] / "downloads" / "ffsplat.png"
    press(page, "Screenshot")
    until(lambda: file.exists() and file.stat().st_size > 0, "there is no download")
    size = page.get(f"[{CANVAS}.clientWidth, {CANVAS}.clientHeight]")
    with Image.open(file) as image:
        # A page draws fewer pixels than it has where it is slow.
        assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.02)
        pixels = np.asarray(image.convert("RGBA")).astype(int)
        image.save(kept / "download.png")
    assert (np.abs(pixels - [25, 150, 246, 255]).max(axis=-1) < 60).mean() > 0.02
