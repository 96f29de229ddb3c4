import numpy as np
import pytest
from toyrooms import Box, room

from ffsplat.errors import UsageError
from ffsplat.query.viewpoint import up_axis, viewpoint

CHAIR = Box("chair", (-1, 2, 0))


def pose(yaw, pitch, roll=0.0):
    """world_from_camera of an upright camera in a world with z up, turned by degrees."""
    yaw, pitch, roll = np.radians([yaw, pitch, roll])
    ahead = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0])
    down = np.cross(ahead, right)
    made = np.eye(4)
    made[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
    made[:3, 1] = np.cos(roll) * down - np.sin(roll) * right
    made[:3, 2] = ahead
    return made


def test_up_is_found_from_cameras_that_look_down():
    poses = np.stack([pose(yaw, -35) for yaw in (0, 40, 90, 200)])
    assert up_axis(poses) == pytest.approx([0, 0, 1], abs=0.04)
    mean = -poses[:2, :3, 1].mean(axis=0)
    two = up_axis(poses[:2])
    assert two[2] > mean[2] / np.linalg.norm(mean)  # level horizons say more than the mean


def test_one_level_camera_has_its_own_up():
    assert up_axis(pose(30, 0)[None]) == pytest.approx([0, 0, 1], abs=1e-9)


def test_small_rolls_cancel():
    poses = np.stack([pose(0, 0, 4), pose(90, 0, -4), pose(180, 0, 4), pose(270, 0, -4)])
    assert up_axis(poses) == pytest.approx([0, 0, 1], abs=0.01)


def test_a_viewpoint_sees_right_ahead_and_up_in_metres():
    view = viewpoint(room(CHAIR))
    world = np.array([[-1.0, 1.5, 2.0]])  # x right, y down, z ahead of the first camera
    assert view.local(world) == pytest.approx(np.array([[-1, 2, -1.5]]))
    assert "front" in view.statement


def test_another_camera_is_taken_by_name_or_number():
    scene = room(CHAIR)
    for camera in ("back", "1"):
        view = viewpoint(scene, camera)
        assert view.local(np.array([[-1.0, 0, 2]])) == pytest.approx(np.array([[1, 4, 0]]))


def test_a_scene_without_cameras_is_seen_from_its_origin():
    view = viewpoint(room(CHAIR, cameras=False))
    assert view.local(np.array([[-1.0, 1.5, 2.0]])) == pytest.approx(np.array([[-1, 2, -1.5]]))
    with pytest.raises(UsageError, match="no cameras"):
        viewpoint(room(CHAIR, cameras=False), "front")


def test_an_unknown_camera_is_refused():
    with pytest.raises(UsageError, match="no camera '7'"):
        viewpoint(room(CHAIR), "7")
