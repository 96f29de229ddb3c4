"""Trajectory errors: by hand, by identity, and beside an implementation of their own."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ffsplat.alignment import DegenerateAlignment, Similarity
from train.evaluation.trajectory import (
    align_trajectory,
    pairs_apart,
    relative_errors,
    trajectory_errors,
    travelled_way,
    turn_angle,
)


def some_way(count=40, seed=0):
    """A smooth way with smooth turns."""
    random = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, 3] = np.cumsum(0.1 * random.normal(size=(count, 3)), 0)
    turns = np.cumsum(0.1 * random.normal(size=(count, 3)), 0)
    poses[:, :3, :3] = Rotation.from_rotvec(turns).as_matrix()
    return poses


def disturbed(poses, seed=1, move=0.05, turn=0.02):
    random = np.random.default_rng(seed)
    wrong = poses.copy()
    wrong[:, :3, 3] += move * random.normal(size=(len(poses), 3))
    wrong[:, :3, :3] @= Rotation.from_rotvec(turn * random.normal(size=(len(poses), 3))).as_matrix()
    return wrong


SOMEWHERE = Similarity(
    0.3, Rotation.from_rotvec([0.3, -2.0, 1.0]).as_matrix(), np.array([5.0, -3.0, 2.0])
)


def test_a_similarity_of_the_truth_has_no_error():
    truth = some_way()
    errors = trajectory_errors(SOMEWHERE.poses(truth), truth)
    assert errors.absolute == pytest.approx(0, abs=1e-10)
    assert errors.step_move == pytest.approx(0, abs=1e-10)
    assert errors.step_turn == pytest.approx(0, abs=1e-6)
    assert errors.travelled_move == pytest.approx(0, abs=1e-10)
    assert errors.scale == pytest.approx(1 / 0.3)


def test_errors_do_not_depend_on_the_world_of_the_guess():
    truth = some_way()
    guess = disturbed(truth)
    here, there = (trajectory_errors(poses, truth) for poses in (guess, SOMEWHERE.poses(guess)))
    assert here.absolute > 0.01
    for name in ("absolute", "step_move", "step_turn", "travelled_move", "travelled_turn"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), rel=1e-9)


def test_the_absolute_error_is_the_least_that_any_similarity_leaves():
    """By descent over seven parameters from many starts, in place of the closed form."""
    from scipy.optimize import least_squares

    truth = some_way(15)
    guess = disturbed(truth, move=0.2)

    def residuals(x):
        turned = guess[:, :3, 3] @ Rotation.from_rotvec(x[:3]).as_matrix().T
        return (np.exp(x[3]) * turned + x[4:] - truth[:, :3, 3]).ravel()

    starts = np.random.default_rng(2).normal(size=(8, 7))
    least = min(least_squares(residuals, start).cost for start in starts)
    expected = np.sqrt(2 * least / len(truth))
    assert trajectory_errors(guess, truth).absolute == pytest.approx(expected, rel=1e-6)


def test_one_corner_of_a_square_off_by_hand():
    """A unit square; one camera is h too high. The best fit keeps half of that, by symmetry."""
    truth = np.tile(np.eye(4), (4, 1, 1))
    truth[:, :3, 3] = [[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]]
    guess = truth.copy()
    h = 1e-4
    guess[:, 2, 3] = [h, -h, h, -h]  # bent: no turn or shift takes any of it away
    assert trajectory_errors(guess, truth).absolute == pytest.approx(h, rel=1e-4)


def test_relative_errors_by_hand():
    truth, guess = np.tile(np.eye(4), (2, 2, 1, 1))
    truth[1, :3, 3] = [1, 0, 0]
    guess[1, :3, 3] = [1, 0.3, 0.4]
    guess[1, :3, :3] = Rotation.from_euler("z", 12, degrees=True).as_matrix()
    (error,) = relative_errors(guess, truth, np.array([0]), np.array([1]))
    np.testing.assert_allclose(error, [0.5, 12])


def test_a_turned_world_leaves_relative_errors_alone():
    """What is measured is in the frame of the first camera of a pair, not of the world."""
    truth = some_way()
    guess = disturbed(truth)
    first, last = np.arange(39), np.arange(1, 40)
    rigid = Similarity(1.0, SOMEWHERE.rotation, SOMEWHERE.translation)
    np.testing.assert_allclose(
        relative_errors(rigid.poses(guess), truth, first, last),
        relative_errors(guess, truth, first, last),
        rtol=1e-9,
    )


def test_angles_are_those_of_scipy_from_tiny_to_a_half_turn():
    vectors = np.random.default_rng(0).normal(size=(50, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    angles = np.append(np.geomspace(1e-9, np.pi - 1e-6, 49), np.pi)
    rotations = Rotation.from_rotvec(vectors * angles[:, None]).as_matrix()
    np.testing.assert_allclose(turn_angle(rotations), np.degrees(angles), rtol=1e-6)


def test_pairs_are_the_first_that_are_far_enough_along_the_way():
    truth = np.tile(np.eye(4), (5, 1, 1))
    truth[:, 0, 3] = [0, 0.4, 0.2, 1.3, 2.0]  # 0.4 forth, 0.2 back, 1.1 and 0.7 forth
    np.testing.assert_allclose(travelled_way(truth), [0, 0.4, 0.6, 1.7, 2.4])
    first, last, way = pairs_apart(truth, 1.0)
    np.testing.assert_array_equal(first, [0, 1, 2])
    np.testing.assert_array_equal(last, [3, 3, 3])
    np.testing.assert_allclose(way, [1.7, 1.3, 1.1])


def test_a_short_way_has_no_error_by_the_metre():
    truth = some_way(5)
    truth[:, :3, 3] *= 0.1
    assert np.isnan(trajectory_errors(truth, truth).travelled_move)


def test_cameras_settle_the_turn_about_a_straight_way():
    truth = some_way(10)
    truth[:, :3, 3] = np.outer(np.arange(10), [1, 2, 3])
    found = align_trajectory(SOMEWHERE.inverse().poses(truth), truth)
    np.testing.assert_allclose(found.rotation, SOMEWHERE.rotation, atol=1e-9)
    assert found.scale == pytest.approx(0.3)


def test_a_camera_that_stands_still_is_refused():
    still = np.tile(np.eye(4), (5, 1, 1))
    with pytest.raises(DegenerateAlignment):
        trajectory_errors(still, some_way(5))
