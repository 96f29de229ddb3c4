"""Placing one pass beside another in an exact world."""

from dataclasses import replace

import boxroom
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ffsplat.alignment import Similarity
from ffsplat.chunks.place import AGREE, TURN_ERROR, Shared, place

TRUTH = Similarity(1.7, Rotation.from_rotvec([0.3, -0.8, 0.4]).as_matrix(), np.array([1.0, 2, -3]))


@pytest.fixture
def known() -> Shared:
    """Four views of a box room as a pass would describe them without any error."""
    poses = boxroom.cameras(4)
    depth, intrinsics, _ = boxroom.depth_and_points(poses, 20.0, 18, 24)
    lenses = intrinsics[0][:, [0, 1, 0, 1], [0, 1, 2, 2]].double().numpy()
    errors = np.full((4, 18, 24), 0.05, np.float32)
    return Shared(depth[0].numpy(), errors, lenses, poses[0].double().numpy())


def moved(shared: Shared, by: Similarity) -> Shared:
    """The same after a change of the world."""
    return replace(shared, depth=np.float32(by.scale) * shared.depth, poses=by.poses(shared.poses))


def all_valid(shared: Shared) -> np.ndarray:
    return np.ones(shared.depth.shape, bool)


def test_points_lie_where_the_world_is(known):
    poses = boxroom.cameras(4)
    _, _, expected = boxroom.depth_and_points(poses, 20.0, 18, 24)
    points, distances = known.points()
    np.testing.assert_allclose(points.reshape(4, -1, 3), expected[0], atol=1e-5)
    lengths = np.linalg.norm(points[0], axis=-1)  # camera 0 stands in the origin
    np.testing.assert_allclose(distances[0], 0.05 * lengths, rtol=1e-5)
    there, away = moved(known, TRUTH).points()
    np.testing.assert_allclose(there, TRUTH.points(points), atol=1e-5)
    np.testing.assert_allclose(away, 1.7 * distances, rtol=1e-5)


def test_a_pass_without_error_is_placed_exactly(known):
    placed = place(moved(known, TRUTH.inverse()), known, all_valid(known))
    assert placed.agreement == 1
    assert placed.error == pytest.approx(TURN_ERROR / 2, rel=1e-4)  # of four cameras
    assert placed.similarity.scale == pytest.approx(TRUTH.scale, rel=1e-5)
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation, atol=1e-5)
    np.testing.assert_allclose(placed.similarity.translation, TRUTH.translation, atol=1e-4)


def test_pixels_that_are_wrong_do_not_move_it(known):
    random = np.random.default_rng(0)
    found = moved(known, TRUTH.inverse())
    wrong = random.random(found.depth.shape) < 0.3
    factor = np.where(wrong, random.uniform(0.2, 4, wrong.shape), 1).astype(np.float32)
    found = replace(found, depth=found.depth * factor)
    placed = place(found, known, all_valid(known))
    # Both errors grow with the distance of what is seen, so what is said to be near weighs most.
    lengths = known.points()[1] / 0.05
    weights = np.square(known.depth / lengths) / (1 + np.square(factor))
    agreeing = np.abs(factor - 1) * lengths < AGREE * known.depth
    assert placed.agreement == pytest.approx(np.average(agreeing, weights=weights), abs=1e-3)
    assert 0.7 < agreeing.mean() < 0.8
    assert placed.similarity.scale == pytest.approx(TRUTH.scale, rel=1e-3)
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation, atol=1e-5)
    # Invalid pixels do not count at all, whatever stands in them.
    assert place(found, known, ~wrong).agreement == 1


def turned(shared: Shared, *angles: float) -> Shared:
    """The same with each camera turned about its axis, in radians."""
    poses = shared.poses.copy()
    for row, angle in enumerate(angles):
        poses[row, :3, :3] = poses[row, :3, :3] @ Rotation.from_rotvec([0, 0, angle]).as_matrix()
    return replace(shared, poses=poses)


def test_cameras_count_by_the_inverse_of_what_they_may_err(known):
    # Cameras of one place and turn, so that hand values hold.
    same = Shared(*(value[[0, 0]] for value in vars(known).values()))
    placed = place(same, turned(same, 0.0, 1e-3), all_valid(same), np.array([0.1, 0.2]))
    angle = Rotation.from_matrix(placed.similarity.rotation).magnitude()
    assert angle == pytest.approx(1e-3 / 3, rel=1e-3)  # 1/0.2 of 1/0.1 + 1/0.2
    assert placed.error == pytest.approx(1 / np.sqrt(125), rel=1e-3)


def test_a_camera_that_contradicts_the_surest_hardly_counts(known):
    errors = np.array([0.02, 0.03, 0.03, 0.03])
    placed = place(known, turned(known, 0, 0, 0, 2.0), all_valid(known), errors)
    assert Rotation.from_matrix(placed.similarity.rotation).magnitude() < 2e-3
    surer = np.sqrt(1 / (1 / 0.02**2 + 2 / 0.03**2))
    assert placed.error == pytest.approx(surer, rel=1e-3)


def test_the_unit_is_that_of_the_cameras_that_count(known):
    factor = np.array([1, 1, 3, 3], np.float32)[:, None, None]
    found = replace(known, depth=known.depth * factor)
    placed = place(found, known, all_valid(known), np.array([0.02, 0.02, 0.5, 0.5]))
    assert placed.similarity.scale == pytest.approx(1, rel=1e-5)
    placed = place(found, known, all_valid(known), np.array([0.5, 0.5, 0.02, 0.02]))
    assert placed.similarity.scale == pytest.approx(1 / 3, rel=1e-5)


def test_one_camera_is_enough(known):
    one = Shared(*(value[:1] for value in vars(known).values()))
    placed = place(moved(one, TRUTH.inverse()), one, all_valid(one))
    assert placed.similarity.scale == pytest.approx(TRUTH.scale, rel=1e-5)
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation, atol=1e-5)


def test_without_pixels_there_is_no_agreement(known):
    away = Similarity(1.0, TRUTH.rotation, TRUTH.translation)
    placed = place(moved(known, away), known, ~all_valid(known))
    assert placed.agreement == 0
    np.testing.assert_allclose(placed.similarity.rotation, TRUTH.rotation.T, atol=1e-5)
