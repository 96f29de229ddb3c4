"""Batches: determinism, and truth that survives flips and gathering."""

import numpy as np
import pytest
import torch
from boxroom import cameras, depth_and_points
from safetensors.numpy import save_file

from ffsplat.errors import UsageError
from train.batches import Batch, RoomBatches, batch_from_pool, crop, flip, jitter
from train.losses import correspondences
from train.rooms import FixedRooms, read_pool


def make_pool(scenes: int = 3, views: int = 4, size: int = 16) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    worlds = [cameras(views, seed) for seed in range(scenes)]
    exact = [depth_and_points(poses, 12.0, size, size) for poses in worlds]
    shape = (scenes, views, size, size)
    # The pool's world is not the first camera's: shift and turn it.
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5)))[0]
    world = torch.eye(4)
    world[:3, :3] = turn * torch.linalg.det(turn)
    world[:3, 3] = torch.tensor([1.0, 2, 3])
    return {
        "image": random.integers(0, 256, (*shape, 3), dtype=np.uint8),
        "depth": torch.cat([item[0] for item in exact]).numpy().astype(np.float32),
        "whole": random.integers(0, 5, shape, dtype=np.uint8),
        "part": random.integers(0, 7, shape, dtype=np.uint8),
        "instance": random.integers(0, 3, shape, dtype=np.uint8),
        "intrinsics": torch.cat([item[1] for item in exact]).numpy(),
        "world_from_camera": (world @ torch.cat(worlds)).numpy(),
    }


@pytest.fixture(scope="module")
def pool() -> dict[str, np.ndarray]:
    return make_pool()


def residual(batch: Batch) -> float:
    """Median error in pixels of following a surface point from view to view and back."""
    one, two = torch.tensor([0]), torch.tensor([1])
    depth, intrinsics, poses = batch.depth, batch.intrinsics, batch.world_from_camera
    _, visible = correspondences(depth, intrinsics, poses, one, two, 4)
    return visible.float().mean().item()


def test_poses_become_relative_to_the_first_drawn_view(pool):
    batch = batch_from_pool(pool, np.array([1]), np.array([[2, 0]]))
    torch.testing.assert_close(batch.world_from_camera[0, 0], torch.eye(4), atol=1e-5, rtol=0)
    world = torch.from_numpy(pool["world_from_camera"][1])
    expected = torch.linalg.inv(world[2]) @ world[0]
    torch.testing.assert_close(batch.world_from_camera[0, 1], expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(batch.depth[0, 0].numpy(), pool["depth"][1, 2])


def test_structure_is_told_apart_by_class(pool):
    batch = batch_from_pool(pool, np.array([0]), np.array([[0, 1]]))
    structure = torch.from_numpy(pool["instance"][0, :2] == 0)
    assert (batch.identity[0][structure] < 0).all()
    assert len(batch.identity[0][structure].unique()) == 5


def test_flip_keeps_geometry_consistent(pool):
    batch = batch_from_pool(pool, np.array([0]), np.array([[0, 1]]))
    before, after = residual(batch), residual(flip(batch))
    assert before > 0.3
    assert after == pytest.approx(before, abs=0.1)
    # A flipped image with the old pose sees less of itself.
    mixed = Batch(**{**vars(flip(batch)), "world_from_camera": batch.world_from_camera})
    assert residual(mixed) < 0.8 * after


def test_flip_twice_is_nothing(pool):
    batch = batch_from_pool(pool, np.array([0, 1]), np.array([[0, 1], [2, 3]]))
    again = flip(flip(batch))
    for name, value in vars(batch).items():
        torch.testing.assert_close(getattr(again, name), value)


@pytest.mark.parametrize(("height", "width"), [(8, 16), (16, 8), (12, 12)])
def test_crop_keeps_geometry_consistent(pool, height, width):
    batch = batch_from_pool(pool, np.array([0]), np.array([[0, 1]]))
    cut = crop(batch, height, width)
    assert cut.images.shape[-2:] == cut.depth.shape[-2:] == cut.whole.shape[-2:] == (height, width)
    top, left = (16 - height) // 2, (16 - width) // 2
    assert torch.equal(cut.depth, batch.depth[..., top : 16 - top, left : 16 - left])
    # The same pixel sees the same ray as before.
    pixel = torch.tensor([1.5, 2.5, 1.0])
    before = torch.linalg.inv(batch.intrinsics) @ (pixel + torch.tensor([left, top, 0.0]))
    torch.testing.assert_close(torch.linalg.inv(cut.intrinsics) @ pixel, before)


def test_jitter_stays_in_range_and_is_seeded():
    images = torch.rand(2, 2, 3, 8, 8)
    first, second = (jitter(images, torch.Generator().manual_seed(3)) for _ in range(2))
    torch.testing.assert_close(first, second)
    assert 0 <= first.min() <= first.max() <= 1
    assert not torch.equal(first, images)


def test_a_step_is_always_the_same_batch(pool):
    def batches(seed: int) -> RoomBatches:
        return RoomBatches(FixedRooms(pool), images=8, view_counts=(2, 4), steps=9, seed=seed)

    for name, value in vars(batches(0)[5]).items():
        torch.testing.assert_close(getattr(batches(0)[5], name), value)
    assert not torch.equal(batches(0)[5].images, batches(1)[5].images)
    counts = {batches(0)[step].images.shape[:2] for step in range(9)}
    assert counts == {(4, 2), (2, 4)}


def test_read_pool(tmp_path, pool):
    with pytest.raises(UsageError, match="no pool"):
        read_pool(tmp_path)
    for start in (0, 3):
        save_file(pool, tmp_path / f"chunk_{start:010d}.safetensors")
    twice = read_pool(tmp_path)
    np.testing.assert_array_equal(twice["depth"], np.concatenate([pool["depth"]] * 2))
