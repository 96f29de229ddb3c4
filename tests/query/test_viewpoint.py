from dataclasses import replace

import numpy as np
import pytest
from toyrooms import Box, room

from ffsplat.errors import UsageError
from ffsplat.query.viewpoint import level_normal, up_axis, viewpoint
from ffsplat.types import Cameras

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


def tilted(degrees):
    """A turn about the camera's x axis, its picture downwards."""
    angle = np.radians(degrees)
    turn = np.eye(4, dtype=np.float32)
    turn[1:3, 1:3] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    return turn


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


def test_the_floor_says_what_is_up_where_cameras_all_look_down():
    floor = Box("floor", (0, 3, -0.02), (5, 5, 0.02))
    scene = room(floor, CHAIR)
    turned = Cameras(
        scene.cameras.world_from_camera[:1] @ tilted(40), scene.cameras.intrinsics[:1],
        scene.cameras.sizes[:1], ("down",),
    )  # fmt: skip
    down = replace(scene, cameras=turned)
    level = viewpoint(down)
    assert level.axes[2] == pytest.approx([0, -1, 0], abs=1e-2)
    assert level.statement == "seen from camera down; up is the normal of the floor"
    assert up_axis(turned.world_from_camera.astype(np.float64))[1] > -0.8


def test_a_floor_that_is_not_flat_or_stands_upright_is_not_believed():
    up = np.array([0, -1.0, 0])
    for floor in (Box("floor", (0, 3, 0), (2, 2, 2)), Box("floor", (0, 3, 0), (3, 0.01, 3))):
        assert level_normal(room(floor), up) is None
    assert level_normal(room(CHAIR), up) is None
