"""Losses on agreement, against loops, closed forms and hand values."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from lossdraws import draw, finite_gradient, wave

from train import losses


def slow_divergence(points, logits, k: int, with_self: bool) -> float:
    """KL from every point to each of its nearest, by scipy."""
    points, table = points.numpy(), scipy.special.softmax(logits.detach().numpy(), axis=1)
    values = []
    for j in range(len(points)):
        near = np.argsort(np.linalg.norm(points - points[j], axis=1))
        near = near[:k] if with_self else near[1 : k + 1]
        values += [scipy.stats.entropy(table[j], table[i]) for i in near]
    return float(np.mean(values))


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("with_self", [False, True])
def test_neighbours_diverge(k, with_self, monkeypatch):
    points, logits = draw(50, 3), draw(50, 7, seed=1).requires_grad_()
    expected = slow_divergence(points, logits, k, with_self)
    loss = losses.neighbour_loss(points, logits, k=k, with_self=with_self)
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-12)  # logits go to float32
    scaled = losses.neighbour_loss(points, logits, k=k, with_self=with_self, per_class=True)
    assert scaled.item() == pytest.approx(expected / 7, rel=1e-5, abs=1e-12)
    monkeypatch.setattr("train.losses.consistency.DISTANCES", 120)  # two anchors at a time
    again = losses.neighbour_loss(points, logits, k=k, with_self=with_self)
    assert again.item() == pytest.approx(expected, rel=1e-5, abs=1e-12)
    finite_gradient(loss, logits, unused=True)


def test_self_counted_among_k_neighbours_costs_a_share():
    points, logits = draw(30, 3), draw(30, 4, seed=1)
    four = losses.neighbour_loss(points, logits, k=4)
    five = losses.neighbour_loss(points, logits, k=5, with_self=True)
    assert five.item() == pytest.approx(0.8 * four.item(), rel=1e-5)


def test_divergence_falls_when_neighbours_agree():
    # With the other sign a step down the gradient would push them apart.
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    logits = torch.tensor([[1.0, 0], [0, 1.0]], requires_grad=True)
    loss = losses.neighbour_loss(points, logits, k=1)
    p = 1 / (1 + math.exp(-1))
    assert loss.item() == pytest.approx((2 * p - 1) * 1.0)  # log-odds 1 against -1
    (gradient,) = torch.autograd.grad(loss, logits)
    gap = (logits - 0.1 * gradient).diff(dim=0).abs().sum()
    assert gap < logits.diff(dim=0).abs().sum()
    shifted = losses.neighbour_loss(points, logits + torch.tensor([[3.0], [-5.0]]), k=1)
    assert shifted.item() == pytest.approx(loss.item(), rel=1e-5)
    assert losses.neighbour_loss(points, torch.ones(2, 3), k=1).item() == 0


def test_sampling_is_reproducible_and_bounded():
    points, logits = draw(200, 3), draw(200, 4, seed=1)

    def cost(seed: int, **options: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        return losses.neighbour_loss(points, logits, generator=generator, **options).item()

    assert cost(1, samples=20) == cost(1, samples=20) != cost(2, samples=20)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))[:30]
    expected = slow_divergence(points[order], logits[order], 5, False)
    assert cost(3, most=30) == pytest.approx(expected, rel=1e-5)


def test_lonely_and_coincident_points():
    logits = draw(4, 3).requires_grad_()
    for n in (0, 1):
        alone = losses.neighbour_loss(torch.zeros(n, 3), logits[:n])
        assert alone.item() == 0
        finite_gradient(alone, logits, unused=True)
    points = torch.zeros(4, 3, requires_grad=True)
    together = losses.neighbour_loss(points, 1000 * logits, k=9)
    finite_gradient(together, logits, points, unused=True)
    assert together > 0


def test_flatness_is_the_smallest_scale():
    scales = torch.tensor([[3.0, 0.2, 1.0], [0.1, 5.0, 5.0]], requires_grad=True)
    loss = losses.flatness_loss(scales)
    assert loss.item() == pytest.approx(0.15)
    (gradient,) = torch.autograd.grad(loss, scales)
    torch.testing.assert_close(gradient, torch.tensor([[0, 0.5, 0], [0.5, 0, 0]]))
    assert losses.flatness_loss(scales[:0]).item() == 0


def test_objects_agree_with_their_mean():
    logits = draw(20, 5).requires_grad_()
    identities = torch.tensor([4] * 3 + [-2] * 10 + [9] * 7)[torch.randperm(20)]
    table = scipy.special.softmax(logits.detach().numpy(), axis=1)
    expected = []
    for name in (4, -2, 9):
        rows = table[identities.numpy() == name]
        expected.append(np.mean([scipy.stats.entropy(rows.mean(0), row) for row in rows]))
    loss = losses.object_agreement_loss(logits, identities)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)
    finite_gradient(loss, logits, unused=True)


def test_object_agreement_at_the_edges():
    sure = torch.tensor([[500.0, 0, 0], [0, 500, 0]], requires_grad=True)
    torn = losses.object_agreement_loss(sure, torch.tensor([1, 1]))
    assert torn.item() == pytest.approx(250 - math.log(2))  # half of 500 nats, less the entropy
    finite_gradient(torn, sure, unused=True)
    apart = losses.object_agreement_loss(sure, torch.tensor([1, 2]))
    assert apart.item() == pytest.approx(0, abs=1e-6)
    alike = torch.ones(6, 3, requires_grad=True)
    assert losses.object_agreement_loss(alike, torch.zeros(6, dtype=torch.long)).item() < 1e-6
    empty = torch.zeros(0, 3, requires_grad=True)
    nothing = losses.object_agreement_loss(empty, torch.zeros(0, dtype=torch.long))
    assert nothing.item() == 0
    finite_gradient(nothing, empty, unused=True)


def test_vote_by_hand():
    labels = torch.tensor([[2, 1, 0, 1], [2, 0, 1, 1], [0, 0, 1, 1]])
    seen = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0]], dtype=torch.bool)
    assert losses.vote_labels(labels, seen, 3).tolist() == [2, 0, 0, -1]
    labels[0], labels[1, 2] = -1, -1
    assert losses.vote_labels(labels, seen, 3).tolist() == [0, 0, -1, -1]


def test_views_agree_with_the_vote():
    logits = draw(4, 25, 6).requires_grad_()
    seen = draw(4, 25, seed=1) > -0.3
    table = scipy.special.log_softmax(logits.detach().numpy(), axis=-1)
    total, count = 0.0, 0
    for point in range(25):
        views = [view for view in range(4) if seen[view, point]]
        if len(views) < 2:
            continue
        ballot = np.bincount([table[view, point].argmax() for view in views], minlength=6)
        total -= sum(table[view, point, ballot.argmax()] for view in views)
        count += len(views)
    loss = losses.view_agreement_loss(logits, seen)
    assert 0 < count < 100
    assert loss.item() == pytest.approx(total / count / math.log(6), rel=1e-5)
    finite_gradient(loss, logits, unused=True)


def test_views_at_the_edges():
    logits = torch.zeros(3, 5, 8, requires_grad=True)
    everywhere = torch.ones(3, 5, dtype=torch.bool)
    assert losses.view_agreement_loss(logits, everywhere).item() == pytest.approx(1)
    once = torch.zeros_like(everywhere)
    once[1] = True
    lonely = losses.view_agreement_loss(logits, once)
    assert lonely.item() == 0
    finite_gradient(lonely, logits, unused=True)
    with pytest.raises(ValueError, match="not 1"):
        losses.view_agreement_loss(torch.zeros(2, 5, 1), everywhere[:2])


def test_features_agree_with_what_views_say_together():
    features = F.normalize(draw(3, 20, 4), dim=-1).requires_grad_()
    seen = draw(3, 20, seed=1) > -0.2
    rows, total, count = features.detach().numpy(), 0.0, 0
    for point in range(20):
        views = [view for view in range(3) if seen[view, point]]
        if len(views) < 2:
            continue
        mean = np.mean([rows[view, point] for view in views], axis=0)
        mean /= np.linalg.norm(mean)
        total += sum(np.abs(rows[view, point] - mean).mean() for view in views)
        count += len(views)
    loss = losses.feature_agreement_loss(features, seen)
    assert 0 < count < 60
    assert loss.item() == pytest.approx(total / count, rel=1e-9)
    (gradient,) = torch.autograd.grad(loss, features)
    # Only signs over 4 channels reach the features: what they agree on is held fixed.
    steps = (gradient * 4 * count).round(decimals=6).unique()
    assert set(steps.tolist()) == {-1, 0, 1}


def test_features_at_the_edges():
    same = F.normalize(draw(1, 6, 4), dim=-1).expand(3, 6, 4)
    everywhere = torch.ones(3, 6, dtype=torch.bool)
    assert losses.feature_agreement_loss(same, everywhere).item() == pytest.approx(0, abs=1e-12)
    opposite = torch.tensor([[[1.0, 0]], [[-1.0, 0]]], requires_grad=True)
    torn = losses.feature_agreement_loss(opposite, everywhere[:2, :1])
    assert torn.item() == pytest.approx(0.5)  # together they say nothing
    finite_gradient(torn, opposite, unused=True)
    unseen = losses.feature_agreement_loss(opposite, ~everywhere[:2, :1])
    assert unseen.item() == 0
    finite_gradient(unseen, opposite, unused=True)


def slow_cosines(features: np.ndarray) -> np.ndarray:
    """Cosines of every pixel with its 8 neighbours, by numpy's reflection."""
    h, w, _ = features.shape
    padded = np.pad(features, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    cosines = np.empty((h, w, 8))
    for y in range(h):
        for x in range(w):
            window = np.delete(padded[y : y + 3, x : x + 3].reshape(9, -1), 4, axis=0)
            here = features[y, x]
            cosines[y, x] = window @ here / np.linalg.norm(window, axis=1) / np.linalg.norm(here)
    return cosines


def test_affinity_of_pixels():
    features, reference = draw(2, 5, 7, 3).requires_grad_(), draw(2, 5, 7, 6, seed=1)
    reference.requires_grad_()
    expected = np.mean(
        [
            np.abs(slow_cosines(one) - slow_cosines(two)).mean()
            for one, two in zip(features.detach().numpy(), reference.detach().numpy(), strict=True)
        ]
    )
    loss = losses.affinity_loss(features, reference)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    _, teacher = torch.autograd.grad(loss, (features, reference), allow_unused=True)
    assert teacher is None
    lengths = draw(2, 5, 7, 1, seed=2).exp()
    rescaled = losses.affinity_loss(lengths * features, 3 / lengths * reference)
    assert rescaled.item() == pytest.approx(expected, rel=1e-6)
    assert losses.affinity_loss(features, 2 * features).item() == pytest.approx(0, abs=1e-12)


def test_affinity_at_the_edges():
    flat = torch.ones(3, 4, 2, requires_grad=True)
    blank = torch.zeros(3, 4, 5)
    loss = losses.affinity_loss(flat, blank)
    assert loss.item() == pytest.approx(1)  # a constant image is like itself everywhere
    finite_gradient(loss, flat, unused=True)
    dark = torch.zeros(3, 4, 2, requires_grad=True)
    finite_gradient(losses.affinity_loss(dark, flat), dark, unused=True)
    with pytest.raises(ValueError, match="no neighbours"):
        losses.affinity_loss(flat[:1], blank[:1])


def test_smoothness_by_hand_and_its_gradients():
    smooth = torch.tensor([[1.0, 2.0]], requires_grad=True)
    codes = torch.tensor([[0.0, 4.0]], requires_grad=True)
    doubt = torch.tensor([0.5], requires_grad=True)
    loss = losses.smoothness_loss(smooth, codes, doubt)
    # The mean square is 2.5; the weight of the codes' own term is 0.1 + 0.9 / 2.
    assert loss.item() == pytest.approx(2.5 * 1.55)
    gradients = torch.autograd.grad(loss, (smooth, codes, doubt), allow_unused=True)
    torch.testing.assert_close(gradients[0], torch.tensor([[1.0, -2.0]]))
    torch.testing.assert_close(gradients[1], 0.55 * torch.tensor([[-1.0, 2.0]]))
    assert gradients[2] is None
    for value, weight in ((0.0, 0.2), (1.0, 1.0)):
        ends = losses.smoothness_loss(smooth, codes, torch.tensor([value]), least=0.2)
        assert ends.item() == pytest.approx(2.5 * (1 + weight))
    assert losses.smoothness_loss(smooth[:0], codes[:0], doubt[:0]).item() == 0


def test_numbers_of_the_original_code():
    # Run on these inputs: loss_cls_3d of Gaussian Grouping, dotp_sim of FMGS, LEGaussians.
    points, logits = wave(300, 3), 2 * wave(300, 16, phase=1)
    grouping = losses.neighbour_loss(points, logits, with_self=True, per_class=True)
    assert 2 * grouping.item() == pytest.approx(0.13462411, rel=1e-5)
    images = wave(6, 5, 7).movedim(0, -1), wave(4, 5, 7, phase=2).movedim(0, -1)
    assert losses.affinity_loss(*images).item() == pytest.approx(0.48713881, rel=1e-5)
    codes = wave(20, 8), wave(20, 8, phase=1), wave(20, phase=3).abs()
    assert losses.smoothness_loss(*codes).item() == pytest.approx(0.81825903, rel=1e-5)
