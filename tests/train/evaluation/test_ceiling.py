"""What exact geometry leaves to a network, on painted boxes whose truth has a closed form."""

import numpy as np
import pytest
import torch
from boxpool import box_pool
from click.testing import CliRunner

from ffsplat.geometry import rigid, rotation_from_vector
from train import metrics
from train.batches import batch_from_pool
from train.evaluation import ceiling


def batch(views: int = 5, size: int = 48):
    pool = box_pool(1, views, size)
    return batch_from_pool(pool, np.array([0]), np.arange(views)[None])


def test_every_second_view_is_given():
    whole = batch()
    given, others = ceiling.split(whole)
    torch.testing.assert_close(given.images, whole.images[:, [0, 2, 4]])
    torch.testing.assert_close(others.world_from_camera, whole.world_from_camera[:, [1, 3]])


def test_merging_does_not_lose_an_unseen_view():
    given, others = ceiling.split(batch())
    images = ceiling.drawn(given, others)
    found = {name: metrics.psnr(image, others.images[0]).mean() for name, image in images.items()}
    assert found["merged"] > found["every pixel"]
    flat = given.images.mean((1, 3, 4))[0, :, None, None].expand_as(others.images[0])
    for name, value in found.items():
        assert value > metrics.psnr(flat, others.images[0]).mean(), name


def test_an_input_sees_all_of_itself_and_nothing_behind_itself():
    whole = batch(views=1, size=16)
    assert ceiling.seen(whole, whole).all()
    turned = whole.map(torch.clone)
    half_turn = rotation_from_vector(torch.tensor([0, torch.pi, 0]))
    turned.world_from_camera[0, 0] = rigid(half_turn, torch.zeros(3))
    assert not ceiling.seen(whole, turned).any()


def test_what_is_hidden_from_the_inputs_is_not_seen():
    whole = batch(views=1, size=16)
    nearer = whole.map(torch.clone)
    nearer.depth[0, 0, :, :8] *= 0.5
    seen = ceiling.seen(nearer, whole)
    assert seen[0, :, 8:].all()
    assert not seen[0, :, :8].any()


def test_nearness_by_hand():
    whole = batch(views=3, size=16)
    given, others = ceiling.split(whole)
    given.depth[:] = 2.0
    poses = others.world_from_camera
    poses[0, 0] = given.world_from_camera[0, 1] @ rigid(
        rotation_from_vector(torch.tensor([0, np.radians(10), 0]).float()),
        torch.tensor([0.02, 0, 0]),
    )
    found = ceiling.nearness(given, others)
    torch.testing.assert_close(found, torch.tensor([[0.01, 10.0]]), atol=1e-3, rtol=0)


def test_the_masked_ratio_by_hand():
    truth = torch.zeros(1, 3, 2, 2)
    images = torch.tensor([[0.1, 0.5], [0.1, 0.5]]).expand(1, 3, 2, 2)
    mask = torch.tensor([[[True, False], [True, False]]])
    assert ceiling.masked_psnr(images, truth, mask).item() == pytest.approx(20, abs=1e-4)


def test_the_command_prints_its_table():
    options = ["--rooms", str(2**30 + 4096), "--count", "1", "--views", "2", "--size", "32"]
    done = CliRunner().invoke(ceiling.main, options, catch_exceptions=False)
    assert done.exit_code == 0
    assert "| saved scene |" in done.output
    assert "2 views given, 1 between them unseen" in done.output
