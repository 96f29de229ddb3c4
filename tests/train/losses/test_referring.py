"""Losses on sentences, against loops, closed forms and hand values."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lossdraws import draw, finite_gradient, wave

from train import losses


@pytest.mark.parametrize("seed", range(20))
def test_mask_with_the_most_support(seed):
    masks = draw(5, 6, 7, seed=seed) > torch.tensor([-1, 0, 0, 0.5, 1])[:, None, None]
    confidences = draw(5, seed=seed + 100).sigmoid()
    scaled = masks.numpy() * confidences.numpy()[:, None, None]
    scores = np.zeros(5)
    for one, two in itertools.product(range(5), repeat=2):
        low, high = np.minimum(scaled[one], scaled[two]), np.maximum(scaled[one], scaled[two])
        scores[one] += low.sum() / high.sum()
    assert losses.choose_mask(masks, confidences).item() == scores.argmax()


def test_choice_by_hand_and_at_the_edges():
    masks = torch.zeros(3, 2, 4, dtype=torch.bool)
    masks[0, 0], masks[1, :, 2:], masks[2, :, 1:] = True, True, True
    # Overlaps: 0 and 1 share 2 of 6, 0 and 2 share 3 of 7, 1 and 2 share 4 of 6.
    assert losses.choose_mask(masks, torch.ones(3)).item() == 2
    # A mask of low confidence overlaps little with the others, however well it lies.
    assert losses.choose_mask(masks, torch.tensor([1.0, 1.0, 0.1])).item() == 1
    assert losses.choose_mask(masks[:1], torch.ones(1)).item() == 0
    assert losses.choose_mask(torch.zeros_like(masks), torch.zeros(3)).item() == 0
    masks[0] = False  # alone with another, an empty mask is not the one
    assert losses.choose_mask(masks[:2], torch.ones(2)).item() == 1
    with pytest.raises(ValueError, match="no mask"):
        losses.choose_mask(masks[:0], torch.ones(0))


def test_response_is_linear_in_the_words():
    features, words = draw(9, 4), draw(5, 4, seed=1)
    answers = losses.sentence_response(features, words).numpy()
    for i in range(9):
        by_word = [float(features[i] @ words[j]) for j in range(5)]
        assert answers[i] == pytest.approx(sum(by_word))


def test_response_loss_is_binary_cross_entropy():
    logits = draw(6, 7).requires_grad_()
    mask = draw(6, 7, seed=1) > 0
    p = 1 / (1 + np.exp(-logits.detach().numpy()))
    expected = -np.where(mask.numpy(), np.log(p), np.log(1 - p)).mean()
    assert losses.response_loss(logits, mask).item() == pytest.approx(expected, rel=1e-5)
    extreme = torch.tensor([1e4, -1e4], requires_grad=True)
    wrong = losses.response_loss(extreme, torch.tensor([False, False]))
    assert wrong.item() == pytest.approx(5e3)
    finite_gradient(wrong, extreme)
    assert losses.response_loss(extreme[:0], torch.zeros(0, dtype=torch.bool)).item() == 0


def test_what_answers_most():
    features, answers = draw(30, 4), draw(30, seed=1)
    best = np.argsort(-answers.numpy())[:6]
    expected = features.numpy()[best].mean(0)
    found = losses.responding_feature(features, answers, 0.2)
    np.testing.assert_allclose(found.numpy(), expected)
    single = losses.responding_feature(features, answers, 0.005)
    np.testing.assert_array_equal(single.numpy(), features[best[0]].numpy())
    with pytest.raises(ValueError, match="no Gaussians"):
        losses.responding_feature(features[:0], answers[:0], 0.2)


def similarities(feature: torch.Tensor, sentences: torch.Tensor) -> np.ndarray:
    a, b = feature.detach().numpy(), sentences.detach().numpy()
    return b @ a / np.linalg.norm(b, axis=1) / np.linalg.norm(a) / 0.1


@pytest.mark.parametrize("count", [1, 3])
def test_contrast_in_both_forms(count):
    feature, sentences = draw(8).requires_grad_(), draw(7, 8, seed=1).requires_grad_()
    positive = torch.arange(7) < count
    s = similarities(feature, sentences)
    pairs = sum(math.exp(n - p) for n in s[count:] for p in s[:count])
    printed = np.mean([math.log(np.exp(s).sum() / math.exp(p)) for p in s[:count]])
    paired = losses.contrast_loss(feature, sentences, positive)
    assert paired.item() == pytest.approx(math.log1p(pairs), rel=1e-9)
    # In closed form, softplus(logsumexp(negatives) + logsumexp(-positives)).
    t = torch.tensor(s)
    closed = F.softplus(t[count:].logsumexp(0) + (-t[:count]).logsumexp(0))
    assert paired.item() == pytest.approx(closed.item(), rel=1e-9)
    supervised = losses.contrast_loss(feature, sentences, positive, paired=False)
    assert supervised.item() == pytest.approx(printed, rel=1e-9)
    assert (paired.item() == pytest.approx(supervised.item())) == (count == 1)
    finite_gradient(paired, feature, sentences)


@pytest.mark.parametrize("paired", [True, False])
def test_contrast_at_the_edges(paired):
    feature, sentences = draw(8).requires_grad_(), draw(4, 8, seed=1).requires_grad_()
    for positive in (torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)):
        loss = losses.contrast_loss(feature, sentences, positive, paired=paired)
        finite_gradient(loss, feature, sentences)
        if paired or not positive.any():
            assert loss.item() == 0
    zero = torch.zeros(8, requires_grad=True)
    positive = torch.tensor([True, False, False, False])
    blind = losses.contrast_loss(zero, torch.zeros(4, 8), positive, paired=paired)
    assert blind.item() == pytest.approx(math.log(4))
    finite_gradient(blind, zero)


def test_number_of_the_original_code():
    # Run on this input: multi_pos_cross_entropy of ReferSplat on cosines over 0.1.
    positive = torch.tensor([1, 0, 0, 1, 1, 0, 0, 0, 0]) == 1
    loss = losses.contrast_loss(wave(4), wave(9, 4, phase=0.5), positive)
    assert loss.item() == pytest.approx(11.300186, rel=1e-5)
