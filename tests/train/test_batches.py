"""Batches: determinism, and truth that survives flips and gathering."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from toypool import make_pool

from data.clip import UNKNOWN
from data.teachers.record import Record, write_records
from ffsplat.errors import UsageError
from train.batches import (
    Batch,
    Batches,
    RoomSource,
    batch_from_pool,
    crop,
    crop_sizes,
    flip,
    identities,
)
from train.data import SourceSettings, TrainingData
from train.losses import correspondences
from train.plan import Plan
from train.rooms import FixedRooms, read_pool


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
    assert (batch.identity[0][structure] < UNKNOWN).all()
    assert len(batch.identity[0][structure].unique()) == 5


def test_what_is_unknown_belongs_to_nothing():
    instance, whole = torch.tensor([3, 0, 0, -1, -1]), torch.tensor([-1, 4, -1, 4, -1])
    assert identities(instance, whole).tolist() == [3, -6, -1, -1, -1]


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


def batches(pool, seed: int = 0, rank: int = 0, ranks: int = 1) -> Batches:
    plan = Plan([1], 8, (2, 4), seed, ranks)
    return Batches([RoomSource(FixedRooms(pool), 16)], plan, seed=seed, rank=rank, ranks=ranks)


def test_a_step_is_always_the_same_batch(pool):
    for name, value in vars(batches(pool)[5]).items():
        torch.testing.assert_close(getattr(batches(pool)[5], name), value)
    assert not torch.equal(batches(pool)[5].images, batches(pool, seed=1)[5].images)
    counts = {batches(pool)[step].images.shape[:2] for step in range(9)}
    assert counts == {(4, 2), (2, 4)}


@pytest.mark.parametrize("step", range(4))
def test_ranks_share_the_sets_of_a_step(pool, step):
    whole = batches(pool)[step]
    for rank in (0, 1):
        mine = batches(pool, rank=rank, ranks=2)[step]
        for name in ("images", "depth", "identity", "world_from_camera"):
            assert torch.equal(getattr(mine, name), getattr(whole, name)[rank::2])


def test_teachers_are_flipped_and_cropped_with_their_images(pool):
    batch = batch_from_pool(pool, np.array([0]), np.array([[0, 1]]))
    columns = torch.arange(8.0).expand(1, 2, 1, 8, 8)
    taught = replace(batch, teachers={"x": columns})
    assert torch.equal(flip(taught).teachers["x"], columns.flip(-1))
    cut = crop(taught, 16, 8).teachers["x"]
    torch.testing.assert_close(cut, torch.arange(2.0, 6).expand(1, 2, 1, 8, 4))
    assert torch.equal(taught.views(slice(1)).teachers["x"], columns[:, :1])


def test_read_pool(tmp_path, pool):
    with pytest.raises(UsageError, match="no pool"):
        read_pool(tmp_path)
    for start in (0, 3):
        save_file(pool, tmp_path / f"chunk_{start:010d}.safetensors")
    twice = read_pool(tmp_path)
    np.testing.assert_array_equal(twice["depth"], np.concatenate([pool["depth"]] * 2))


def test_a_teacher_of_another_network_is_refused(tmp_path):
    write_records(tmp_path, {"clip": Record("open_clip:a/b", 512, "random", 0)}, started=False)
    data = TrainingData([SourceSettings(shards=str(tmp_path))])
    data.check_teacher("clip", 512, "open_clip:a/b")
    data.check_teacher("dino", 384, "timm:c")  # nothing is said of it
    for width, space in ((768, "open_clip:a/b"), (512, "open_clip:a/c")):
        with pytest.raises(UsageError, match="has 512 channels in the space open_clip:a/b"):
            data.check_teacher("clip", width, space)


def test_crops_are_whole_tokens():
    assert crop_sizes(64) == [(64, 64), (48, 64), (48, 64), (40, 64), (64, 48)]
    assert crop_sizes(64, 16) == [(64, 64), (48, 64), (48, 64), (32, 64), (64, 48)]
    assert crop_sizes(8) == [(8, 8)] * 5
