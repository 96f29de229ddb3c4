"""Losses on images and on what lies along a ray, against scipy and sums over all pairs."""

import math

import numpy as np
import pytest
import torch
from lossdraws import finite_gradient
from scipy.ndimage import gaussian_filter

from train import losses


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def test_l1_and_mse_with_and_without_a_mask():
    image, truth = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    image[0, :, 0, 0] = torch.tensor([0.3, -0.6, 0.0])
    left, right = torch.tensor([[[True, False]]]), torch.tensor([[[False, True]]])
    assert losses.l1_loss(image, truth).item() == pytest.approx(0.15)
    assert losses.l1_loss(image, truth, left).item() == pytest.approx(0.3)
    assert losses.l1_loss(image, truth, right) == 0
    assert losses.mse_loss(image, truth).item() == pytest.approx(0.075)
    assert losses.mse_loss(image, truth, left).item() == pytest.approx(0.15)
    assert losses.mse_loss(image, truth, left & right) == 0


def slow_ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Filters of scipy over the whole channel, and the border cut off."""

    def blur(values):
        # Radius int(3.5 * 1.5 + 0.5) = 5.
        return gaussian_filter(values, sigma=1.5, truncate=3.5)[5:-5, 5:-5]

    mx, my = blur(image), blur(truth)
    vx, vy = blur(image**2) - mx**2, blur(truth**2) - my**2
    cov = blur(image * truth) - mx * my
    c1, c2 = (0.01 * 1.0) ** 2, (0.03 * 1.0) ** 2
    top = (2 * mx * my + c1) * (2 * cov + c2)
    return float((top / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def test_ssim_is_that_of_scipys_filters():
    image, truth = draw(2, 3, 17, 14), draw(2, 3, 17, 14, seed=1)
    image = 0.5 * image + 0.5 * truth
    expected = [
        np.mean([slow_ssim(a, b) for a, b in zip(one, other, strict=True)])
        for one, other in zip(image.numpy(), truth.numpy(), strict=True)
    ]
    np.testing.assert_allclose(losses.ssim(image, truth).numpy(), expected, rtol=1e-10)
    assert losses.ssim_loss(image, truth).item() == pytest.approx(1 - np.mean(expected))


def test_ssim_of_float32_images():
    image, truth = draw(1, 3, 20, 20), draw(1, 3, 20, 20, seed=1)
    torch.testing.assert_close(
        losses.ssim(image.float(), truth.float()).double(), losses.ssim(image, truth),
        atol=1e-5, rtol=0,
    )  # fmt: skip


def test_ssim_at_its_edges():
    truth = draw(2, 3, 11, 12)
    same = truth.clone().requires_grad_()
    loss = losses.ssim_loss(same, truth)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    finite_gradient(loss, same)
    flat = torch.zeros_like(truth).requires_grad_()
    assert losses.ssim_loss(flat, torch.zeros_like(truth)).item() == pytest.approx(0, abs=1e-12)
    finite_gradient(losses.ssim_loss(flat, truth), flat)
    # Flat images of luminance 0 and 1: the structure agrees, the luminance does not.
    expected = 1 - 0.01**2 / (1 + 0.01**2)
    loss = losses.ssim_loss(torch.zeros_like(truth), torch.ones_like(truth))
    assert loss.item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="11 pixels"):
        losses.ssim(truth[..., :10], truth[..., :10])


def rays_of(n: int = 9):
    return draw(4, n).requires_grad_(), 3 * draw(4, n, seed=1), draw(4, n, seed=2)


@pytest.mark.parametrize("extent", [False, True])
def test_distortion_is_the_sum_over_all_pairs(extent):
    weights, depths, widths = rays_of()
    pairs = weights[:, :, None] * weights[:, None] * (depths[:, :, None] - depths[:, None]).abs()
    expected = pairs.sum((1, 2))
    if extent:
        expected = expected + (weights.square() * widths).sum(1) / 3
    loss = losses.distortion_loss(weights, depths, widths if extent else None)
    torch.testing.assert_close(loss, expected.mean())
    torch.testing.assert_close(
        torch.autograd.grad(loss, weights), torch.autograd.grad(expected.mean(), weights)
    )


def test_distortion_of_mipnerf_is_an_integral():
    # Equation 14, of which 15 is the closed form for steps: the double integral of
    # w(u) w(v) |u - v|, by the midpoint rule.
    edges = np.array([0.0, 0.5, 0.7, 1.5])
    weights = np.array([0.2, 0.5, 0.1])
    points = (np.arange(3000) + 0.5) * 1.5 / 3000
    density = (weights / np.diff(edges))[np.searchsorted(edges, points) - 1] * 1.5 / 3000
    integral = density @ np.abs(points[:, None] - points) @ density
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    loss = losses.distortion_loss(*(torch.from_numpy(x) for x in (weights, middle, width)))
    assert loss.item() == pytest.approx(integral, rel=1e-5)


def test_splatted_distortion_is_the_sum_over_pairs():
    weights, depths, _ = rays_of()
    squares = (depths[:, :, None] - depths[:, None]).square()
    pairs = (weights[:, :, None] * weights[:, None] * squares).tril(-1).sum((1, 2))
    loss = losses.splatted_distortion_loss(
        weights.sum(1), (weights * depths).sum(1), (weights * depths.square()).sum(1)
    )
    torch.testing.assert_close(loss, pairs.mean())


def test_distortion_at_its_edges():
    weights, depths, _ = rays_of()
    together = torch.ones_like(depths).requires_grad_()
    loss = losses.distortion_loss(weights, together)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    finite_gradient(loss, weights, together)
    empty = torch.zeros_like(weights).requires_grad_()
    loss = losses.distortion_loss(empty, depths)
    assert loss == 0
    finite_gradient(loss, empty)


def test_opacity_losses_by_hand():
    opacities = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    assert losses.opacity_loss(opacities).item() == 0.5
    entropy = losses.opacity_entropy_loss(opacities)
    nearly = -1e-4 * math.log(1e-4) - (1 - 1e-4) * math.log1p(-1e-4)
    assert entropy.item() == pytest.approx((math.log(2) + 2 * nearly) / 3)
    finite_gradient(entropy, opacities)
    slope = torch.autograd.grad(losses.opacity_entropy_loss(opacities[1:2] * 0.4), opacities)
    assert slope[0][1].item() == pytest.approx(0.4 * math.log(0.8 / 0.2))


def test_scale_losses_by_hand():
    scales = torch.tensor([[0.1, 1.0, 2.0], [20.0, 1.0, 1.0]], requires_grad=True)
    assert losses.scale_loss(scales).item() == pytest.approx(25.1 / 6)
    loss = losses.scale_range_loss(scales, 0.2, 10.0)
    assert loss.item() == pytest.approx(2 * math.log(2) / 6)
    gradient = torch.autograd.grad(loss, scales)[0]
    expected = torch.tensor([[-10.0, 0, 0], [0.05, 0, 0]]) / 6
    torch.testing.assert_close(gradient, expected)
