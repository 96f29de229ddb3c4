"""The hyperplane of GOI, fitted on rows of the codebook.

The frozen numbers were made by its LinearSVM (commit 56fd429) on the same rows, once an occurrence.
"""

import numpy as np
import pytest
import torch

from ffsplat.errors import UsageError
from ffsplat.query import query
from ffsplat.query.hyperplane import Hyperplane, fit_hinge, fit_logistic, overlap
from tests.toyscenes import features, saved, unit, vector_book, vector_scene

TURNS = np.arange(6)
ROWS = unit(np.stack([np.cos(TURNS), np.sin(TURNS), np.cos(2 * TURNS + 1)], 1)).astype(np.float32)
POSITIVE = np.array([5, 0, 3, 0, 1, 0], np.float32)
NEGATIVE = np.array([1, 4, 0, 6, 2, 2], np.float32)
SCALE = 0.3438
START = Hyperplane(np.array([1.0, 0, 0]), 0.18470990657806396, SCALE)


@pytest.mark.parametrize(
    ("steps", "normal", "offset"),
    [
        (1, [0.9943435788154602, 0.0019279414555057883, 0.0029997462406754494], 0.1834599077),
        (100, [0.5895628333091736, 0.17067039012908936, 0.18178249895572662], -0.0077899750),
    ],
)
def test_descent_on_rows_is_that_of_goi_on_pixels(steps, normal, offset):
    found = fit_hinge(START, ROWS, POSITIVE, NEGATIVE, max_steps=steps, stop=2.0)
    np.testing.assert_allclose(found.normal, normal, atol=5e-8 * steps)  # theirs is float32
    assert found.offset == pytest.approx(offset, abs=2e-7)


def test_the_whole_descent_is_that_of_the_plain_formula():
    """It swings to its last step, so that anything but equal arithmetic ends elsewhere."""
    random = np.random.default_rng(5)
    rows = unit(random.standard_normal(16) + 0.7 * random.standard_normal((40, 16)))
    rows = rows.astype(np.float32)
    positive = (random.random(40) * (random.random(40) < 0.3)).astype(np.float32)
    negative = random.random(40).astype(np.float32)
    start = Hyperplane(unit(random.standard_normal(16)), -2.5, 0.1)
    found = fit_hinge(start, rows, positive, negative, max_steps=3000)
    x, w, b = rows.astype(float) / 0.1, start.normal, -2.5
    p, n = positive.astype(float), negative.astype(float)
    for _ in range(3000):
        margins = x @ w + b
        slope = (n * (1 + margins >= 0) - p * (1 - margins >= 0)) / (p.sum() + n.sum())
        w, b = w - 0.01 * slope @ x, b - 0.01 * slope.sum()
    assert overlap(found, rows, positive, negative) < 0.9  # it was not stopped
    np.testing.assert_allclose(found.margins(rows), x @ w + b, atol=1e-9)


def test_the_start_is_the_text_at_its_threshold():
    """sigmoid(cos / scale + 2) > 0.86 and a positive margin are the same pixels."""
    random = np.random.default_rng(1)
    x, text = unit(random.standard_normal((500, 16))), unit(random.standard_normal(16))
    plane = Hyperplane(text, 2 - np.log(0.86 / 0.14), SCALE)
    chance = 1 / (1 + np.exp(-(x @ text / SCALE + 2)))
    np.testing.assert_array_equal(plane.margins(x.astype(np.float32)) > 0, chance > 0.86)


def test_descent_stops_where_the_overlap_is_enough():
    clear = np.where(np.arange(6) == 0, NEGATIVE, 0), np.where(np.arange(6) == 0, 0, NEGATIVE)
    found = fit_hinge(START, ROWS, *clear)
    assert overlap(found, ROWS, *clear) >= 0.9
    again = fit_hinge(found, ROWS, *clear)
    np.testing.assert_array_equal(again.normal, found.normal)


@pytest.mark.parametrize("many", [True, False])
def test_newton_finds_the_minimum_of_the_logistic_loss(many):
    random = np.random.default_rng(2)
    rows = unit(random.standard_normal((30, 6 if many else 50))).astype(np.float32)
    positive = random.random(30).astype(np.float32)
    negative = np.where(random.random(30) > 0.3, random.random(30), 0).astype(np.float32)
    start = Hyperplane(unit(random.standard_normal(rows.shape[1])), 0.3, 0.1)
    found = fit_logistic(start, rows, positive, negative, 0.05)
    normal = torch.tensor(found.normal, requires_grad=True)
    offset = torch.tensor(found.offset, dtype=torch.float64, requires_grad=True)
    margins = torch.tensor(rows, dtype=torch.float64) @ normal / 0.1 + offset
    p, n = (torch.tensor(c / (2 * c.sum()), dtype=torch.float64) for c in (positive, negative))
    loss = (p * torch.nn.functional.softplus(-margins)).sum()
    loss = loss + (n * torch.nn.functional.softplus(margins)).sum()
    change = ((normal - torch.tensor(start.normal)) ** 2).sum() + (offset - 0.3) ** 2
    (loss + 0.05 / 2 * change).backward()
    assert normal.grad.abs().max() < 1e-6
    assert offset.grad.abs() < 1e-6


def scene():
    names = ("chair", "stool", "table", "wall")
    random = np.random.default_rng(3)
    common = random.standard_normal(12)
    rows = dict(zip(names, unit(common + 0.6 * random.standard_normal((4, 12))), strict=True))
    pairs = [{name: 0.9, "wall": 0.1} for name in names for _ in range(10)]
    return vector_scene(vector_book(rows), pairs, [i // 10 for i in range(40)]), rows


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_a_mask_teaches_what_is_meant(loss):
    """The text is as near to everything; the mask says that the stool is meant."""
    one, rows = scene()
    text = saved("seat", unit(sum(rows.values())))
    mask = np.arange(40) // 10 == 1
    assert (query(one, text, strategy="cosine").scores > 0.25).all()
    found = query(one, text, strategy="hyperplane", mask=mask, loss=loss)
    np.testing.assert_array_equal(found.scores >= 0.5, mask)
    assert [hit.instance for hit in found.hits] == [1]
    assert features(one).shape == (40, 12)


def test_a_mask_of_everything_or_nothing_leaves_the_text():
    one, rows = scene()
    text = saved("chair", rows["chair"])
    for mask in (np.ones(40, bool), np.zeros(40, bool)):
        found = query(one, text, strategy="hyperplane", mask=mask)
        margins = (features(one) @ rows["chair"] - 0.25) / 0.1
        np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-margins)), atol=5e-3)


def test_without_a_mask_the_regions_of_the_text_are_the_examples():
    one, rows = scene()
    found = query(one, saved("stool", rows["stool"]), strategy="hyperplane")
    np.testing.assert_array_equal(found.scores >= 0.5, np.arange(40) // 10 == 1)
    absent = query(one, saved("x", -rows["stool"]), strategy="hyperplane")
    assert not absent.scores.any()


def test_bad_masks_and_strengths_are_refused():
    one, rows = scene()
    text = saved("chair", rows["chair"])
    with pytest.raises(UsageError, match="40 Gaussians"):
        query(one, text, strategy="hyperplane", mask=np.ones(3, bool))
    with pytest.raises(UsageError, match="strength"):
        query(one, text, strategy="hyperplane", strength=0.0)
