"""Cameras and scale: alignment and pairs by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from boxclips import UNIT, Oracle, box_clips

from ffsplat.geometry import rigid, rotation_from_vector
from train.clips import batch_from_clip
from train.evaluation import geometry
from train.evaluation.novel import nearest_views


@pytest.fixture(scope="module")
def batch():
    return batch_from_clip(box_clips(1, 3, 16)[0], np.arange(3), (16, 16))


def test_a_prediction_is_scaled_by_its_depth_or_its_cameras(batch):
    prediction = Oracle(batch)(batch.images)
    assert geometry.alignment(prediction, batch).item() == pytest.approx(1 / UNIT)
    nothing = torch.zeros_like(batch.depth)
    bare = replace(batch, depth=nothing)
    assert geometry.alignment(prediction, bare).item() == pytest.approx(1 / UNIT)
    poses = batch.world_from_camera.clone()
    poses[..., :3, 3] = 0
    still = replace(bare, world_from_camera=poses)
    assert geometry.alignment(prediction, still).item() == 1


def test_depth_goes_before_cameras(batch):
    prediction = Oracle(batch)(batch.images)
    poses = prediction.world_from_camera.clone()
    poses[..., :3, 3] *= 5
    far = replace(prediction, world_from_camera=poses)
    assert geometry.alignment(far, batch).item() == pytest.approx(1 / UNIT)


def test_relative_poses_by_hand():
    turn = rotation_from_vector(torch.tensor([0.0, 0.0, torch.pi / 2]))
    first = rigid(turn, torch.tensor([1.0, 0, 0]))
    second = rigid(torch.eye(3), torch.tensor([1.0, 2, 0]))
    found = geometry.relative_poses(torch.stack([first, second])[None], [(0, 1), (1, 0), (0, 0)])
    # What lies at +y of the world is at +x of a camera turned by a right angle around z.
    torch.testing.assert_close(found[0, 0, :3, 3], torch.tensor([2.0, 0, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[0, 0] @ found[0, 1], torch.eye(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[0, 2], torch.eye(4), atol=1e-6, rtol=0)


def test_the_nearest_of_views_that_were_given_is_itself(batch):
    given = batch.views(slice(0, 2))
    for view in range(2):
        assert nearest_views(given, batch.views(slice(view, view + 1))) == [view]
