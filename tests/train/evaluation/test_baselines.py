"""Baselines: averages by hand, exact geometry and SIFT on a painted box."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from boxpool import box_pool
from fakes import fake_prediction

from data.clip import Clip
from ffsplat.geometry import (
    intrinsics_from_focal,
    invert_rigid,
    project,
    rigid,
    rotation_from_vector,
    transform_points,
)
from ffsplat.merge import gaussians_from_prediction
from train import metrics
from train.batches import batch_from_pool
from train.evaluation import baselines
from train.novel_view import rescale, splat


def batch(rooms: int = 1, views: int = 2, size: int = 32):
    pool = box_pool(rooms, views, size)
    return batch_from_pool(pool, np.arange(rooms), np.arange(views)[None].repeat(rooms, 0))


def hand_clip(depth, labels, **changes) -> Clip:
    v, h, w = len(depth), len(depth[0]), len(depth[0][0])
    fields = {
        "key": "hand",
        "source": "hand",
        "metric": True,
        "images": np.zeros((v, h, w, 3), np.uint8),
        "intrinsics": np.tile(np.eye(3, dtype=np.float32), (v, 1, 1)),
        "world_from_camera": np.tile(np.eye(4, dtype=np.float32), (v, 1, 1)),
        "depth": np.array(depth, np.float32),
        "whole": np.array(labels, np.int16),
        "part": np.array(labels, np.int16),
    }
    return Clip(**(fields | changes))


def test_statistics_by_hand():
    clips = [hand_clip([[[1, 3]]], [[[1, 2]]]), hand_clip([[[4, 4]]], [[[2, 0]]])]
    found = baselines.clip_statistics(clips)
    left, right = found.depth.unflatten(1, (2, -1)).mean((0, 2))
    assert (left.item(), right.item()) == pytest.approx((0.75, 1.25))
    assert found.scale == 3
    assert (found.whole, found.part) == (2, 2)


def test_statistics_pass_over_what_is_unknown():
    bare = hand_clip([[[0, 0]]], [[[-1, -1]]])
    found = baselines.clip_statistics([bare, replace(bare, depth=None, whole=None, part=None)])
    assert (found.depth, found.scale, found.whole, found.part) == (None, None, None, None)
    half = [hand_clip([[[0, 2]]], [[[-1, 5]]], metric=False), bare]
    found = baselines.clip_statistics(half)
    torch.testing.assert_close(found.depth, torch.ones(64, 64))
    assert (found.scale, found.whole) == (None, 5)


def test_nearest_view_weighs_distance_and_angle():
    turned = rotation_from_vector(torch.tensor([0, 1.0, 0]))
    near_but_turned = rigid(turned, torch.tensor([0.1, 0, 0]))
    far = rigid(torch.eye(3), torch.tensor([2.0, 0, 0]))
    poses = torch.stack([near_but_turned, far])[None]
    target = torch.eye(4)[None]
    assert baselines.nearest_view(poses, target, torch.tensor([1.0])).item() == 0
    assert baselines.nearest_view(poses, target, torch.tensor([4.0])).item() == 1


def test_exact_geometry_shows_another_view():
    true = batch(views=3, size=48)
    given = true.views(slice(0, 2))
    mean = given.images.mean((1, 3, 4))
    camera, intrinsics = true.world_from_camera[:, 2], true.intrinsics[:, 2]
    image = splat(baselines.exact_gaussians(given), camera, intrinsics, (48, 48), mean)
    found = metrics.psnr(image, true.images[:, 2]).item()
    wrong = metrics.psnr(true.images[:, 0], true.images[:, 2]).item()
    assert found > wrong + 4


def test_a_pixel_without_depth_is_transparent():
    true = batch(size=16)
    depth = true.depth.clone()
    depth[..., :8] = 0
    gaussians = baselines.exact_gaussians(replace(true, depth=depth))
    opacities = gaussians.opacities.view(1, 2, 16, 16)
    assert torch.equal(opacities > 0, depth > 0)
    assert all(tensor.isfinite().all() for tensor in gaussians)


def test_holes_take_the_background():
    true = batch(size=16)
    behind = true.world_from_camera[:, 0] @ torch.diag(torch.tensor([-1.0, 1, -1, 1]))
    background = torch.tensor([[0.1, 0.2, 0.3]])
    gaussians = baselines.exact_gaussians(true.views(slice(0, 1)))
    image = splat(gaussians, behind, true.intrinsics[:, 0], (16, 16), background)
    torch.testing.assert_close(image, background[..., None, None].expand(1, 3, 16, 16))


def test_rescaling_moves_every_length():
    prediction = fake_prediction(b=2)
    before = gaussians_from_prediction(prediction)
    after = gaussians_from_prediction(rescale(prediction, torch.tensor([2.0, 0.5])))
    factor = torch.tensor([2.0, 0.5])[:, None, None]
    torch.testing.assert_close(after.means, before.means * factor)
    torch.testing.assert_close(after.scales, before.scales * factor)
    torch.testing.assert_close(after.quaternions_wxyz, before.quaternions_wxyz)


def test_five_points_find_an_exact_pose():
    random = torch.Generator().manual_seed(0)
    points = 2 * torch.rand(40, 3, generator=random).double() + torch.tensor([-1, -1, 2.0])
    pose = rigid(
        rotation_from_vector(torch.tensor([0.1, -0.3, 0.05]).double()),
        torch.tensor([0.6, 0.1, -0.2]).double(),
    )
    intrinsics = intrinsics_from_focal(torch.tensor([60.0, 90.0]).double(), 64, 64)
    first = project(points, intrinsics[0])
    second = project(transform_points(invert_rigid(pose), points), intrinsics[1])
    pairs = torch.stack([first, second], 1).numpy()
    pairs[:8, 1] += 20  # outliers
    found = baselines.essential_pose(pairs, *intrinsics.numpy())
    found = torch.from_numpy(found)
    assert metrics.rotation_error(found, pose).item() < 0.01
    assert metrics.direction_error(found, pose).item() < 0.01
    assert baselines.essential_pose(pairs[8:13], *intrinsics.numpy()) is None


def test_sift_finds_the_turn_of_a_painted_box():
    # At this field of view several walls are seen; of one alone the method has two answers.
    pool = box_pool(1, 2, 256, focal=0.5)
    true = batch_from_pool(pool, np.array([0]), np.array([[0, 1]]))
    poses, failed = baselines.sift_poses(true, [(0, 1), (1, 0)])
    assert not failed.any()
    truth = true.world_from_camera[:, 1]
    for pose, expected in ((poses[:, 0], truth), (poses[:, 1], invert_rigid(truth))):
        assert metrics.rotation_error(pose, expected).item() < 1
        assert metrics.direction_error(pose, expected).item() < 5
    assert metrics.rotation_error(torch.eye(4)[None], truth).item() > 5


def test_sift_matches_agree_with_the_geometry():
    true = batch(size=128)
    grey = (true.images[0].mean(1) * 255).byte().numpy()
    first, second = (baselines.find_sift(view) for view in (grey[0], np.roll(grey[0], 5, axis=1)))
    matches = baselines.match_sift(first, second)
    shift = np.median(matches[:, 1] - matches[:, 0], axis=0)
    assert len(matches) > 20
    np.testing.assert_allclose(shift, [5, 0], atol=0.05)


def test_sift_fails_to_the_identity():
    true = batch(size=64)
    flat = replace(true, images=torch.full_like(true.images, 0.5))
    poses, failed = baselines.sift_poses(flat, [(0, 1)])
    assert failed.tolist() == [[True]]
    assert torch.equal(poses, torch.eye(4).expand(1, 1, 4, 4))
