"""Placing one pass beside another in an exact world."""

from dataclasses import replace

import boxroom
import numpy as np
import pytest
from fakes import fake_prediction
from scipy.spatial.transform import Rotation

from ffsplat.alignment import Similarity
from ffsplat.chunks.place import Shared, place, shared_views

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
    assert placed.agreement == 1
    assert placed.seam < 1e-5
    assert placed.turn < 1e-6
    assert placed.similarity.scale == pytest.approx(TRUTH.scale, rel=1e-5)
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation, atol=1e-5)
    np.testing.assert_allclose(placed.similarity.translation, TRUTH.translation, atol=1e-4)


def test_pixels_that_are_wrong_do_not_move_it(known):
    random = np.random.default_rng(0)
    found = known.moved(TRUTH.inverse())
    wrong = random.random(found.depth.shape) < 0.3
    factor = np.where(wrong, random.uniform(0.2, 4, wrong.shape), 1).astype(np.float32)
    found = replace(found, points=found.points * factor[..., None], depth=found.depth * factor)
    placed = place(found, known, all_valid(known))
    assert placed.agreement == pytest.approx(0.7, abs=0.05)
    assert placed.similarity.scale == pytest.approx(TRUTH.scale, rel=1e-3)
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation, atol=1e-5)
    # Invalid pixels do not count at all, whatever stands in them.
    assert place(found, known, ~wrong).agreement == 1


def test_the_turn_is_that_of_the_cameras_against_each_other(known):
    turned = known.poses.copy()
    by = Rotation.from_rotvec([0, 0, 0.1]).as_matrix()
    turned[1, :3, :3] = turned[1, :3, :3] @ by
    turned[2, :3, :3] = turned[2, :3, :3] @ by.T
    placed = place(replace(known, poses=turned), known, all_valid(known))
    assert placed.turn == pytest.approx(0.05, abs=0.03)  # of 0, 0.1, 0.1 and 0: the median


def test_one_camera_is_enough(known):
    one = Shared(*(value[:1] for value in vars(known).values()))
    placed = place(one.moved(TRUTH.inverse()), one, all_valid(one))
    assert placed.similarity.scale == pytest.approx(TRUTH.scale, rel=1e-5)
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation, atol=1e-5)


def test_without_pixels_there_is_no_agreement(known):
    moved = Similarity(1.0, TRUTH.rotation, TRUTH.translation)
    placed = place(known.moved(moved), known, ~all_valid(known))
    assert placed.agreement == 0
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation.T, atol=1e-5)
