"""Losses against hand values and the exact toy world."""

import math

import pytest
import torch
from boxroom import cameras, depth_and_points

from ffsplat.geometry import invert_rigid, project, transform_points
from train import losses


def test_masked_mean():
    values = torch.tensor([1.0, 2.0, 6.0])
    assert losses.masked_mean(values, torch.tensor([True, False, True])) == 3.5
    assert losses.masked_mean(values, torch.zeros(3, dtype=torch.bool)) == 0


def test_depth_loss_ignores_what_is_masked():
    truth = torch.zeros(1, 1, 2, 2)
    guess = torch.tensor([[[[1.0, -2.0], [0.0, 100.0]]]])
    mask = torch.tensor([[[[True, True], [True, False]]]])
    assert losses.depth_loss(guess, truth, mask) == 1.0


def test_gradient_loss_sees_slopes_and_not_offsets():
    truth = torch.zeros(1, 1, 8, 8)
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    assert losses.gradient_loss(truth + 3, truth, mask) == 0
    # Slope 0.5 along x: 0.5 at stride 1 and 2.0 at stride 4, nothing along y; mean of four.
    slope = 0.5 * torch.arange(8.0).expand(1, 1, 8, 8)
    torch.testing.assert_close(
        losses.gradient_loss(slope, truth, mask), torch.tensor((0.5 + 2.0) / 4)
    )


def test_error_loss_is_least_at_the_mean_error():
    actual = torch.tensor([0.1, 0.3]).reshape(1, 1, 1, 2)
    mask = torch.ones_like(actual, dtype=torch.bool)
    expected = torch.full_like(actual, 0.2).requires_grad_()
    loss = losses.error_loss(expected, actual, mask)
    assert loss.item() == pytest.approx(1 + math.log(0.2))
    loss.backward()
    assert expected.grad.sum().item() == pytest.approx(0, abs=1e-5)


def test_instance_loss_by_hand():
    # Two pixels of one object (cosine 1), one of another (cosine 0).
    embeddings = torch.tensor([[[1.0, 0], [1, 0], [0, 1]]])
    loss = losses.instance_loss(embeddings, torch.tensor([[4, 4, 9]]))
    expected = math.log1p(math.exp(-4.0))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_code_loss_weights_classes():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    labels = torch.tensor([0, 1])
    loss = losses.code_loss(logits, labels, torch.tensor([1.0, 3.0]))
    expected = (math.log1p(math.exp(-2)) + 3 * math.log(2)) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def exact_pair():
    poses = cameras(2)
    depth, intrinsics, _ = depth_and_points(poses, 50.0, 64, 64)
    return poses, depth, intrinsics, torch.tensor([0, 1]), torch.tensor([1, 0])


@pytest.mark.parametrize("stride", [4, 8])
def test_correspondences_are_the_projections_of_cell_centres(stride):
    poses, depth, intrinsics, source, target = exact_pair()
    places, visible = losses.correspondences(depth, intrinsics, poses, source, target, stride)
    # The cell centres' own rays, cast exactly.
    _, _, centres = depth_and_points(poses, 50.0 / stride, 64 // stride, 64 // stride)
    local = transform_points(invert_rigid(poses[:, target]), centres[:, source])
    expected = project(local, intrinsics[:, target])
    assert 0.3 < visible.float().mean() < 1
    error = (places - expected).norm(dim=-1)[visible]
    assert error.max() < 0.05
    outside = ((expected < -1) | (expected > 65)).any(-1)
    assert not visible[outside].any()


def test_occluded_points_are_not_visible():
    poses, depth, intrinsics, source, target = exact_pair()
    depth = depth.clone()
    depth[:, 1] *= 0.7
    _, visible = losses.correspondences(depth, intrinsics, poses, source, target, 4)
    assert not visible.any()


def test_match_loss_prefers_the_truth():
    poses, depth, intrinsics, source, target = exact_pair()
    places, visible = losses.correspondences(depth, intrinsics, poses, source, target, 4)
    _, _, points = depth_and_points(poses, 50.0 / 4, 16, 16)
    waves = 4 * torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    right = torch.nn.functional.normalize((points @ waves).cos(), dim=-1).unflatten(2, (16, 16))
    loss = losses.match_loss(right, places, visible, source, target, 4)
    flat = torch.ones_like(right) / 8
    uniform = losses.match_loss(flat, places, visible, source, target, 4)
    assert uniform.item() == pytest.approx(math.log(256), rel=0.05)
    assert loss < 0.6 * uniform


def test_match_loss_shares_by_bilinear_weight():
    # One visible cell whose place is a quarter of a cell right of cell (0, 0)'s centre.
    descriptors = torch.zeros(1, 2, 2, 2, 3)
    descriptors[0, 0, 0, 0] = torch.tensor([1.0, 0, 0])
    descriptors[0, 1, 0, 0] = torch.tensor([0.1, 0, 0])
    places = torch.tensor([[[[3.0, 2.0]] * 4]])
    visible = torch.tensor([[[True, False, False, False]]])
    zero, one = torch.tensor([0]), torch.tensor([1])
    loss = losses.match_loss(descriptors, places, visible, zero, one, 4)
    total = math.exp(2) + 3
    expected = -(0.75 * math.log(math.exp(2) / total) + 0.25 * math.log(1 / total))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_place_that_is_nowhere_leaves_the_gradient_of_match_loss_finite():
    descriptors = torch.eye(4).reshape(1, 1, 2, 2, 4).repeat(1, 2, 1, 1, 1).requires_grad_()
    places = torch.tensor([[[[2.0, 2.0], [torch.nan, 2.0], [torch.inf, 2.0], [-torch.inf, 2.0]]]])
    visible = torch.tensor([[[True, False, False, False]]])
    zero, one = torch.tensor([0]), torch.tensor([1])
    losses.match_loss(descriptors, places, visible, zero, one, 4).backward()
    assert descriptors.grad.isfinite().all()
    assert descriptors.grad.any()


def test_match_loss_of_some_cells_is_that_of_these_alone():
    poses, depth, intrinsics, source, target = exact_pair()
    places, visible = losses.correspondences(depth, intrinsics, poses, source, target, 4)
    descriptors = torch.nn.functional.normalize(
        torch.randn(1, 2, 16, 16, 8, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    cells = torch.tensor([200, 3, 77, 78])
    asked = torch.zeros(256, dtype=torch.bool).index_fill(0, cells, True)
    expected = losses.match_loss(descriptors, places, visible & asked, source, target, 4)
    found = losses.match_loss(
        descriptors, places[:, :, cells], visible[:, :, cells], source, target, 4, cells
    )
    assert visible[:, :, cells].any()
    torch.testing.assert_close(found, expected)
