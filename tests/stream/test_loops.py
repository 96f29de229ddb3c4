import json

import pytest
import torch
from boxroom import cameras

from ffsplat.api import load
from ffsplat.images import load_views
from ffsplat.stream.loops import LIKENESS, LoopEvidence, confirm_loop
from tests.bench.walk import render_walk
from tests.stream.boxviews import box_views, posed, turned, with_disc

POSES = cameras(2, seed=1)[0]


def test_two_exact_views_of_one_place_are_a_loop():
    found = confirm_loop(posed(box_views(POSES)), 0, 1)
    assert found.ok
    assert found.overlap > 0.6
    assert found.agreement > 0.95
    assert found.likeness > 0.8


def test_the_same_geometry_in_other_colours_is_none():
    found = confirm_loop(posed(box_views(POSES, seeds=(0, 7))), 0, 1)
    assert found.overlap > 0.6
    assert abs(found.likeness) < 0.3
    assert not found.ok


def test_light_and_exposure_do_not_matter():
    shot = box_views(POSES)
    exact = confirm_loop(posed(shot), 0, 1)
    shot[1][1] = 0.1 + 0.4 * shot[1][1]
    found = confirm_loop(posed(shot), 0, 1)
    assert found.likeness == pytest.approx(exact.likeness, abs=0.02)


def test_plain_walls_prove_nothing():
    shot = box_views(POSES)
    shot[1][:] = 0.5 + 0.02 * shot[1]
    found = confirm_loop(posed(shot), 0, 1)
    assert found.likeness == 0
    assert not found.ok


def test_a_plain_picture_is_not_like_a_painted_one():
    shot = box_views(POSES)
    shot[1][1] = 0.5
    assert abs(confirm_loop(posed(shot), 0, 1).likeness) < 0.1


def test_a_pose_that_is_off_is_no_loop():
    prediction, *shown = box_views(POSES)
    off = [posed((turned(prediction, 1, radians), *shown)) for radians in (0.0, 0.02, 0.2)]
    found = [confirm_loop(views, 0, 1) for views in off]
    assert found[0].likeness > found[1].likeness + 0.1 > found[2].likeness + 0.3
    assert [one.ok for one in found] == [True, True, False]


def test_depth_that_disagrees_is_no_loop():
    shot = box_views(POSES)
    shot[0].depth[0, 1] *= 1.3
    found = confirm_loop(posed(shot), 0, 1)
    assert found.agreement < 0.2
    assert not found.ok


def test_something_that_came_since_does_not_hide_a_loop():
    shot = box_views(POSES)
    with_disc(shot, 1, (48, 36), 12)
    assert confirm_loop(posed(shot), 0, 1).ok


def test_views_back_to_back_are_none():
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 0] = poses[1, 2, 2] = -1
    assert confirm_loop(posed(box_views(poses)), 0, 1) == LoopEvidence(0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def model():
    return load("ffsplat-tiny", device="cpu")


def evidence(model, images) -> LoopEvidence:
    """What a network says of two pictures in one window of its own."""
    views = load_views(images).views
    with torch.inference_mode():
        said = model.place_cameras(model.predict(views), views, refine=True)
    return confirm_loop(posed((said, views.pixels, views.valid)), 0, 1)


def test_a_network_is_believed_of_neighbours_and_not_of_two_rooms(model):
    rooms = [render_walk(number, 24).image[0].numpy() for number in (0, 3)]
    true = [evidence(model, [rooms[0][i], rooms[0][i + 1]]) for i in range(0, 24, 6)]
    assert sum(found.ok for found in true) >= 3
    false = [evidence(model, [rooms[0][i], rooms[1][i]]) for i in range(0, 24, 6)]
    opposite = [evidence(model, [rooms[0][i], rooms[0][i + 12]]) for i in range(0, 12, 6)]
    assert max(found.likeness for found in [*false, *opposite]) < LIKENESS
    assert not any(found.ok for found in [*false, *opposite])


def test_a_network_is_believed_of_real_revisits_and_not_of_other_corners(model, shared_data):
    folder = shared_data / "hololens_office"
    frames = json.loads((folder / "cameras.json").read_text())["frames"]
    photos = [folder / frame["image"] for frame in frames]
    pairs = json.loads((folder / "pairs.json").read_text())["pairs"]
    shared = {(i, j): share for i, j, share, *_ in pairs}
    near = [pair for pair, share in shared.items() if share > 0.85][:5]
    apart = [(i, j) for i in range(0, 45, 9) for j in range(i + 4, 45, 9) if (i, j) not in shared]
    assert sum(evidence(model, [photos[i], photos[j]]).ok for i, j in near) >= 3
    assert not any(evidence(model, [photos[i], photos[j]]).ok for i, j in apart[:8])
