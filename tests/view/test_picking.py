"""Rays that meet Gaussians: by hand, and against what the renderer draws."""

import numpy as np
import pytest
from small_room import small_room

from ffsplat.render import render
from ffsplat.types import Cameras, Gaussians, Scene
from ffsplat.view.picking import pick

AHEAD = np.array([0.0, 0.0, 1.0])
HERE = np.zeros(3)


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


def test_the_nearest_solid_one_is_picked():
    assert pick(row_of(5, 2, 3), HERE, AHEAD) == 1


def test_a_faint_one_in_front_is_looked_through():
    gaussians = row_of(2, 3, opacity=np.array([0.1, 0.8], np.float32))
    assert pick(gaussians, HERE, AHEAD) == 1  # 0.1 against 0.9 * 0.8


def test_shares_decide():
    gaussians = row_of(2, 3, opacity=np.array([0.5, 0.9], np.float32))
    assert pick(gaussians, HERE, AHEAD) == 0  # 0.5 against 0.5 * 0.9


def test_what_is_behind_is_not_met():
    assert pick(row_of(-2), HERE, AHEAD) is None
    assert pick(row_of(-2, 4), HERE, AHEAD) == 1


def test_what_is_hidden_is_not_met():
    assert pick(row_of(2, 3), HERE, AHEAD, np.array([False, True])) == 1


def test_beside_everything_nothing_is_met():
    assert pick(row_of(2), np.array([1.0, 0, 0]), AHEAD) is None


@pytest.mark.parametrize("direction", [[0, 0, 0], [np.nan, 0, 1], [0, 0, np.inf]])
def test_no_direction_meets_nothing(direction):
    assert pick(row_of(2), HERE, np.array(direction, float)) is None


def test_an_empty_scene_is_not_met():
    assert pick(row_of(), HERE, AHEAD) is None


def test_a_thin_gaussian_is_met_only_where_it_is():
    gaussians = row_of(2)
    thin = Gaussians(
        gaussians.means,
        np.array([[1.0, 0.01, 0.01]], np.float32),
        np.array([[np.sqrt(0.5), 0, 0, np.sqrt(0.5)]], np.float32),  # its long axis is y now
        gaussians.opacities,
        gaussians.sh,
    )
    assert pick(thin, np.array([0, 0.8, 0.0]), AHEAD) == 0
    assert pick(thin, np.array([0.8, 0, 0.0]), AHEAD) is None


def test_the_instance_that_is_picked_is_the_one_that_is_drawn():
    room: Scene = small_room(600)
    intrinsics = np.array([[[40, 0, 24], [0, 40, 16], [0, 0, 1]]], np.float32)
    size = np.array([[48, 32]], np.int32)
    camera = Cameras(np.eye(4, dtype=np.float32)[None], intrinsics, size, ("camera",))
    drawn = render(room, camera, "instance", backend="reference")[0]
    solid = render(room, camera, "opacity", backend="reference")[0] > 0.9
    agree = []
    for y, x in np.argwhere(solid):
        ray = np.array([(x + 0.5 - 24) / 40, (y + 0.5 - 16) / 40, 1.0])
        row = pick(room.gaussians, HERE, ray)
        agree.append(row is not None and room.instances[row] == drawn[y, x])
    assert len(agree) > 30
    assert np.mean(agree) > 0.95  # one Gaussian may hide less than many of another thing
