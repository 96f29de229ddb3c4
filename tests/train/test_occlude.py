"""Occluders: where they are, what is true of them, and alike for whoever holds a set."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toypool import make_pool

from data.clip import UNKNOWN
from train.batches import batch_from_pool
from train.losses import correspondences
from train.occlude import GRAIN, LABELS, MOST, NEARNESS, TILE, Occluders, cover, occlude

BATCH = batch_from_pool(make_pool(4, 3, 32), np.arange(4), np.tile(np.arange(3), (4, 1)))


def occluded(share: float, own=range(4), seed: int = 0):
    batch = BATCH.map(lambda tensor: tensor[list(own)])
    return occlude(batch, share, np.array(own), 4, np.random.default_rng(seed))


def test_a_share_of_the_sets_is_changed():
    assert torch.equal(occluded(0.0).images, BATCH.images)
    changed = [
        (occluded(0.5, seed=seed).depth != BATCH.depth).flatten(1).any(1) for seed in range(40)
    ]
    assert torch.stack(changed).float().mean() == pytest.approx(0.5, abs=0.12)


def test_occluders_are_near_alike_in_all_views_and_have_no_label():
    after = occluded(1.0)
    covered = after.depth != BATCH.depth
    assert covered.flatten(1).any(1).all()
    assert torch.equal(covered, covered[:, :1].expand_as(covered))
    mean = BATCH.depth.mean((1, 2, 3))[:, None, None, None].expand_as(covered)
    share = (after.depth / mean)[covered]
    assert NEARNESS[0] <= share.min() + 1e-6
    assert share.max() <= NEARNESS[1]
    assert (after.whole[covered] == UNKNOWN).all()
    assert (after.identity[covered] == UNKNOWN).all()
    assert torch.equal(after.images.movedim(2, -1)[~covered], BATCH.images.movedim(2, -1)[~covered])
    assert 0 <= after.images.min() <= after.images.max() <= 1
    rim = torch.cat(
        [covered[..., 0, :], covered[..., -1, :], covered[..., 0], covered[..., -1]], -1
    )
    assert rim.flatten(1).any(1).all()


def test_what_moves_with_the_camera_matches_nothing():
    after = occluded(1.0)
    one, two = torch.tensor([0]), torch.tensor([1])
    _, visible = correspondences(
        after.depth, after.intrinsics, after.world_from_camera, one, two, 2
    )
    centres = (after.depth != BATCH.depth)[:, 0, ::2, ::2].flatten(1)
    assert not visible[:, 0][centres].any()


def test_a_set_is_covered_alike_by_whoever_holds_it():
    assert torch.equal(occluded(0.7, (1, 3)).images, occluded(0.7).images[1::2])


def test_textures_lie_within_their_boxes_and_later_occluders_over_earlier_ones():
    coarse = np.zeros((1, MOST, 3, GRAIN, GRAIN), np.float32)
    coarse[0, 0, :, 0] = 1.0  # bright above, dark below
    coarse[0, 1] = 0.5
    drawn = Occluders(
        boxes=np.array([[[4, 0, 16, 8], [12, 4, 8, 28], [0, 0, 0, 0]]], np.float32),
        nearness=np.array([[0.1, 0.2, 0.3]], np.float32),
        coarse=coarse,
        fine=np.zeros((1, MOST, TILE, TILE), np.float32),
        softness=np.full((1, MOST), 1e-3, np.float32),
    )
    names = ("images", "depth", "whole", "part", "identity")
    before = {name: getattr(BATCH, name)[:1] for name in names}
    after = cover(before, drawn)
    mean = before["depth"].mean()
    torch.testing.assert_close(after["depth"][0, :, 4:12, :8], (0.1 * mean).expand(3, 8, 8))
    torch.testing.assert_close(after["depth"][0, :, 12:20, 4:], (0.2 * mean).expand(3, 8, 28))
    assert torch.equal(after["depth"][:, :, :4], before["depth"][:, :, :4])
    assert torch.equal(after["depth"][:, :, 12:20, :4], (0.1 * mean).expand(1, 3, 8, 4))
    column = torch.nn.functional.interpolate(
        torch.from_numpy(coarse[:, 0]), (16, 8), mode="bilinear"
    )[0, 0, :8, 0]
    torch.testing.assert_close(after["images"][0, 1, 2, 4:12, 5], column)
    assert (after["images"][0, :, :, 12:20, 4:] == 0.5).all()
    assert torch.equal(after["whole"] == UNKNOWN, after["depth"] != before["depth"])


def test_edges_are_soft_inside_and_depth_is_not():
    black = np.zeros((1, 1, 3, GRAIN, GRAIN), np.float32)
    drawn = Occluders(
        boxes=np.array([[[-8, 8, 20, 16]]], np.float32),
        nearness=np.array([[0.1]], np.float32),
        coarse=black,
        fine=np.zeros((1, 1, TILE, TILE), np.float32),
        softness=np.array([[4.0]], np.float32),
    )
    maps = {name: getattr(BATCH, name)[:1] for name in ("images", "depth", *LABELS)}
    after = cover(maps, drawn)
    rise = torch.tensor([0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1])
    kept = 1 - torch.cat([rise, rise.flip(0)])
    # Row 0 lies at the rim, beyond which the occluder goes on; it ends below row 11.
    torch.testing.assert_close(after["images"][..., 0, 8:24], maps["images"][..., 0, 8:24] * kept)
    assert not after["images"][..., :8, 12:20].any()
    assert torch.equal(after["images"][..., 12:, :], maps["images"][..., 12:, :])
    near = after["depth"] != maps["depth"]
    assert near[..., :12, 8:24].all()
    assert near.sum() == 3 * 12 * 16


def test_twins_are_mirror_images():
    seen = 0
    for seed in range(20):
        covered = (occluded(1.0, seed=seed).depth != BATCH.depth)[:, 0]
        seen += int((covered == covered.flip(-1)).flatten(1).all(1).sum())
    assert 0.15 < seen / 80 < 0.6  # half are twins, and a third of these have another one


def test_without_depth_nothing_gets_one():
    bare = replace(BATCH, depth=torch.zeros_like(BATCH.depth))
    after = occlude(bare, 1.0, np.arange(4), 4, np.random.default_rng(0))
    assert not after.depth.any()
    assert (after.whole == UNKNOWN).any()


def test_a_step_without_occluders_is_left_as_it_is():
    assert occlude(BATCH, 0.0, np.arange(4), 4, np.random.default_rng(0)) is BATCH


class Operations(TorchDispatchMode):
    """The names of what runs on tensors."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_the_device_is_not_waited_for_and_more_sets_are_no_more_operations():
    counts = {}
    for seed in range(20):
        with Operations() as operations:
            after = occluded(0.5, seed=seed)
        changed = int((after.depth != BATCH.depth).flatten(1).any(1).sum())
        counts.setdefault(changed, set()).add(len(operations.names))
        waiting = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")
        assert not [name for name in operations.names if name.startswith(waiting)]
    assert {1, 2, 3} <= counts.keys()
    assert len(set.union(*(counts[changed] for changed in counts if changed))) == 1
