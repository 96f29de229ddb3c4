"""Losses on rows, by loops, closed forms and the numbers of the original code."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lossdraws import draw, finite_gradient, wave
from scipy.special import entr, softmax

from train import losses


def test_uncertain_code_loss_by_loops():
    logits, labels = draw(2, 5, 4).float(), torch.tensor([[0, 1, 2, 3, -1], [1, -1, 0, 0, 3]])
    doubt = torch.rand(2, 5, generator=torch.Generator().manual_seed(0))
    total = []
    for place in np.ndindex(2, 5):
        if labels[place] >= 0:
            p = np.exp(logits[place].numpy()) / np.exp(logits[place].numpy()).sum()
            u = float(doubt[place])
            total.append(-np.log(p[labels[place]]) * (1 - u) - np.log(1 - u))
    loss = losses.uncertain_code_loss(logits, labels, doubt)
    assert loss.item() == pytest.approx(np.mean(total), rel=1e-5)


def test_doubt_is_best_where_its_slope_says():
    logits = torch.tensor([[0.0, 3.0]])
    entropy = math.log1p(math.exp(3))
    doubt = torch.tensor([1 - 1 / entropy], requires_grad=True)
    label = torch.tensor([0])
    loss = losses.uncertain_code_loss(logits, label, doubt)
    assert torch.autograd.grad(loss, doubt)[0].abs() < 1e-5
    # Without doubt it is the cross-entropy.
    plain = losses.code_loss(logits, label, torch.ones(2))
    torch.testing.assert_close(losses.uncertain_code_loss(logits, label, torch.zeros(1)), plain)
    sure = torch.ones(1, requires_grad=True)
    finite_gradient(losses.uncertain_code_loss(logits, label, sure), sure)
    nothing = losses.uncertain_code_loss(logits, torch.tensor([-1]), sure)
    assert nothing == 0
    finite_gradient(nothing, sure)


def test_quantiser_gives_the_numbers_of_legaussians():
    # VectorQuantizer(6, 520, beta=0, concat=True, dino_weight=0.5) of buaavrcg/LEGaussians and the
    # balance of quantize_features.py. Both encoders' cosines are added, so 0.5 is missing here.
    rows, features = wave(6, 520), wave(1, 4, 5, 520, phase=1.0)
    cosines = losses.row_cosines(features[..., :512], rows[:, :512])
    cosines = cosines + 0.5 * losses.row_cosines(features[..., 512:], rows[:, 512:])
    assert losses.nearest_row_loss(cosines).item() + 0.5 == pytest.approx(1.1267218589782715)
    assert losses.load_balance_loss(cosines).item() == pytest.approx(0.16823141276836395)


def test_load_balance_between_even_use_and_collapse():
    even = 20 * torch.eye(5)
    assert losses.load_balance_loss(even).item() == pytest.approx(1 / 5)
    collapsed = torch.zeros(7, 5)
    collapsed[:, 2] = 20
    assert losses.load_balance_loss(collapsed).item() == pytest.approx(1, abs=1e-6)
    flat = torch.zeros(7, 5, requires_grad=True)
    finite_gradient(losses.load_balance_loss(flat), flat)


def test_joint_loss_gives_the_numbers_of_goi():
    # The lines of train.py of Quyans/GOI-Hyperplane, at both temperatures.
    codebook, features = wave(6, 5), wave(20, 5, phase=1.0)
    logits = 3 * wave(20, 6, phase=2.0)
    cosines = losses.row_cosines(features, codebook)
    parts = {
        50 / 6 * losses.one_hot_loss(logits, cosines.argmax(-1)): 9.61965274810791,
        losses.nearest_row_loss(cosines): 0.35243290662765503,
        losses.code_entropy_loss(cosines): 1.6988312005996704,
        losses.code_entropy_loss(cosines, 0.5): 1.4850248098373413,
        losses.lookup_loss(logits, codebook, features): 0.9334834218025208,
        losses.joint_code_loss(logits, codebook, features): 11.415218353271484,
        losses.joint_code_loss(logits, codebook, features, 0.5): 11.351076126098633,
    }
    for loss, expected in parts.items():
        assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_what_learns_from_the_joint_loss():
    codebook, logits = draw(6, 5).requires_grad_(), draw(20, 6, seed=1).requires_grad_()
    features = draw(20, 5, seed=2)
    finite_gradient(losses.joint_code_loss(logits, codebook, features), codebook, logits)
    lookup = losses.lookup_loss(logits, codebook, features)
    to_book, to_logits = torch.autograd.grad(lookup, (codebook, logits), allow_unused=True)
    assert to_logits is None
    used = torch.zeros(6, dtype=torch.bool).index_fill(0, logits.argmax(-1).unique(), True)
    assert torch.equal(to_book.abs().sum(1) > 0, used)
    # A feature 0 is like no row.
    still = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
    cosines = losses.row_cosines(still, codebook)
    assert (cosines == 0).all()
    finite_gradient(losses.nearest_row_loss(cosines), still, codebook)


def test_entropy_is_that_of_scipy():
    cosines = draw(4, 3, 7)
    expected = entr(softmax(cosines.numpy() / 0.3, axis=-1)).sum(-1).mean()
    assert losses.code_entropy_loss(cosines, 0.3).item() == pytest.approx(expected)
    steep = torch.tensor([[500.0, -500.0]], requires_grad=True)
    loss = losses.code_entropy_loss(steep)
    assert loss == 0
    finite_gradient(loss, steep)


def test_balanced_quantization_gives_the_number_of_df3dgs():
    # The loop of 0_Adaptive_Data_Compression.py of dai647/DF_3DGS over these 40 features.
    features = wave(40, 4, phase=1.0)
    features[20:] = features[:20] + 0.05 * wave(20, 4, phase=2.0)
    codebook = features[[4, 9, 0, 27, 14, 32]]
    loss = losses.balanced_quantization_loss(features, codebook)
    assert loss.item() == pytest.approx(0.09053915739059448, rel=1e-4)


def test_balance_makes_small_things_count():
    # The third row is nearest to nothing and does not count.
    codebook = torch.eye(3, dtype=torch.float64)
    wall = torch.tensor([[1.0, 0, 0]], dtype=torch.float64).expand(99, 3)
    thing = torch.tensor([[0.0, 1.0, 1.0 - 1e-9]], dtype=torch.float64)
    loss = losses.balanced_quantization_loss(torch.cat([wall, thing]), codebook)
    assert loss.item() == pytest.approx((1 - math.sqrt(0.5)) / 2)
    empty = codebook.clone().requires_grad_()
    loss = losses.balanced_quantization_loss(torch.zeros(0, 3, dtype=torch.float64), empty)
    assert loss == 0
    finite_gradient(loss, empty)


def test_prefixes_by_the_formula():
    scales = torch.tensor([0.0, 0.24, 0.26, 0.5, 0.51, 0.99, 1.0], dtype=torch.float64)
    # floor(8 (1 - s)) is 8, 6, 5, 4, 3, 0, 0; the prefixes are 2, 4 and 8 wide.
    levels = losses.prefix_levels(scales, (2, 4, 8))
    assert levels.tolist() == [2, 1, 1, 1, 0, 0, 0]
    every = losses.prefix_levels(scales, range(1, 9)) + 1
    assert every.tolist() == [max(1, math.floor(8 * (1 - s))) for s in scales.tolist()]


def test_nested_loss_by_loops():
    features = draw(12, 8).requires_grad_()
    maps = [draw(5, width, seed=width).requires_grad_() for width in (2, 4, 8)]
    levels = torch.tensor([0, 1, 2] * 4)
    targets = draw(12, 5, seed=1)
    total = []
    for feature, level, target in zip(features.detach(), levels, targets, strict=True):
        width = (2, 4, 8)[level]
        mapped = maps[level].detach().numpy() @ feature[:width].numpy()
        t = target.numpy()
        total.append(1 - mapped @ t / (np.linalg.norm(mapped) * np.linalg.norm(t)))
    loss = losses.nested_loss(features, maps, levels, targets)
    assert loss.item() == pytest.approx(np.mean(total), rel=1e-9)
    gradient = torch.autograd.grad(loss, features, retain_graph=True)[0]
    for row, width in zip(gradient, (2, 4, 8) * 4, strict=True):
        assert (row[:width] != 0).all()
        assert (row[width:] == 0).all()
    finite_gradient(loss, *maps)


def test_nested_loss_at_its_edges():
    still = torch.zeros(3, 4, requires_grad=True)
    maps = [torch.ones(5, 2, requires_grad=True), torch.ones(5, 4, requires_grad=True)]
    levels = torch.zeros(3, dtype=torch.long)
    loss = losses.nested_loss(still, maps, levels, torch.ones(3, 5))
    assert loss == 1
    finite_gradient(loss, still, *maps)
    targets = torch.ones(3, 5)
    exact = F.pad(torch.ones(3, 2), (0, 2)).requires_grad_()
    loss = losses.nested_loss(exact, maps, levels, targets)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    finite_gradient(loss, exact)
    nothing = losses.nested_loss(still[:0], maps, levels[:0], targets[:0])
    assert nothing == 0
