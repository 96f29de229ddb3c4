"""Occluders: where they are, what is true of them, and alike for whoever holds a set."""

import numpy as np
import pytest
import torch
from toypool import make_pool

from data.clip import UNKNOWN
from train.batches import batch_from_pool
from train.losses import correspondences
from train.occlude import NEARNESS, occlude

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
