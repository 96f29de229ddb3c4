"""Losses against a teacher's features, by loops, by numpy and by the library's own codes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lossdraws import draw, finite_gradient

from ffsplat import codes
from train import losses


def slow_bilinear(image: np.ndarray, height: int, width: int, corners: bool) -> np.ndarray:
    """Values between pixel centres, one at a time; outside the outermost centres they stay."""
    h, w = image.shape[-2:]

    def places(size, target):
        if corners:
            return [i * (size - 1) / (target - 1) for i in range(target)]
        return [min(max((i + 0.5) * size / target - 0.5, 0), size - 1) for i in range(target)]

    out = np.zeros((*image.shape[:-2], height, width))
    for i, y in enumerate(places(h, height)):
        for j, x in enumerate(places(w, width)):
            top, left = min(int(y), h - 2), min(int(x), w - 2)
            dy, dx = y - top, x - left
            square = image[..., top : top + 2, left : left + 2]
            weights = np.outer([1 - dy, dy], [1 - dx, dx])
            out[..., i, j] = (square * weights).sum((-2, -1))
    return out


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_resample_is_bilinear(lead, corners):
    features = draw(*lead, 4, 6, 7)
    resized = losses.resample(features, 4, 9, corners)
    expected = slow_bilinear(features.numpy(), 4, 9, corners)
    np.testing.assert_allclose(resized.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("corners", [False, True])
def test_the_student_comes_to_the_teacher(corners):
    student, teacher = draw(2, 3, 5, 8, 9).requires_grad_(), draw(2, 3, 5, 3, 4, seed=1)
    mask = draw(2, 3, 3, 4, seed=2) > 0
    at_teacher = slow_bilinear(student.detach().numpy(), 3, 4, corners)
    errors, angles = [], []
    for place in np.argwhere(mask.numpy()):
        b, v, y, x = place
        one, other = at_teacher[b, v, :, y, x], teacher.numpy()[b, v, :, y, x]
        errors.append(np.abs(one - other).mean())
        angles.append(1 - one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
    l1 = losses.teacher_l1_loss(student, teacher, mask, corners)
    cosine = losses.teacher_cosine_loss(student, teacher, mask, corners)
    assert l1.item() == pytest.approx(np.mean(errors), rel=1e-9)
    assert cosine.item() == pytest.approx(np.mean(angles), rel=1e-9)
    finite_gradient(l1 + cosine, student)
    everywhere = torch.ones_like(mask)
    for loss in (losses.teacher_l1_loss, losses.teacher_cosine_loss):
        torch.testing.assert_close(loss(student, teacher), loss(student, teacher, everywhere))


def test_lsm_is_a_plain_cosine():
    student, teacher = draw(2, 5, 3, 4), draw(2, 5, 3, 4, seed=1)
    expected = (1 - F.cosine_similarity(student, teacher, dim=1)).mean()
    torch.testing.assert_close(losses.teacher_cosine_loss(student, teacher), expected)


def test_teachers_at_their_edges():
    teacher = draw(1, 5, 3, 4, seed=1).requires_grad_()
    for start in (teacher.detach().clone(), torch.zeros(1, 5, 6, 8, dtype=torch.float64)):
        start.requires_grad_()
        for loss in (losses.teacher_l1_loss, losses.teacher_cosine_loss):
            finite_gradient(loss(start, teacher), start)
            nothing = loss(start, teacher, torch.zeros(1, 3, 4, dtype=torch.bool))
            assert nothing == 0
            finite_gradient(nothing, start)
            assert torch.autograd.grad(loss(start, teacher), teacher, allow_unused=True) == (None,)


def test_sparse_weights_are_a_softmax_cut_and_rescaled():
    logits = 3 * draw(5, 2, 12)
    probability = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
    expected = np.zeros_like(probability)
    for place in np.ndindex(5, 2):
        best = np.argsort(-probability[place])[:4]
        expected[place][best] = probability[place][best] / probability[place][best].sum()
    np.testing.assert_allclose(losses.sparse_weights(logits, 4).numpy(), expected, atol=1e-12)
    # More rows than there are: a plain softmax.
    torch.testing.assert_close(losses.sparse_weights(logits, 99), logits.softmax(-1))
    # A gap that a softmax over all rows would lose to underflow.
    far = torch.tensor([[200.0, 0.0, -1.0, -300.0]])
    assert (losses.sparse_weights(far[:, 1:], 2) > 0).sum() == 2


def test_sparse_weights_are_the_codes_of_the_library():
    logits = 2 * draw(50, 9).float()
    stored = codes.to_dense(codes.from_logits(logits.numpy(), 3), 9)
    np.testing.assert_allclose(losses.sparse_weights(logits, 3).numpy(), stored, atol=1e-3)


def test_only_the_chosen_rows_learn():
    logits = draw(7, 10).requires_grad_()
    weights = losses.sparse_weights(logits, 3)
    gradient = torch.autograd.grad((weights * draw(7, 10, seed=1)).sum(), logits)[0]
    assert torch.equal(gradient != 0, weights > 0)


def test_coded_cosine_over_levels_by_loops():
    rows = (6, 8)
    weights = [losses.sparse_weights(draw(4, 5, n, seed=n), 3) for n in rows]
    books = [draw(n, 7, seed=10 + n) for n in rows]
    teachers = [draw(4, 5, 7, seed=20 + n) for n in rows]
    masks = [draw(4, 5, seed=30 + n) > 0 for n in rows]
    total = 0.0
    for w, book, teacher, mask in zip(weights, books, teachers, masks, strict=True):
        errors = []
        for y, x in np.argwhere(mask.numpy()):
            coded = sum(w[y, x, i] * book[i] for i in range(len(book))).numpy()
            t = teacher[y, x].numpy()
            errors.append(1 - coded @ t / (np.linalg.norm(coded) * np.linalg.norm(t)))
        total += np.mean(errors)
    loss = losses.multilevel_cosine_loss(weights, books, teachers, masks)
    assert loss.item() == pytest.approx(total, rel=1e-9)
    with pytest.raises(ValueError, match="shorter"):
        losses.multilevel_cosine_loss(weights, books, teachers, masks[:1])


def test_coded_cosine_relates_to_the_original_by_its_constant():
    # The original averages mask * cosine over all pixels: a masked pixel costs 1 there.
    weights, book = losses.sparse_weights(draw(20, 6), 3), draw(6, 7)
    teacher, mask = draw(20, 7, seed=1), draw(20, seed=2) > 0
    original = 1 - (mask * F.cosine_similarity(weights @ book, teacher)).mean()
    share = mask.double().mean()
    loss = losses.coded_cosine_loss(weights, book, teacher, mask)
    torch.testing.assert_close(share * loss + (1 - share), original)


def test_coded_cosine_at_its_edges():
    teacher, book = draw(20, 7, seed=1), draw(6, 7).requires_grad_()
    everywhere = torch.ones(20, dtype=torch.bool)
    empty = torch.zeros(20, 6, dtype=torch.float64, requires_grad=True)
    loss = losses.coded_cosine_loss(empty, book, teacher, everywhere)
    assert loss == 1
    finite_gradient(loss, empty, book)
    loss = losses.coded_cosine_loss(empty, book, teacher, ~everywhere)
    assert loss == 0
    finite_gradient(loss, empty, book)
