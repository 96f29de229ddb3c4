"""Poses and intrinsics that come with the frames."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ffsplat.alignment import Similarity
from ffsplat.stream.given import (
    DRIFT,
    Told,
    by_baselines,
    is_intrinsics,
    is_pose,
    sender_from_map,
    through,
    weigh,
)


def pose(turn, centre):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    matrix[:3, 3] = centre
    return matrix


WAY = np.stack([pose([0, 0.1 * i, 0], [0.3 * i, 0, 0.1 * i]) for i in range(4)])


def test_what_is_a_pose():
    good = pose([0.3, 1, 0], [1, 2, 3])
    assert is_pose(good)
    for row, column, value in [(0, 0, np.nan), (0, 3, np.inf), (0, 3, 1e8), (3, 3, 2), (1, 1, 1.3)]:
        bad = good.copy()
        bad[row, column] = value
        assert not is_pose(bad)
    assert not is_pose(np.diag([1.0, 1, -1, 1]))  # a mirror
    assert not is_pose(np.eye(3))


def test_what_is_a_camera():
    good = np.array([[100.0, 0, 64], [0, 101, 48], [0, 0, 1]])
    assert is_intrinsics(good)
    for row, column, value in [(0, 0, -1), (1, 1, 0), (0, 1, 3), (2, 0, 1), (0, 2, np.nan)]:
        bad = good.copy()
        bad[row, column] = value
        assert not is_intrinsics(bad)


def test_the_senders_world_is_found():
    true = Similarity(2.5, Rotation.from_rotvec([0.2, -1, 0.4]).as_matrix(), np.array([4.0, 5, 6]))
    found = sender_from_map(WAY, true.poses(WAY), middle=2.0)
    assert found is not None
    assert found.scale == pytest.approx(2.5)
    np.testing.assert_allclose(found.poses(WAY), true.poses(WAY), atol=1e-12)


def test_a_camera_that_has_not_moved_tells_no_unit():
    assert sender_from_map(WAY, WAY, middle=50.0) is None
    assert sender_from_map(WAY[:2], WAY[:2], middle=0.1) is None


def test_baselines_tell_a_scale_the_better_the_longer_they_are():
    given = WAY.copy()
    given[:, :3, 3] *= 3
    long, short = by_baselines(WAY, given, 0.5), by_baselines(WAY, given, 5.0)
    assert long is not None
    assert short is not None
    assert long.log == short.log == pytest.approx(np.log(3))
    assert short.error == pytest.approx(10 * long.error)
    assert by_baselines(WAY[:1], given[:1], 1.0) is None


@pytest.mark.parametrize("factor", [1e-300, 1e-6, 1e6])
def test_ways_of_impossible_length_tell_no_scale(factor):
    given = WAY.copy()
    given[:, :3, 3] *= factor
    assert by_baselines(WAY, given, middle=0.01) is None
    assert sender_from_map(WAY, given, 0.1) is None


def test_scales_are_weighed_by_their_precision():
    scale, error = weigh(2.0, 0.3, Told(np.log(2.5), 0.15))
    # Two measurements of one number: the mean by inverse variances, here 1 to 4.
    assert np.log(scale) == pytest.approx(0.2 * np.log(2.0) + 0.8 * np.log(2.5))
    assert error == pytest.approx((0.3**-2 + 0.15**-2) ** -0.5)
    assert weigh(2.0, DRIFT, Told(np.log(2.5), 0.15))[1] == DRIFT  # never surer than that


def test_what_contradicts_the_map_counts_the_less_the_more_it_does():
    believed = [np.log(weigh(1.0, 0.1, Told(off, 0.1))[0]) for off in (0.2, 0.5, 1.0, 5.0)]
    assert believed[0] == pytest.approx(0.1)
    assert believed[1] < 0.5 * 0.5
    assert believed[1] > believed[2] > believed[3] > 0


def test_through_takes_one_pose_exactly_to_another():
    to = pose([1, 0, 0.5], [7, 8, 9])
    moved = through(WAY[2], to, 4.0)
    assert moved.scale == 4.0
    np.testing.assert_allclose(moved.poses(WAY[2:3])[0], to, atol=1e-12)


def test_poses_of_another_way_fix_nothing():
    draw = np.random.default_rng(3)
    noisy, other = WAY.copy(), WAY.copy()
    noisy[:, :3, 3] += 0.05 * draw.standard_normal((4, 3))
    other[:, :3, 3] = 1e9 * draw.standard_normal((4, 3))
    assert sender_from_map(WAY, noisy, 1.0) is not None
    assert sender_from_map(WAY, other, 1.0) is None
    assert sender_from_map(WAY, other, 1.0, proved=False) is None  # of no scale that there is
    other[:, :3, 3] /= 1e9
    assert sender_from_map(WAY, other, 1.0) is None
    assert sender_from_map(WAY, other, 1.0, proved=False) is not None
