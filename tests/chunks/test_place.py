"""Placing one pass beside another in an exact world."""

from dataclasses import replace

import boxroom
import numpy as np
import pytest
import torch
from fakes import fake_prediction
from scipy.spatial.transform import Rotation

from ffsplat.alignment import Similarity
from ffsplat.chunks.place import MIN_POINTS, Shared, place, shared_views

TRUTH = Similarity(1.7, Rotation.from_rotvec([0.3, -0.8, 0.4]).as_matrix(), np.array([1.0, 2, -3]))


@pytest.fixture
def known() -> Shared:
    """Four views of a box room as a pass would describe them without any error."""
    poses = boxroom.cameras(4)
    depth, intrinsics, _ = boxroom.depth_and_points(poses, 20.0, 18, 24)
    prediction = fake_prediction(
        v=4, h=18, w=24, depth=depth, world_from_camera=poses, intrinsics=intrinsics
    )
    return shared_views(prediction, [0, 1, 2, 3])


def all_valid(shared: Shared) -> np.ndarray:
    return np.ones(shared.depth.shape, bool)


def test_shared_views_lie_where_the_world_is(known):
    poses = boxroom.cameras(4)
    _, _, points = boxroom.depth_and_points(poses, 20.0, 18, 24)
    np.testing.assert_allclose(known.points.reshape(4, -1, 3), points[0], atol=1e-5)
    lengths = np.linalg.norm(known.points[0], axis=-1)  # camera 0 stands in the origin
    np.testing.assert_allclose(known.errors[0], 0.05 * lengths, rtol=1e-5)
    moved = known.moved(TRUTH)
    np.testing.assert_allclose(moved.depth, 1.7 * known.depth, rtol=1e-6)
    np.testing.assert_allclose(moved.points, TRUTH.points(known.points))


def test_a_pass_without_error_is_placed_exactly(known):
    placed = place(known.moved(TRUTH.inverse()), known, all_valid(known))
    assert placed.by == "points"
    assert placed.agreement == 1
    assert placed.seam < 1e-5
    assert placed.similarity.scale == pytest.approx(TRUTH.scale, rel=1e-5)
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation, atol=1e-5)
    np.testing.assert_allclose(placed.similarity.translation, TRUTH.translation, atol=1e-4)


def test_pixels_that_are_wrong_do_not_count(known):
    random = np.random.default_rng(0)
    found = known.moved(TRUTH.inverse())
    wrong = random.random(found.depth.shape) < 0.3
    points = found.points.copy()
    points[wrong] *= random.uniform(1.5, 3, (wrong.sum(), 1)).astype(np.float32)
    placed = place(replace(found, points=points), known, all_valid(known))
    assert placed.by == "points"
    assert placed.agreement == pytest.approx(0.7, abs=0.03)
    assert placed.similarity.scale == pytest.approx(TRUTH.scale, rel=1e-3)
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation, atol=1e-3)
    # Invalid pixels do not count at all, whatever stands in them.
    points[wrong] = np.nan
    assert place(replace(found, points=points), known, all_valid(known)).agreement == 1
    points[wrong] = 9
    assert place(replace(found, points=points), known, ~wrong).agreement == 1


def test_without_agreement_cameras_place_a_pass(known):
    random = np.random.default_rng(1)
    found = known.moved(TRUTH.inverse())
    points = found.points * random.uniform(0.2, 4, (*found.depth.shape, 1)).astype(np.float32)
    placed = place(replace(found, points=points), known, all_valid(known))
    assert placed.by == "cameras"
    assert placed.agreement < 0.5
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation, atol=1e-5)
    np.testing.assert_allclose(
        placed.similarity.poses(found.poses)[:, :3, 3], known.poses[:, :3, 3], atol=1e-4
    )


@pytest.mark.parametrize("usable", [0, MIN_POINTS - 1])
def test_too_few_pixels_are_no_evidence(known, usable):
    valid = np.zeros(known.depth.size, bool)
    valid[:usable] = True
    found = known.moved(Similarity(1.0, TRUTH.rotation, TRUTH.translation))
    placed = place(found, known, valid.reshape(known.depth.shape))
    assert placed.by == "cameras"
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation.T, atol=1e-5)
    assert placed.agreement == (0 if not usable else pytest.approx(1, abs=1e-3))


def test_a_wall_alone_places_a_pass():
    """All points in one plane, seen from one place."""
    prediction = fake_prediction(
        v=1, h=12, w=12, depth=torch.full((1, 1, 12, 12), 2.0), offsets=torch.zeros(1, 1, 12, 12, 2)
    )
    known = shared_views(prediction, [0])
    placed = place(known.moved(TRUTH.inverse()), known, all_valid(known))
    assert placed.by == "points"
    assert placed.similarity.scale == pytest.approx(TRUTH.scale, rel=1e-5)
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation, atol=1e-5)
