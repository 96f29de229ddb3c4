from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from boxroom import cameras
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

from ffsplat.api import load
from ffsplat.consistency import FREE_SPACE
from ffsplat.images import load_views
from ffsplat.stream.moving import AROUND, TINT, find_moving
from ffsplat.stream.sight import PosedViews, look
from tests.bench.walk import render_walk
from tests.stream.boxviews import box_views, posed, turned, with_disc

POSES = cameras(4, seed=2, turn=0.08, move=0.15)[0]


def found(shot, view: int = 3) -> np.ndarray:
    return find_moving(posed(shot), view, [i for i in range(4) if i != view])


def test_nothing_moves_in_a_box_at_rest():
    assert found(box_views(POSES)).mean() < 0.001


def test_a_thing_that_came_is_found_and_little_else():
    shot = box_views(POSES)
    disc = with_disc(shot, 3, (45, 40), 14)
    moving = found(shot)
    assert (moving & disc).sum() > 0.8 * disc.sum()
    assert (moving & ~disc).mean() < 0.01


def test_a_thing_that_walks_by_is_found_where_it_is_now():
    shot = box_views(POSES)
    discs = [with_disc(shot, view, (15 + 20 * view, 36), 9) for view in range(4)]
    moving = found(shot)
    assert (moving & discs[3]).sum() > 0.6 * discs[3].sum()
    assert (moving & ~discs[3]).mean() < 0.01


def test_what_a_thing_hid_before_is_not_held_against_the_new_view():
    shot = box_views(POSES)
    for view in range(3):
        with_disc(shot, view, (48, 36), 14)
    assert found(shot).mean() < 0.005


def test_a_change_of_colour_on_the_wall_is_found():
    shot = box_views(POSES)
    shot[1][3, 20:50, 30:70] = [0.95, 0.02, 0.9]
    moving = found(shot)
    assert moving[24:46, 34:66].mean() > 0.6  # the paint around is as vivid in places


def test_light_that_changes_for_all_moves_nothing():
    shot = box_views(POSES)
    shot[1][3] = np.clip(shot[1][3] + 0.2, 0, 1)
    assert found(shot).mean() < 0.02


def test_a_large_thing_is_found_and_nothing_that_others_cannot_see():
    shot = box_views(POSES)
    disc = with_disc(shot, 3, (48, 36), 36)
    assert disc.mean() > 0.55
    sights = look(posed(shot), 3, range(3))
    seen = np.any([one.inside & (one.nearer > -one.tolerance) for one in sights], axis=0)
    assert found(shot).sum() > 0.5 * seen.sum()
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 0] = poses[1, 2, 2] = -1
    alone = posed(box_views(poses))
    for others in ([0], []):
        assert not find_moving(alone, 1, others).any()


def test_views_that_do_not_fit_are_no_witnesses():
    prediction, pixels, valid = box_views(POSES)
    prediction.depth[0, :3] *= 2
    assert not found((turned(prediction, 3, 0.3), pixels, valid)).any()


def test_padding_never_moves():
    shot = box_views(POSES)
    _, pixels, valid = shot
    valid[3, :, 60:] = False
    pixels[3, :, 60:] = 0
    assert not found(shot)[:, 60:].any()


def test_masks_have_the_size_of_the_views_even_where_it_is_odd():
    shot = box_views(POSES)
    disc = with_disc(shot, 3, (45, 40), 14)
    whole = posed(shot)
    cut = {f.name: getattr(whole, f.name)[:, :71, :95] for f in fields(PosedViews)[:4]}
    moving = find_moving(replace(whole, **cut), 3, [0, 1, 2])
    assert moving.shape == (71, 95)
    assert (moving & disc[:71, :95]).sum() > 0.8 * disc[:71, :95].sum()


@pytest.fixture(scope="module")
def room() -> np.ndarray:
    return render_walk(0, 40).image[0, :8].numpy()


@pytest.mark.parametrize("with_thing", [False, True])
def test_a_network_tells_a_thing_from_a_room_at_rest(room, with_thing):
    model = load("ffsplat-tiny", device="cpu")
    y, x = np.mgrid[:96, :128]
    spots = np.where((x // 6 + y // 6) % 2, 0.95, 0.03)[..., None] * [1.0, 0.2, 0.9]
    centers = [(90, 40), (30, 60), (75, 30), (45, 45)]
    discs = [np.hypot(x - column, y - row) < 16 for column, row in centers]
    inside, outside = [], []
    for first in range(5):
        window = room[first : first + 4].copy()
        for view, disc in enumerate(discs):
            if with_thing:
                window[view][disc] = spots[disc]
        views = load_views(list(window)).views
        with torch.inference_mode():
            said = model.place_cameras(model.predict(views), views, refine=True)
        moving = found((said, views.pixels, views.valid))
        inside.append(moving[discs[3]].mean())
        outside.append(moving[~discs[3]].mean())
    assert (np.median(inside) > 0.5) == with_thing
    assert np.median(outside) < 0.01


@pytest.mark.parametrize("with_thing", [False, True])
def test_it_is_told_by_the_colours_around_each_place(with_thing):
    shot = box_views(POSES)
    if with_thing:
        with_disc(shot, 3, (45, 40), 14)
    shot[1][3] = np.clip(shot[1][3] * 0.8 + 0.1, 0, 1)
    views = posed(shot)
    pixels = views.colors.astype(float)
    against = np.zeros((36, 48))
    for old, sight in enumerate(look(views, 3, range(3), 2)):
        places = sight.y.astype(int), sight.x.astype(int)
        change = (pixels[3, 1::2, 1::2] - pixels[old][places])[sight.agrees]
        colors = pixels[3, 1::2, 1::2] - np.median(change, axis=0)
        known = []
        for reach in (96 // AROUND, 1):
            size = (2 * reach + 1, 2 * reach + 1, 1)
            least, most = (
                extreme(pixels[old], size, mode="nearest")[places]
                for extreme in (minimum_filter, maximum_filter)
            )
            known.append(((colors + TINT > least) & (colors - TINT < most)).all(-1))
        free = sight.nearer > np.maximum(sight.tolerance, FREE_SPACE)
        sees = sight.inside & (sight.nearer > -sight.tolerance)
        against += np.where(sees, np.where(np.where(free, *known[::-1]), -1, 1), 0)
    marked = against > 0
    share = uniform_filter(marked.astype(float), 3, mode="constant")
    share /= uniform_filter(np.ones(marked.shape), 3, mode="constant")
    expected = (marked & (share > 0.5 + 1e-6)).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(find_moving(views, 3, [0, 1, 2]), expected)
    assert expected.any() == with_thing
