import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from ffsplat.stream.ros.frames import (
    BODY_FROM_OPTICAL,
    MAP_FROM_WORLD,
    correction,
    quaternions_of,
    rotations_of,
    slerp,
)


def test_what_a_camera_calls_forward_right_and_down_is_x_minus_y_and_minus_z_of_the_map():
    for camera, expected in [
        ((0, 0, 1), (1, 0, 0)),
        ((1, 0, 0), (0, -1, 0)),
        ((0, 1, 0), (0, 0, -1)),
    ]:
        np.testing.assert_array_equal(MAP_FROM_WORLD[:3, :3] @ camera, expected)


def test_the_optical_rotation_is_the_one_that_every_driver_publishes():
    # roll -90 deg, pitch 0, yaw -90 deg: the arguments of the usual static_transform_publisher
    usual = Rotation.from_euler("xyz", [-90, 0, -90], degrees=True)
    np.testing.assert_allclose(BODY_FROM_OPTICAL[:3, :3], usual.as_matrix(), atol=1e-15)
    expected = np.array([0.5, -0.5, 0.5, -0.5])
    found = quaternions_of(BODY_FROM_OPTICAL[None, :3, :3])[0]
    np.testing.assert_allclose(found, -expected if found[3] > 0 else expected, atol=1e-15)


def test_quaternions_have_the_real_part_last_and_agree_with_scipy():
    turns = Rotation.random(20, rng=np.random.default_rng(0))
    expected = turns.as_quat(canonical=True)
    np.testing.assert_allclose(quaternions_of(turns.as_matrix()), expected, atol=1e-12)
    np.testing.assert_allclose(rotations_of(turns.as_quat()), turns.as_matrix(), atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_interpolated_rotations_agree_with_scipy(share):
    rng = np.random.default_rng(1)
    for _ in range(10):
        pair = Rotation.random(2, rng=rng)
        first, second = pair.as_quat()
        found = Rotation.from_quat(slerp(first, -second, share))
        expected = Slerp([0, 1], pair)(share)
        assert (found.inv() * expected).magnitude() < 1e-9


def test_rotations_that_are_equal_interpolate_to_themselves():
    one = np.array([0.5, -0.5, 0.5, 0.5])
    np.testing.assert_allclose(slerp(one, one, 0.3), one)


def test_a_correction_puts_what_odometry_says_where_the_map_says():
    rng = np.random.default_rng(2)
    in_map, in_odom = np.eye(4), np.eye(4)
    for pose in (in_map, in_odom):
        pose[:3, :3] = Rotation.random(rng=rng).as_matrix()
        pose[:3, 3] = rng.normal(size=3)
    np.testing.assert_allclose(correction(in_map, in_odom) @ in_odom, in_map, atol=1e-12)
