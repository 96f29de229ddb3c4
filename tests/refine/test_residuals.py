"""The loop over matches, beside the same in NumPy: residuals and slopes, whitened one by one."""

import numpy as np
import pytest

from ffsplat.refine.equations import CameraState
from ffsplat.refine.residuals import AGREEMENT, DEPTH_ERRORS, NEAREST, OUTLIER, sum_pairs


def plain_sums(relative, zooms, matches, error):
    """What `sum_pairs` says, by one array for every term."""
    residual, weight, jacobian = linearize(relative, zooms, matches, error)
    columns = np.concatenate([jacobian, residual[:, None]], axis=1)
    return np.einsum("pakn,pkn,pbkn->pab", columns, weight, columns)


def linearize(relative, zooms, matches, error):
    """Residuals in standard deviations, weights (p, 3, n) and the Jacobian (p, 8, 3, n)."""
    turn, move = relative[:, :3, :3], relative[:, :3, 3, None]
    points = matches[:, :3].copy()
    points[:, :2] *= np.exp(-zooms[:, 0])[:, None, None]
    turned = turn @ points
    local = turned + move
    depth = np.maximum(local[:, 2], NEAREST)
    lens = np.exp(zooms[:, 1])[:, None] / depth
    x, y = lens * local[:, 0], lens * local[:, 1]
    residual = np.stack([x, y, np.log(depth)], axis=1) - matches[:, 3:6]
    # Each column of the Jacobian is a direction that points move in, with its slope in the image
    # and in the log depth; the last row of `directions` is for `moved`.
    directions = np.zeros((len(x), 8, 3, x.shape[1]))
    for axis, (a, b) in enumerate(((1, 2), (2, 0), (0, 1))):
        directions[:, axis, b], directions[:, axis, a] = local[:, a], -local[:, b]
        directions[:, 3 + axis, axis] = 1
    directions[:, 6] = -turn[:, :, :2] @ points[:, :2]
    directions[:, 7] = turned
    jacobian = directions
    jacobian[:, :, 2] /= depth[:, None]
    for row, image in enumerate((x, y)):
        jacobian[:, :, row] *= lens[:, None]
        jacobian[:, :, row] -= image[:, None] * jacobian[:, :, 2]
    moved = jacobian[:, 7, :2].copy()
    jacobian[:, 7, 0], jacobian[:, 7, 1], jacobian[:, 7, 2] = x, y, 0
    whiten(residual[:, None], moved, error, DEPTH_ERRORS * matches[:, 6])
    whiten(jacobian, moved, error, DEPTH_ERRORS * matches[:, 6])
    trusted = matches[:, 7] * (local[:, 2] > NEAREST)
    trusted = trusted / (1 + (residual[:, :2] ** 2).sum(1) / OUTLIER**2)
    agreeing = trusted / (1 + residual[:, 2] ** 2 / OUTLIER**2)
    return residual, np.stack([trusted, trusted, agreeing], axis=1), jacobian


def whiten(rows, moved, error, depth_error):
    """Multiply by the root of S^-1 (p, k, 3, n), and depth by that of 1 / AGREEMENT^2.

    `moved` is u (p, 2, n), `error` s and `depth_error` d (p, n).
    """
    squared = (moved**2).sum(1)
    shrink = 1 - error / np.sqrt(error**2 + depth_error**2 * squared)
    shrink /= np.maximum(squared, 1e-12)
    u, v = moved[:, None, 0], moved[:, None, 1]
    along = shrink[:, None] * (rows[:, :, 0] * u + rows[:, :, 1] * v)
    rows[:, :, 0] = (rows[:, :, 0] - along * u) / error
    rows[:, :, 1] = (rows[:, :, 1] - along * v) / error
    rows[:, :, 2] /= AGREEMENT


def pairs_of_views(count, seed=0):
    """Three pairs whose views are apart by a little, with matches that are mostly not far off."""
    random = np.random.default_rng(seed)
    still = CameraState(np.tile(np.eye(4), (3, 1, 1)), np.zeros(3))
    relative = still.moved(random.normal(0, 0.2, (3, 7))).poses
    points = random.normal(0, 1, (3, 3, count))
    points[:, 2] = random.uniform(0.01, 4, (3, count))
    local = relative[:, :3, :3] @ points + relative[:, :3, 3, None]
    depth = np.maximum(local[:, 2:], NEAREST)
    there = np.concatenate([local[:, :2] / depth, np.log(depth)], axis=1)
    there += random.normal(0, 0.05, there.shape)
    rest = random.uniform(0, (0.3, 1), (3, count, 2)).transpose(0, 2, 1)
    matches = np.concatenate([points, there, rest], axis=1)
    return relative, random.normal(0, 0.1, (3, 2)), matches


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 256, 300])
@pytest.mark.parametrize("error", [0.01, 1.0])
def test_sums_are_those_of_numpy(count, error):
    given = pairs_of_views(count)
    local = given[0][:, 2, :3, None] * given[2][:, :3]
    behind = local.sum(1) + given[0][:, 2, 3, None] <= NEAREST
    assert count < 63 or 0 < behind.sum() < behind.size / 4
    kept = given[2].copy()
    sums, expected = sum_pairs(*given, error), plain_sums(*given, error)
    np.testing.assert_array_equal(given[2], kept)
    size = np.sqrt(expected.diagonal(axis1=1, axis2=2))
    scale = np.maximum(size[:, :, None] * size[:, None], 1e-300)
    np.testing.assert_allclose(sums / scale, expected / scale, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(sums, sums.transpose(0, 2, 1))


def test_points_that_no_ray_moves_have_errors_of_places_alone():
    relative, zooms, matches = pairs_of_views(20)
    relative[:] = np.eye(4)  # what turns about the centre stays on its ray
    sums, expected = (run(relative, zooms, matches, 0.1) for run in (sum_pairs, plain_sums))
    np.testing.assert_allclose(sums, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    matches[:, 6] *= 1000
    np.testing.assert_allclose(
        sum_pairs(relative, zooms, matches, 0.1), sums, rtol=1e-9, atol=1e-9 * np.abs(sums).max()
    )


def test_what_is_not_a_number_is_not_hidden():
    relative, zooms, matches = pairs_of_views(100)
    matches[1, 0, 70] = np.nan
    sums = sum_pairs(relative, zooms, matches, 0.1)
    assert np.isnan(sums[1]).any()
    assert np.isfinite(sums[[0, 2]]).all()


def test_whitening_is_the_root_of_the_inverse_covariance():
    moved = np.random.default_rng(0).normal(size=(5, 2, 1))
    depth_error = np.linspace(0, 2, 5)[:, None]
    rows = np.tile(np.eye(3)[:, :, None], (5, 1, 1, 1))
    whiten(rows, moved, 0.3, depth_error)
    root = rows[..., 0]
    spread = moved[..., 0] * depth_error
    covariance = np.tile(np.diag([0.09, 0.09, AGREEMENT**2]), (5, 1, 1))
    covariance[:, :2, :2] += spread[:, :, None] * spread[:, None]
    np.testing.assert_allclose(root @ root.transpose(0, 2, 1), np.linalg.inv(covariance))
