"""Losses on instances, against formulas written out pixel by pixel."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lossdraws import finite_gradient, wave

from train import losses


def draw(n: int = 40, e: int = 6, objects: int = 4, seed: int = 0):
    """Unit embeddings that wish for a gradient, and identities with gaps and negatives."""
    generator = torch.Generator().manual_seed(seed)
    names = torch.tensor([-7, 3, 4, 900])[:objects]
    identities = names[torch.randint(objects, (n,), generator=generator)]
    embeddings = F.normalize(torch.randn(n, e, generator=generator, dtype=torch.float64), dim=1)
    return embeddings.requires_grad_(), identities


def masks_of(embeddings: torch.Tensor, identities: torch.Tensor) -> list[np.ndarray]:
    rows = embeddings.detach().numpy()
    return [rows[identities.numpy() == name] for name in sorted(set(identities.tolist()))]


def slow_prototype_loss(masks, taus, prototypes, negatives, reduce) -> float:
    """InfoNCE in exponentials, mask by mask and pixel by pixel."""
    total = []
    for j, mask in enumerate(masks):
        values = []
        for pixel in mask:
            scores = np.exp([pixel @ u / tau for u, tau in zip(prototypes, taus, strict=True)])
            against = scores[j] + sum(scores[i] for i in negatives[j])
            values.append(-np.log(scores[j] / against))
        total.append(reduce(values))
    return float(np.mean(total))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("spread", "clipped"), [(9.0, True), (0.25, False)])
def test_prototypes_with_their_own_temperatures(reduction, spread, clipped):
    embeddings, identities = draw(n=60)
    centres = torch.eye(4, 6)[identities.unique(return_inverse=True)[1]]
    embeddings = F.normalize(centres + spread * embeddings.detach(), dim=1)
    masks = masks_of(embeddings, identities)
    means = [mask.mean(0) for mask in masks]
    taus = []
    for mask, mean in zip(masks, means, strict=True):
        total = sum(np.linalg.norm(pixel - mean) for pixel in mask)
        taus.append(min(max(10 * total / (len(mask) * math.log(len(mask) + 10)), 0.5), 1))
    assert clipped == (min(taus) == max(taus) == 1)
    assert min(taus) > 0.5
    negatives = [[i for i in range(4) if i != j] for j in range(4)]
    expected = slow_prototype_loss(masks, taus, means, negatives, getattr(np, reduction))
    loss = losses.prototype_loss(embeddings, identities, reduction=reduction)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_tight_masks_have_the_coldest_prototype():
    # Orthonormal masks without spread: tau is 0.5, a pixel costs log(1 + (C - 1) e^-2).
    embeddings = torch.eye(5).repeat_interleave(8, 0)
    identities = torch.arange(5).repeat_interleave(8)
    expected = math.log(1 + 4 * math.exp(-2))
    assert losses.prototype_loss(embeddings, identities).item() == pytest.approx(expected)
    summed = losses.prototype_loss(embeddings, identities, reduction="sum")
    assert summed.item() == pytest.approx(8 * expected)


def test_prototypes_of_freegs():
    embeddings, identities = draw(n=30, e=3)
    with torch.no_grad():  # two masks around one direction, so that they are no negatives
        near = torch.tensor([1.0, 0, 0], dtype=torch.float64)
        twins = (identities == 3) | (identities == 900)
        embeddings[twins] = F.normalize(near + 0.05 * embeddings[twins], dim=1)
    masks = masks_of(embeddings, identities)
    means = np.stack([mask.mean(0) for mask in masks])
    products = means @ means.T
    negatives = [[i for i in range(4) if i != j and products[i, j] < 0.96] for j in range(4)]
    assert sorted(map(len, negatives)) == [2, 2, 3, 3]
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    expected = slow_prototype_loss(masks, [0.1] * 4, unit, negatives, np.mean)
    options = {"temperature": 0.1, "unit": True, "fixed": True, "alike": 0.96}
    loss = losses.prototype_loss(embeddings, identities, **options)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert loss.item() > 0  # without the positive in the denominator it would be far below
    finite_gradient(loss, embeddings, unused=True)


def test_fixed_prototypes_get_no_gradient():
    embeddings, identities = draw()
    options = {"temperature": 0.3}
    (fixed,) = torch.autograd.grad(
        losses.prototype_loss(embeddings, identities, fixed=True, **options), embeddings
    )
    names = identities.unique()
    means = torch.stack([embeddings[identities == name].mean(0) for name in names]).detach()
    own = (identities[:, None] == names).double().argmax(1)
    each = F.cross_entropy(embeddings @ means.T / 0.3, own, reduction="none")
    share = torch.stack([each[own == j].mean() for j in range(4)]).mean()
    torch.testing.assert_close(fixed, torch.autograd.grad(share, embeddings)[0])
    free = losses.prototype_loss(embeddings, identities, **options)
    assert not torch.allclose(torch.autograd.grad(free, embeddings)[0], fixed)


def test_small_masks_are_left_out():
    embeddings, identities = draw(n=30)
    few = identities.clone()
    few[:3] = 77
    kept = losses.prototype_loss(embeddings[3:], few[3:])
    torch.testing.assert_close(losses.prototype_loss(embeddings, few, smallest=4), kept)
    assert losses.prototype_loss(embeddings, few) != kept
    three = losses.prototype_loss(embeddings, few, smallest=3)
    torch.testing.assert_close(three, losses.prototype_loss(embeddings, few))


@pytest.mark.parametrize("options", [{}, {"temperature": 0.1, "unit": True, "alike": 0.9}])
@pytest.mark.parametrize("case", ["none", "one", "identical"])
def test_prototypes_at_the_edges(options, case):
    embeddings, identities = draw(n=0 if case == "none" else 6, objects=1)
    if case == "identical":
        embeddings = torch.ones_like(embeddings, requires_grad=True)
        identities = torch.arange(6) % 2
    loss = losses.prototype_loss(embeddings, identities, **options)
    finite_gradient(loss, embeddings, unused=True)
    # Two prototypes at one place: a coin toss, unless they are too alike to be negatives.
    same = math.log(2) if case == "identical" and not options else 0.0
    assert loss.item() == pytest.approx(same, abs=1e-12)


def test_identity_loss_is_a_share_of_guessing():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 256, generator=generator, requires_grad=True)
    identities = torch.randint(256, (2, 3, 4), generator=generator)
    table = logits.detach().double().numpy()
    table = table - np.log(np.exp(table).sum(-1, keepdims=True))
    each = -np.take_along_axis(table, identities.numpy()[..., None], -1) / math.log(256)
    loss = losses.identity_loss(logits, identities)
    assert loss.item() == pytest.approx(each.mean(), rel=1e-5)
    identities[0] = -1
    assert losses.identity_loss(logits, identities).item() == pytest.approx(each[1].mean(), 1e-5)
    assert losses.identity_loss(torch.zeros(5, 7), torch.arange(5)).item() == pytest.approx(1)
    unknown = losses.identity_loss(logits, torch.full_like(identities, -1))
    assert unknown.item() == 0
    finite_gradient(unknown, logits, unused=True)
    with pytest.raises(ValueError, match="two classes or more, not 1"):
        losses.identity_loss(torch.zeros(5, 1), torch.zeros(5, dtype=torch.long))


def test_separation_is_push_and_pull():
    embeddings, identities = draw(e=3)
    masks = masks_of(embeddings, identities)
    means = [mask.mean(0) for mask in masks]
    push = np.mean(
        [max(0.0, 1.4 - np.linalg.norm(a - b)) for a in means for b in means if a is not b]
    )
    pull = np.mean(
        [
            np.mean([((pixel - mean) ** 2).sum() for pixel in mask])
            for mask, mean in zip(masks, means, strict=True)
        ]
    )
    loss = losses.separation_loss(embeddings, identities, margin=1.4, pull=0.3)
    assert push > 0.1
    assert loss.item() == pytest.approx(push + 0.3 * pull, rel=1e-9)


def test_separation_by_hand_and_at_the_edges():
    rows = torch.tensor([[0.0, 0], [0.6, 0], [0.3, 0.4], [0.3, 0.4]], requires_grad=True)
    # Means (0.3, 0) and (0.3, 0.4), 0.4 apart; the first mask spreads by 0.3.
    loss = losses.separation_loss(rows, torch.tensor([1, 1, 2, 2]))
    assert loss.item() == pytest.approx(0.6 + 0.09 / 2)
    finite_gradient(loss, rows, unused=True)
    far = losses.separation_loss(rows, torch.tensor([1, 1, 2, 2]), margin=0.3, pull=0.0)
    assert far.item() == 0
    alone = losses.separation_loss(rows, torch.tensor([5, 5, 5, 5]), pull=0.0)
    assert alone.item() == 0
    for identities in (torch.tensor([1, 2, 3, 4]), torch.tensor([1, 1, 1, 1])):
        same = torch.zeros(4, 2, requires_grad=True)
        finite_gradient(losses.separation_loss(same, identities), same, unused=True)
    empty = torch.zeros(0, 2, requires_grad=True)
    nothing = losses.separation_loss(empty, torch.zeros(0, dtype=torch.long))
    assert nothing.item() == 0
    finite_gradient(nothing, empty, unused=True)


def test_length_loss():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.5], [0.0, 0.0]], requires_grad=True)
    loss = losses.length_loss(rows)
    assert loss.item() == pytest.approx((16 + 0.25 + 1) / 3)
    finite_gradient(loss, rows, unused=True)
    assert losses.length_loss(rows[:0]).item() == 0


def test_depth_is_smooth_within_an_instance():
    depth = torch.tensor([[1.0, 1.5, 4.0], [2.0, 2.5, 2.5]], requires_grad=True)
    identities = torch.tensor([[1, 1, 2], [1, 1, 1]])
    mask = torch.ones(2, 3, dtype=torch.bool)
    # Right: |0.5|, border, |0.5|, 0, over 4; down: |1|, |1|, border, over 3.
    loss = losses.instance_smoothness_loss(depth, identities, mask)
    assert loss.item() == pytest.approx(1 / 4 + 2 / 3)
    mask[0, 0] = False
    hidden = losses.instance_smoothness_loss(depth, identities, mask)
    assert hidden.item() == pytest.approx(0.5 / 4 + 1 / 3)
    broken = torch.full((2, 3), torch.inf, requires_grad=True)  # where nothing was measured
    none = losses.instance_smoothness_loss(broken, identities, torch.zeros_like(mask))
    assert none.item() == 0
    finite_gradient(none, broken, unused=True)
    single = losses.instance_smoothness_loss(depth[:1, :1], identities[:1, :1], mask[:1, :1])
    assert single.item() == 0


def test_numbers_of_the_original_code():
    # Run on these inputs: COS3D's contrastive loss, FreeGS's with its InfoNCE, SIU3R's smoothness.
    rows, identities = wave(200, 16), (torch.arange(200) ** 2 // 7) % 5
    cos3d = losses.prototype_loss(
        F.normalize(rows, dim=1), identities, smallest=21, reduction="sum"
    )
    assert cos3d.item() == pytest.approx(63.692535, rel=1e-5)
    leaning = torch.tensor([2.0, 0, 0]) * (identities[:, None] % 2)
    freegs = losses.prototype_loss(
        F.normalize(F.normalize(wave(200, 3), dim=1) + leaning, dim=1), identities,
        temperature=0.1, unit=True, fixed=True, alike=0.75,
    )  # fmt: skip
    assert freegs.item() == pytest.approx(2.884708, rel=1e-5)
    depth, segments = wave(1, 2, 5, 7).abs(), (3 * wave(1, 2, 5, 7, phase=4)).round().long()
    siu3r = losses.instance_smoothness_loss(depth, segments, segments >= 0)
    assert siu3r.item() == pytest.approx(0.08150834, rel=1e-5)
