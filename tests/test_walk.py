"""The walk that never ends: a way that meets nothing, and frames that are true of it."""

import numpy as np
import pytest
import torch

from data.rooms import SPLITS
from data.rooms.cameras import is_clear
from data.rooms.caster import Cameras
from data.rooms.path import CLEARANCE, SPEED, TURN_RATE, closed_path, reach_around, smoothed
from data.rooms.render import render_views
from data.rooms.scene import build_scenes
from ffsplat.geometry import project, transform_points, unproject
from tests.walks import preview_walk as walk

RATE = 10.0


@pytest.fixture(scope="module", params=[0, 2, 5])
def path(request):
    seed = SPLITS["preview"][request.param]
    scenes, (layout,) = build_scenes([seed])
    return scenes, layout, closed_path(layout, seed, rate=RATE)


def test_the_way_is_closed_and_keeps_to_its_speed(path):
    _, _, poses = path
    around = np.concatenate([poses, poses[:1]])
    steps = np.linalg.norm(np.diff(around[:, :3, 3], axis=0), axis=1)
    assert steps.max() <= SPEED / RATE * 1.001
    yaw = np.unwrap(np.arctan2(around[:, 1, 2], around[:, 0, 2]))
    assert np.abs(np.diff(yaw)).max() <= TURN_RATE / RATE * 1.001
    assert steps.mean() > 0.4 * SPEED / RATE


def test_cameras_stand_upright_and_are_rigid(path):
    _, _, poses = path
    turns = poses[:, :3, :3]
    np.testing.assert_allclose(
        turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (len(poses), 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    np.testing.assert_allclose(turns[:, 2, 0], 0, atol=1e-12)  # x lies level
    assert (turns[:, 2, 1] < 0).all()  # y looks down


def test_nothing_is_near_the_way(path):
    """Rays all round at the camera's height, by the renderer: it knows nothing of the plan."""
    scenes, _, poses = path
    some = poses[::10]
    level = np.tile(np.eye(4), (len(some), 4, 1, 1))
    for quarter, yaw in enumerate(np.arange(4) * np.pi / 2):
        forward, right = [np.cos(yaw), np.sin(yaw), 0], [np.sin(yaw), -np.cos(yaw), 0]
        level[:, quarter, :3, :3] = np.stack([right, [0, 0, -1], forward], -1)
    level[:, :, :3, 3] = some[:, None, :3, 3]
    cameras = Cameras(
        torch.from_numpy(level).float().flatten(0, 1)[None], torch.tensor([4.0]), 2, 8
    )
    with torch.inference_mode():
        depth = render_views(scenes, cameras, [0], None, develop=lambda linear, _: linear).depth[0]
    columns = (torch.arange(8) + 0.5 - 4) / 4
    away = depth * (1 + columns**2).sqrt()
    assert away.min() > 0.8 * CLEARANCE


def test_the_smooth_reach_goes_nowhere_farther(path):
    _, layout, _ = path
    _, reach = reach_around(layout)
    assert (smoothed(reach) <= reach + 1e-9).all()
    assert smoothed(reach).min() > 0.3


def test_frames_are_the_same_every_time_however_far_one_walks():
    number = 10**6 + 7
    one, other = walk().frame(number), next(walk().frames(number))
    np.testing.assert_array_equal(one.image, other.image)
    assert one.place == number % len(walk())
    assert one.time_ns == number * 10**8


def test_a_place_comes_again_exactly_in_other_light_with_other_noise():
    one, later = walk().frame(3), walk().frame(3 + len(walk()))
    np.testing.assert_array_equal(one.world_from_camera, later.world_from_camera)
    np.testing.assert_array_equal(one.depth, later.depth)
    apart = one.image.astype(float) - later.image
    assert 0.5 < np.abs(apart).mean() < 30


def test_noise_is_as_strong_as_stated():
    images = np.stack([walk().frame(5 + i * len(walk())).image / 255 for i in range(40)])
    shades = images.mean((1, 2, 3), keepdims=True)
    noise = (images / shades * shades.mean()).std(0)
    assert 0.004 < np.median(noise) < 0.012


def test_depth_and_poses_agree_between_frames():
    first, second = walk().frame(0), walk().frame(6)
    intrinsics = torch.from_numpy(first.intrinsics).float()
    points = unproject(torch.from_numpy(first.depth), intrinsics).flatten(0, 1)
    between = np.linalg.inv(second.world_from_camera) @ first.world_from_camera
    moved = transform_points(torch.from_numpy(between).float(), points)
    pixels = project(moved, intrinsics).floor().long()
    inside = (pixels >= 0).all(-1) & (pixels < torch.tensor([64, 48])).all(-1) & (moved[:, 2] > 0)
    there = torch.from_numpy(second.depth)[pixels[inside, 1], pixels[inside, 0]]
    error = (there / moved[inside, 2] - 1).abs()
    assert inside.float().mean() > 0.6
    assert error.median() < 0.01
    labels = torch.from_numpy(first.whole.astype(np.int64)).flatten()[inside]
    found = torch.from_numpy(second.whole.astype(np.int64))[pixels[inside, 1], pixels[inside, 0]]
    assert (labels == found).float().mean() > 0.9


def test_no_view_is_blocked():
    assert is_clear(torch.from_numpy(walk().places.depth.astype(np.float32))).all()
