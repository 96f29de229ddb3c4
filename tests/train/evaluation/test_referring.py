import numpy as np
import pytest

from data.rooms import render_rooms
from data.rooms.scene import build_scenes
from ffsplat.types import LEVELS
from train.evaluation.exact_scene import exact_scene
from train.evaluation.phrases import Known, Phrase, known_objects, phrases
from train.evaluation.referring import answer

SEED = 1000


@pytest.fixture(scope="module")
def room():
    return render_rooms([SEED], 4, 48, 64)


@pytest.fixture(scope="module")
def objects(room):
    return known_objects(build_scenes([SEED])[0], room)


def test_an_exact_scene_shows_every_pixel_at_its_true_place_with_its_label(room):
    scene = exact_scene(room)
    assert len(scene) == 4 * 48 * 64
    view, row, column = 2, 20, 33
    index = (view * 48 + row) * 64 + column
    pose = room.world_from_camera[0, view].numpy()
    local = (scene.gaussians.means[index] - pose[:3, 3]) @ pose[:3, :3]
    intrinsics = room.intrinsics[0, view].numpy()
    pixel = local[:2] / local[2] * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2]
    assert pixel == pytest.approx([column + 0.5, row + 0.5], abs=1e-2)
    assert local[2] == pytest.approx(float(room.depth[0, view, row, column]), abs=1e-4)
    assert scene.instances[index] == int(room.instance[0, view, row, column]) - 1
    whole = np.flatnonzero(scene.codebook.levels == LEVELS.index("whole"))
    assert whole[int(room.whole[0, view, row, column])] in scene.codes.ids[index]


def test_exact_boxes_hold_the_pixels_of_their_object(room, objects):
    scene = exact_scene(room)
    assert len(objects) > 5
    for known in objects:
        points = scene.gaussians.means[scene.instances == known.instance]
        assert (points >= known.low - 0.01).all()
        assert (points <= known.high + 0.01).all()


def known(instance, name, at, column=None, size=0.4):
    middle = np.array([*at, size / 2])
    mask = np.zeros((20, 100), bool)
    if column is not None:
        mask[5:15, column - 5 : column + 5] = True
    half = np.full(3, size / 2)
    return Known(instance, name, middle - half, middle + half, mask, at[1], 500)


def test_phrases_are_made_where_they_are_needed_and_clear():
    table = known(0, "table", (0, 3), 50)
    chairs = known(1, "chair", (-1, 3), 20), known(2, "chair", (1.5, 3), 80)
    made = set(phrases([table, *chairs]))
    assert Phrase("noun", "the table", 0) in made
    assert Phrase("left", "the chair left of the table", 1) in made
    assert Phrase("right", "the chair to the right of the table", 2) in made
    assert Phrase("nearest", "the chair nearest the table", 1) in made
    assert Phrase("farthest", "the chair farthest from the table", 2) in made
    assert not {phrase for phrase in made if phrase.kind in ("on", "above", "front", "largest")}


def test_a_noun_that_also_means_what_is_hardly_seen_has_no_phrases():
    table, chair = known(0, "table", (0, 3), 50), known(1, "chair", (-1, 3), 20)
    glimpsed = Known(2, "chair", chair.low, chair.high, chair.mask, 3, 10)
    assert {phrase.text for phrase in phrases([table, chair, glimpsed])} == {"the table"}


def test_a_table_is_any_kind_of_table():
    table, desk = known(0, "table", (0, 3), 50), known(1, "desk", (-1, 3), 20)
    assert "the table" not in {phrase.text for phrase in phrases([table, desk])}
    assert "the desk" in {phrase.text for phrase in phrases([table, desk])}


def test_the_phrases_of_a_room_are_mostly_answered(room, objects):
    scene = exact_scene(room)
    outcomes = [answer(scene, phrase)[0] for phrase in list(phrases(objects))[:30]]
    assert outcomes.count("right") > 0.8 * len(outcomes) > 4
