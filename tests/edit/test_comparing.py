"""Photos in two scenes: ratios of depth by hand, and correlations of known pictures."""

from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat.alignment import Similarity
from ffsplat.edit.comparing import depth_ratios, likeness
from ffsplat.types import Scene
from tests.edit.walks import walk

TWICE = Similarity(2.0, np.eye(3), np.zeros(3))


def painted(values: np.ndarray) -> Scene:
    """The room in these shades of grey; what is not black is as bright as its value says."""
    room = small_room()
    sh = np.tile(values[:, None, None], (1, 1, 3)).astype(np.float32)
    return replace(room, gaussians=replace(room.gaussians, sh=sh))


def test_a_scene_of_twice_the_size_is_twice_as_deep():
    room = replace(small_room(), cameras=walk(3))
    large = TWICE.scene(room)
    assert room.cameras is not None
    assert large.cameras is not None
    ratios = depth_ratios(room, large, (room.cameras, large.cameras))
    np.testing.assert_allclose(ratios, [2, 2, 2], rtol=1e-4)


def test_photos_of_nothing_have_no_depth_and_no_look():
    room, cameras = small_room(), walk(2)
    nothing = replace(
        room, gaussians=replace(room.gaussians, opacities=room.gaussians.opacities * 0)
    )
    assert len(depth_ratios(room, nothing, (cameras, cameras))) == 0
    assert likeness(room, nothing, (cameras, cameras)) is None


def test_likeness_is_one_for_the_same_and_minus_one_for_the_negative():
    shades = np.random.default_rng(0).uniform(-1, 1, 1000)
    shades[:500] += np.repeat([1.0, -1.0], [300, 200])
    cameras = walk(4), walk(4)
    first = painted(np.clip(shades, -1.5, 1.5))
    assert likeness(first, first, cameras) == pytest.approx(1, abs=1e-6)
    negative = likeness(first, painted(-np.clip(shades, -1.5, 1.5)), cameras)
    assert negative is not None
    assert negative < -0.5


def test_scenes_that_show_different_things_are_not_compared():
    room, cameras = small_room(), walk(2)
    assert likeness(room[:300], room[500:], (cameras, cameras)) is None
