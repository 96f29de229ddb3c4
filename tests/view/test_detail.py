"""How many Gaussians a page is given."""

import numpy as np
import pytest

from ffsplat.types import Gaussians
from ffsplat.view.detail import (
    BESIDE,
    FEWEST,
    FEWEST_AT_REST,
    FIRST,
    LONGEST_STILL,
    MAX_INFLATION,
    MOVING_SECONDS,
    REST_SECONDS,
    Motion,
    Pace,
    importance,
    inflation,
    sampled,
)


def row_of(*places: float, opacity=0.9, scale=0.1) -> Gaussians:
    """Gaussians on the z axis."""
    n = len(places)
    means = np.zeros((n, 3), np.float32)
    means[:, 2] = places
    return Gaussians(
        means,
        np.full((n, 3), scale, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (n, 1)),
        np.broadcast_to(np.float32(opacity), n).copy(),
        np.zeros((n, 1, 3), np.float32),
    )


def test_an_unknown_page_is_given_a_first_helping():
    assert Pace().budget(moving=True) == Pace().budget(moving=False) == FIRST


def test_a_page_is_given_what_it_draws_in_time():
    pace = Pace()
    pace.told(200_000, 0.02)  # a tenth of a microsecond each
    assert pace.budget(moving=True) == pytest.approx(MOVING_SECONDS / 1e-7)
    assert pace.budget(moving=False) == pytest.approx(REST_SECONDS / 1e-7)


def test_a_slow_page_is_given_something():
    pace = Pace()
    pace.told(FEWEST, 60.0)
    assert pace.budget(moving=True) == FEWEST
    assert pace.budget(moving=False) == FEWEST_AT_REST


def test_small_pictures_say_nothing():
    pace = Pace()
    pace.told(10, 1.0)
    assert pace.budget(moving=True) == FIRST


def test_a_motion_begins_once_and_ends_when_nothing_comes():
    motion = Motion()
    assert motion.note(10.0)
    assert not motion.note(10.1)
    assert motion.is_moving
    assert not motion.rest(10.2)
    assert motion.rest(10.6)
    assert not motion.rest(10.7)
    assert motion.note(20.0)


def test_the_time_of_a_picture_is_the_median_between_messages():
    motion = Motion()
    for now in (0.0, 0.1, 0.2, 0.3, 3.0):
        motion.note(now)
    assert motion.seconds == pytest.approx(0.1)


def test_a_slow_page_may_pause_longer():
    motion = Motion()
    for now in (0.0, 1.0, 2.0, 3.0, 4.0):
        motion.note(now)
    assert not motion.rest(7.9)
    assert motion.rest(8.0)


def test_before_its_first_messages_a_page_may_take_as_long_as_a_picture_does():
    pace, motion = Pace(), Motion()
    assert pace.seconds(50_000) == 0
    pace.told(100_000, 3.0)
    motion.note(1.0, pace.seconds(50_000))
    assert not motion.rest(2.4)
    assert motion.rest(2.5)
    motion.note(10.0, pace.seconds(1_000_000))
    assert motion.ends_at == 10 + LONGEST_STILL


def test_importance_is_opacity_times_area_over_squared_distance():
    values = importance(row_of(1, 2, 4), np.eye(4))
    np.testing.assert_allclose(values, 0.9 * 0.01 / np.array([1, 4, 16]), rtol=1e-5)
    larger = importance(row_of(2, scale=0.2, opacity=0.45), np.eye(4))
    np.testing.assert_allclose(larger, 0.45 * 0.04 / 4, rtol=1e-5)


def test_what_is_beside_the_view_matters_less():
    ahead, behind = importance(row_of(2, -2), np.eye(4))
    assert behind == pytest.approx(BESIDE * ahead)
    turned = np.diag([-1.0, 1, -1, 1])
    assert importance(row_of(2, -2), turned).tolist() == [behind, ahead]


def test_around_the_eye_importance_is_finite():
    assert importance(row_of(0), np.eye(4)) == pytest.approx(0.9)


def test_rows_are_drawn_by_their_weight():
    values = np.repeat(np.array([3.0, 1.0, 0.0], np.float32), 10_000)
    rows = sampled(values, 400)
    assert len(set(rows.tolist())) == 400
    assert (np.diff(rows) > 0).all()
    counts = np.bincount(rows // 10_000, minlength=3)
    assert counts[0] / 400 == pytest.approx(0.75, abs=0.07)  # three standard deviations
    assert counts[2] == 0
    assert (sampled(values, 400) == rows).all()


def test_all_rows_are_kept_if_there_is_room():
    assert sampled(np.ones(3, np.float32), 9).tolist() == [0, 1, 2]


def test_those_left_cover_for_the_others_within_bounds():
    assert inflation(100, 200) == 2
    assert inflation(1, 10**6) == MAX_INFLATION
    assert inflation(7, 7) == 1
