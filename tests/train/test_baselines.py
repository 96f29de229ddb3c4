"""Baselines: averages by hand, exact geometry and SIFT on a painted box."""

import numpy as np
import torch
from boxpool import box_pool
from fakes import fake_prediction

from ffsplat.geometry import (
    intrinsics_from_focal,
    invert_rigid,
    project,
    rigid,
    rotation_from_vector,
    transform_points,
)
from ffsplat.merge import gaussians_from_prediction
from train import baselines, metrics
from train.batches import batch_from_pool
from train.novel_view import rescale, splat


def batch(rooms: int = 1, views: int = 2, size: int = 32):
    pool = box_pool(rooms, views, size)
    return batch_from_pool(pool, np.arange(rooms), np.arange(views)[None].repeat(rooms, 0))


def test_statistics_by_hand():
    depth = np.array([[[[1.0, 3.0]]], [[[4.0, 4.0]]]], dtype=np.float16)
    labels = np.array([[[[1, 2]]], [[[2, 0]]]], dtype=np.uint8)
    found = baselines.pool_statistics({"depth": depth, "whole": labels, "part": labels}, (1, 2))
    torch.testing.assert_close(found.depth, torch.tensor([[0.75, 1.25]]))
    assert found.scale == 3
    assert (found.whole, found.part) == (2, 2)


def test_statistics_fit_another_size():
    found = baselines.pool_statistics(box_pool(2, 2, 16), (24, 40))
    assert found.depth.shape == (24, 40)
    assert abs(found.depth.mean().item() - 1) < 0.1


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
    given = type(true)(**{name: value[:, :2] for name, value in vars(true).items()})
    mean = given.images.mean((1, 3, 4))
    camera, intrinsics = true.world_from_camera[:, 2], true.intrinsics[:, 2]
    image = splat(baselines.exact_gaussians(given), camera, intrinsics, (48, 48), mean)
    found = metrics.psnr(image, true.images[:, 2]).item()
    wrong = metrics.psnr(true.images[:, 0], true.images[:, 2]).item()
    assert found > wrong + 4


def test_holes_take_the_background():
    true = batch(size=16)
    behind = true.world_from_camera[:, 0] @ torch.diag(torch.tensor([-1.0, 1, -1, 1]))
    background = torch.tensor([[0.1, 0.2, 0.3]])
    only = type(true)(**{name: value[:, :1] for name, value in vars(true).items()})
    gaussians = baselines.exact_gaussians(only)
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
    poses, failed = baselines.sift_poses(true)
    assert not failed.any()
    truth = true.world_from_camera[:, 1]
    assert metrics.rotation_error(poses[:, 1], truth).item() < 1
    assert metrics.direction_error(poses[:, 1], truth).item() < 5
    assert metrics.rotation_error(torch.eye(4)[None], truth).item() > 5


def test_sift_matches_agree_with_the_geometry():
    true = batch(size=128)
    grey = (true.images[0].mean(1) * 255).byte().numpy()
    matches = baselines.match_sift(grey[0], np.roll(grey[0], 5, axis=1))
    shift = np.median(matches[:, 1] - matches[:, 0], axis=0)
    assert len(matches) > 20
    np.testing.assert_allclose(shift, [5, 0], atol=0.05)


def test_sift_fails_to_the_identity():
    true = batch(size=64)
    flat = type(true)(**{**vars(true), "images": torch.full_like(true.images, 0.5)})
    poses, failed = baselines.sift_poses(flat)
    assert failed.tolist() == [[False, True]]
    assert torch.equal(poses, torch.eye(4).expand(1, 2, 4, 4))
