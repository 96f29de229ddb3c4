"""Where the camera stands, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat.types import Cameras
from ffsplat.view.standing import (
    CLOSEST,
    FILLED,
    INNER,
    STEP_BACK,
    STEP_UP,
    before,
    first_stand,
)

ROOM = small_room(100)


def seen_by(pose: np.ndarray):
    lens = np.array([[[20, 0, 20], [0, 20, 15], [0, 0, 1]]], np.float32)
    sizes = np.array([[40, 30]], np.int32)
    return replace(ROOM, cameras=Cameras(pose[None].astype(np.float32), lens, sizes, ("a",)))


def test_it_stands_above_and_behind_the_first_camera_and_looks_as_it_does():
    stand = first_stand(seen_by(np.eye(4)))
    ahead = float(np.median(ROOM.gaussians.means[:, 2]))
    np.testing.assert_allclose(stand.position, [0, -STEP_UP * ahead, -STEP_BACK * ahead], rtol=1e-5)
    np.testing.assert_allclose(stand.look_at, [0, 0, ahead], rtol=1e-5)
    np.testing.assert_allclose(stand.up, [0, -1, 0])
    assert stand.fov == pytest.approx(2 * np.arctan(15 / 20))


def test_a_scene_that_the_origin_does_not_look_at_is_seen_from_outside():
    bare = replace(ROOM, cameras=None, provenance={"model": "any"})
    assert first_stand(bare).look_at[2] > 0
    for scene in (
        replace(bare, provenance={}),
        replace(bare, gaussians=replace(bare.gaussians, means=bare.gaussians.means - 100)),
    ):
        stand, means = first_stand(scene), scene.gaussians.means
        ahead = stand.look_at - stand.position
        assert ((means - stand.position) @ ahead > 0).all()


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_gaussian_have_a_stand(count):
    for provenance in ({}, {"model": "any"}):
        stand = first_stand(replace(ROOM, provenance=provenance)[:count])
        assert np.isfinite([*stand.position, *stand.look_at, stand.near]).all()
        assert np.linalg.norm(stand.look_at - stand.position) > 0


def test_a_thing_fits_into_the_view_from_the_same_side():
    stand = replace(first_stand(seen_by(np.eye(4))), position=np.array([0.0, 0, -9]), fov=np.pi / 2)
    random = np.random.default_rng(0)
    points = random.standard_normal((1000, 3)) * [3, 1, 2]
    place = before(stand, np.zeros(3), points)
    assert place[:2].tolist() == [0, 0]
    depth = points[:, 2] - place[2]
    angles = np.hypot(points[:, 0], points[:, 1]) / depth / FILLED  # over tan(fov / 2) = 1
    assert ((depth > 0) & (angles <= 1)).mean() == pytest.approx(INNER / 100, abs=0.005)
    assert place[2] < 0


def test_a_thing_at_the_eye_and_one_without_size_are_stood_before():
    stand = first_stand(seen_by(np.eye(4)))
    ring = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1]])
    place = before(stand, stand.position, stand.position + ring)
    distance = 1 / (FILLED * np.tan(stand.fov / 2))
    assert np.linalg.norm(place - stand.position) == pytest.approx(distance, rel=1e-6)
    point = np.array([[0.0, 0, 5]])
    closest = np.linalg.norm(before(stand, point[0], point) - point[0])
    assert closest == pytest.approx(CLOSEST * stand.near)
