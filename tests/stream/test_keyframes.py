"""Which keyframes are near, which say the same, and which goes."""

from dataclasses import replace

import numpy as np
import pytest

from ffsplat.alignment import Similarity
from ffsplat.stream.graph import sim3
from ffsplat.stream.keyframes import (
    Keyframe,
    Keyframes,
    choose_views,
    most_redundant,
    places_of,
    sight_distances,
)
from ffsplat.stream.window import world_poses
from ffsplat.types import ViewSource


def pose(x=0.0, turn=0.0):
    """A camera at x along the first axis, turned about the second."""
    c, s = np.cos(turn), np.sin(turn)
    return np.array([[c, 0, s, x], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1.0]])


def keyframe(number, submap=0, places=None):
    nothing = np.zeros((2, 3), np.float16)
    return Keyframe(
        number, 0, submap, pose(), np.eye(3, dtype=np.float32), False,
        np.zeros((2, 3, 3), np.uint8), *2 * [np.ones((2, 3), bool)],
        nothing + np.float16(2), nothing, 2.0,
        np.arange(6, dtype=np.int32).reshape(2, 3) if places is None else places,
        0, np.zeros(4, np.float32), ViewSource(str(number), 3, 2, np.eye(3)),
    )  # fmt: skip


def test_the_distance_of_sights_by_hand():
    a = np.stack([pose(0), pose(0, np.pi / 2)])
    b = np.stack([pose(3), pose(0)])
    apart = sight_distances(a, b, np.array([2.0, 2.0]))
    # Three aside: centres and targets are 3 apart. A quarter turn: targets at (0, 0, 2), (2, 0, 0).
    assert apart[0, 0] == pytest.approx(6)
    assert apart[0, 1] == pytest.approx(0)
    assert apart[1, 1] == pytest.approx(2 * np.sqrt(2))


def test_views_that_say_the_same_come_last():
    poses = np.stack([pose(x) for x in (0, 0.01, 1.0, 0.02, 2.0)])
    middle = np.ones(len(poses))
    apart = sight_distances(poses, pose(-0.1)[None], middle)[:, 0]
    between = sight_distances(poses, poses, middle)
    assert choose_views(apart, between, 3, 0.5).tolist() == [0, 2, 4]
    assert choose_views(apart, between, 4, 0.5).tolist() == [0, 2, 4, 1]
    assert choose_views(apart, between, 9, 0.0).tolist() == [0, 1, 3, 2, 4]


def test_the_most_redundant_is_the_one_in_the_thick_of_others():
    poses = np.stack([pose(x) for x in (0, 5, 5.1, 5.2, 9)])
    between = sight_distances(poses, poses, np.ones(5))
    assert most_redundant(between, 0) == 2
    assert most_redundant(between, 3) == 1  # the last three are spared
    between = np.random.default_rng(0).uniform(size=(40, 40))
    others = np.where(np.eye(40, dtype=bool), np.inf, between)
    assert most_redundant(between, 8) == np.sort(others, axis=1)[:32, :2].sum(1).argmin()


def test_keyframes_stay_in_their_order():
    frames = Keyframes(10)
    for number in (3, 7, 9):
        frames.add(keyframe(number, submap=number % 2))
    assert [one.number for one in frames] == [3, 7, 9]
    assert frames.last(2) == [9, 7]
    assert frames.of_submaps(1) == [3, 7, 9]
    frames.remove([7])
    assert 7 not in frames
    assert len(frames) == 2
    assert frames.of_submaps(0, 1) == [3, 9]


def test_where_they_stand_follows_what_comes_moves_and_goes():
    rng, frames = np.random.default_rng(0), Keyframes(8)
    lies = {
        n: Similarity(rng.uniform(0.5, 2), random_turn(rng), rng.normal(size=3)) for n in range(4)
    }
    for step in range(60):
        number = int(rng.integers(12))
        if number in frames and step % 2:
            frames.remove([number])
        elif number in frames or len(frames) < 8:
            stand = np.eye(4)
            stand[:3, :3], stand[:3, 3] = random_turn(rng), rng.normal(size=3)
            one = keyframe(number, int(rng.integers(4)))
            frames.add(replace(one, submap_from_camera=stand, middle=rng.uniform(1, 2)))
        poses, middle = frames.in_world(sim3.rows(lies.values()))
        every = list(frames)
        np.testing.assert_allclose(poses, world_poses(every, lies), atol=1e-12)
        np.testing.assert_allclose(middle, [one.middle * lies[one.submap].scale for one in every])
        assert frames.standing.number.tolist() == [one.number for one in every]
        assert frames.of_submaps(1, 3) == [one.number for one in every if one.submap in (1, 3)]


def random_turn(rng):
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


def test_places_of_pixels():
    assert places_of(keyframe(0), np.array([5, -1, 0])).tolist() == [5, -1, 0]
