"""Geometry losses against formulas in numpy, hand values, scipy and the original code's numbers."""

import math

import numpy as np
import pytest
import torch
from lossdraws import draw, finite_gradient, wave
from scipy.spatial.transform import Rotation

from ffsplat.geometry import (
    intrinsics_from_focal,
    pixel_grid,
    rays,
    rotation_from_vector,
)
from train import losses


def maps(seed: int = 0):
    """Two images that wish for a gradient, their truth, and masks with gaps."""
    guess = (draw(2, 6, 7, seed=seed).exp() + 0.1).requires_grad_()
    truth = draw(2, 6, 7, seed=seed + 1).exp() + 0.1
    return guess, truth, draw(2, 6, 7, seed=seed + 2) > -0.4


def known(guess, truth, mask):
    """The masked pixels of each image in numpy."""
    return [
        (g[m].numpy(), t[m].numpy()) for g, t, m in zip(guess.detach(), truth, mask, strict=True)
    ]


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_scale_invariant_loss_is_eigens(balance):
    guess, truth, mask = maps()
    expected = []
    for g, t in known(guess.log(), truth.log(), mask):
        # The second of Eigen's three forms (equation 2): all pairs of pixels.
        d, n = g - t, len(g)
        pairs = np.square(d[:, None] - d[None]).sum() / (2 * n**2)
        expected.append(balance * pairs + (1 - balance) * np.square(d).mean())
    loss = losses.scale_invariant_loss(guess.log(), truth.log(), mask, balance)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-10)


def test_scale_shift_loss_is_least_squares():
    guess, truth, mask = maps()
    expected = []
    for g, t in known(guess, truth, mask):
        system = np.stack([g, np.ones_like(g)], 1)
        residual = np.linalg.lstsq(system, t)[1][0]
        expected.append(residual / (2 * len(g)))
    loss = losses.scale_shift_loss(guess, truth, mask)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-9)


@pytest.mark.parametrize("trim", [0.0, 0.2])
def test_trimmed_scale_shift_loss_by_numpy(trim):
    guess, truth, mask = maps()

    def standard(x):
        # With an even number of pixels the median is the lower of the middle two.
        middle = np.sort(x)[(len(x) - 1) // 2]
        return (x - middle) / np.abs(x - middle).mean()

    expected = []
    for g, t in known(guess, truth, mask):
        error = np.sort(np.abs(standard(g) - standard(t)))
        expected.append(error[: int((1 - trim) * len(error))].sum() / (2 * len(error)))
    loss = losses.trimmed_scale_shift_loss(guess, truth, mask, trim)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-9)


def test_scale_and_shift_do_not_matter():
    guess, truth, mask = maps()
    for loss in (losses.scale_shift_loss, losses.trimmed_scale_shift_loss):
        torch.testing.assert_close(loss(3 * guess + 5, truth, mask), loss(guess, truth, mask))
        assert loss(2 * truth + 1, truth, mask).item() == pytest.approx(0, abs=1e-12)
    trimmed = losses.trimmed_scale_shift_loss
    torch.testing.assert_close(trimmed(guess, 4 * truth - 2, mask), trimmed(guess, truth, mask))


@pytest.mark.parametrize(
    "loss",
    [losses.scale_invariant_loss, losses.scale_shift_loss, losses.trimmed_scale_shift_loss],
)
def test_depth_losses_at_their_edges(loss):
    guess, truth, mask = maps()
    value = loss(guess, truth, mask)
    finite_gradient(value, guess)
    # An image without truth, whatever stands there, neither counts nor breaks the other.
    more = torch.cat([guess, guess[:1]])
    unknown = torch.full_like(truth[:1], -torch.inf)
    blind = torch.cat([mask, torch.zeros_like(mask[:1])])
    padded = loss(more, torch.cat([truth, unknown]), blind)
    torch.testing.assert_close(padded, value)
    finite_gradient(padded, guess)
    nothing = loss(guess, truth, torch.zeros_like(mask))
    assert nothing == 0
    finite_gradient(nothing, guess)
    same = truth.clone().requires_grad_()
    finite_gradient(loss(same, truth, mask), same)
    flat = torch.ones_like(truth).requires_grad_()
    finite_gradient(loss(flat, truth, mask), flat)


def point_maps():
    points, truth = 2 * wave(2, 2, 3, 4, 3) + 1, 3 * wave(2, 2, 3, 4, 3, phase=1.0) + 2
    mask = wave(2, 2, 3, 4, phase=2.0) > -0.5
    mask[:, 1] = mask[:, 0].flip(-1)
    return points, truth, mask, 1 + wave(2, 2, 3, 4, phase=3.0).exp()


def test_point_loss_gives_the_numbers_of_dust3r():
    # Regr3D(L21, "avg_dis") and ConfLoss(alpha=0.2) of naver/dust3r add the means of two views,
    # which have equally many points here.
    points, truth, mask, confidence = point_maps()
    plain = (0.7669632434844971 + 0.75193190574646) / 2
    weighted = (1.6160905361175537 + 1.5531654357910156) / 2
    loss = losses.point_loss(points, truth, mask)
    assert loss.item() == pytest.approx(plain, rel=1e-5)
    loss = losses.point_loss(points, truth, mask, confidence, alpha=0.2)
    assert loss.item() == pytest.approx(weighted, rel=1e-5)


def test_points_have_no_unit_and_no_value_outside_the_mask():
    points, truth, mask, _ = point_maps()
    loss = losses.point_loss(points, truth, mask)
    torch.testing.assert_close(losses.point_loss(7 * points, 0.1 * truth, mask), loss)
    gone = torch.where(mask[..., None], truth, torch.nan)
    torch.testing.assert_close(losses.point_loss(points, gone, mask), loss)
    same = truth.clone().requires_grad_()
    loss = losses.point_loss(same, gone, mask)
    assert loss == 0
    finite_gradient(loss, same)
    points.requires_grad_()
    finite_gradient(losses.point_loss(points, truth, torch.zeros_like(mask)), points)


def test_confidence_is_best_at_alpha_over_error():
    error = torch.tensor([0.05, 0.4], dtype=torch.float64)
    confidence = (0.2 / error).requires_grad_()
    mask = torch.ones(2, dtype=torch.bool)
    loss = losses.confidence_loss(error, confidence, mask, alpha=0.2)
    assert loss.item() == pytest.approx(0.2 - 0.2 * math.log(0.2) + 0.1 * math.log(0.05 * 0.4))
    assert torch.autograd.grad(loss, confidence)[0].abs().max() < 1e-12


def test_rotation_loss_is_the_angle_of_scipy():
    guess, truth = Rotation.random(50, rng=0), Rotation.random(50, rng=1)
    expected = (guess.inv() * truth).magnitude().mean()
    loss = losses.rotation_loss(
        torch.from_numpy(guess.as_matrix()), torch.from_numpy(truth.as_matrix())
    )
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, math.pi - 1e-6, math.pi])
def test_rotation_loss_has_a_gradient_everywhere(angle):
    vector = torch.tensor([0.0, angle, 0.0], dtype=torch.float64, requires_grad=True)
    loss = losses.rotation_loss(rotation_from_vector(vector), torch.eye(3, dtype=torch.float64))
    assert loss.item() == pytest.approx(angle, abs=1e-8)
    finite_gradient(loss, vector)


def slow_angle(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    a, b = a.detach().numpy(), b.detach().numpy()
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1))


def test_directions_by_cross_product():
    guess, truth = draw(9, 3).requires_grad_(), draw(9, 3, seed=1)
    truth[0] = 1e-4
    expected = slow_angle(guess, truth)[1:].mean()
    assert losses.direction_loss(guess, truth).item() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(
        losses.direction_loss(5 * guess, truth), losses.direction_loss(guess, truth)
    )
    everywhere = torch.ones(9, dtype=torch.bool)
    assert losses.ray_angle_loss(guess, truth, everywhere).item() == pytest.approx(
        slow_angle(guess, truth).mean(), rel=1e-9
    )
    for still in (torch.zeros(2, 3), torch.ones(2, 3), -torch.ones(2, 3)):
        still = still.requires_grad_()
        finite_gradient(losses.direction_loss(still, torch.ones(2, 3)), still)
        finite_gradient(losses.direction_loss(still, torch.zeros(2, 3)), still)


def test_small_angles_keep_their_digits():
    a = torch.tensor([[1.0, 0, 0]])
    b = torch.tensor([[1.0, 1e-5, 0]])
    loss = losses.ray_angle_loss(a, b, torch.tensor([True]))
    assert loss.item() == pytest.approx(1e-5, rel=1e-4)


def test_ray_loss_by_hand():
    truth = torch.zeros(2, 6)
    guess = torch.tensor([[1.0, 0, 0, 0, -2, 0], [9, 9, 9, 9, 9, 9]])
    assert losses.ray_loss(guess, truth, torch.tensor([True, False])) == 0.5
    assert losses.ray_loss(guess, truth, torch.tensor([False, False])) == 0


def test_focal_and_field_of_view_by_hand():
    guess = intrinsics_from_focal(torch.tensor([32.0]), 64, 64)
    truth = intrinsics_from_focal(torch.tensor([64.0]), 64, 64)
    assert losses.focal_length_loss(guess, truth).item() == pytest.approx(math.log(2))
    expected = math.pi / 2 - 2 * math.atan(0.5)
    loss = losses.field_of_view_loss(guess, truth, 64, 64)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    # Of a wide image with pixels that are not square: 2 atan(32 / 32) and 2 atan(16 / 8) against
    # 2 atan(32 / 64) and 2 atan(16 / 64).
    guess[:, 1, 1] = 8
    wide = (math.pi / 2 + 2 * math.atan(2) - 2 * math.atan(0.5) - 2 * math.atan(0.25)) / 2
    loss = losses.field_of_view_loss(guess, truth, 32, 64)
    assert loss.item() == pytest.approx(wide, rel=1e-6)
    assert losses.focal_length_loss(guess, truth).item() == pytest.approx(math.log(16) / 2)


def plane_depth(normal: torch.Tensor, intrinsics: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """z-depth of the plane normal . x = -2, cast through every pixel."""
    through = rays(pixel_grid(h, w, intrinsics).flatten(0, 1), intrinsics)
    return (-2 / (through @ normal)).unflatten(0, (h, w))


def test_normals_are_those_of_planes():
    intrinsics = intrinsics_from_focal(torch.tensor(10.0, dtype=torch.float64), 8, 9)
    first = torch.tensor([0.2, -0.4, -1.0], dtype=torch.float64)
    second = torch.tensor([-0.3, 0.1, -1.0], dtype=torch.float64)
    depth, truth = (plane_depth(n, intrinsics, 8, 9) for n in (first, second))
    expected = (first / first.norm()).expand(6, 7, 3)
    torch.testing.assert_close(losses.normals(depth, intrinsics), expected)
    everywhere = torch.ones(8, 9, dtype=torch.bool)
    loss = losses.normal_loss(3 * depth, intrinsics, truth, intrinsics, everywhere)
    assert loss.item() == pytest.approx(float(slow_angle(first, second)), rel=1e-9)


def test_normals_next_to_unknown_depth_do_not_count():
    intrinsics = intrinsics_from_focal(torch.tensor(10.0, dtype=torch.float64), 8, 9)
    normal = torch.tensor([0.2, -0.4, -1.0], dtype=torch.float64)
    truth = plane_depth(normal, intrinsics, 8, 9)
    depth = truth.clone().requires_grad_()
    mask = torch.ones(8, 9, dtype=torch.bool)
    mask[3, 4] = False
    for unknown in (torch.nan, 0.0):
        truth[3, 4] = unknown
        loss = losses.normal_loss(depth, intrinsics, truth, intrinsics, mask)
        assert loss.item() == pytest.approx(0, abs=1e-6)
        finite_gradient(loss, depth)
    # The same hole seen by the wrong mask is a kink.
    mask[3, 4] = True
    assert losses.normal_loss(depth, intrinsics, truth, intrinsics, mask) > 0.05
    nothing = losses.normal_loss(depth, intrinsics, truth, intrinsics, torch.zeros_like(mask))
    assert nothing == 0
    finite_gradient(nothing, depth)
