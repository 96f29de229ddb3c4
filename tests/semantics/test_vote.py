"""Votes of views in cells of the world, against loops; the mode of a mask."""

from collections import defaultdict

import numpy as np
import pytest

from ffsplat.semantics.vote import mask_mode, vote


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(6)


def test_each_view_has_one_vote_a_cell(rng):
    n, cells, rows = 400, 7, 5
    ids = rng.integers(-1, rows, n).astype(np.int16)
    weights, views = rng.random(n).astype(np.float32), rng.integers(0, 3, n)
    place = rng.integers(0, cells - 1, n)
    code = vote(ids, weights, views, place, cells, k=rows)
    tally = defaultdict(float)
    for view in range(3):
        for cell in range(cells):
            mine = (views == view) & (place == cell)
            for row in range(rows):
                if mine.any():
                    tally[cell, row] += weights[mine & (ids == row)].sum() / mine.sum()
    for cell in range(cells - 1):
        total = sum(tally[cell, row] for row in range(rows))
        for row, weight in zip(code.ids[cell], code.weights[cell], strict=True):
            assert weight == pytest.approx(tally[cell, row] / total, abs=1e-3)
    assert (code.ids[-1] == -1).all()


def test_a_vote_over_views_is_embodiedsplats_update_in_closed_form(rng):
    """w <- w (1 - d / (D + d)), the new one d / (D + d), D <- D + d, view after view."""
    rows, confidence = rng.integers(0, 3, 12), rng.random(12).astype(np.float32) + 0.05
    running, total = np.zeros(3), 0.0
    for row, d in zip(rows, confidence, strict=True):
        fresh = d / (total + d)
        running *= 1 - fresh
        running[row] += fresh
        total += d
    code = vote(rows.astype(np.int16), confidence, np.arange(12), np.zeros(12, np.int64), 1, k=3)
    found = np.zeros(3)
    found[code.ids[0][code.ids[0] >= 0]] = code.weights[0][code.ids[0] >= 0]
    np.testing.assert_allclose(found, running, atol=1e-3)


def test_a_near_view_with_many_pixels_does_not_outvote_two_others():
    ids = np.array([0] * 50 + [1, 1], np.int16)
    views = np.array([0] * 50 + [1, 2])
    code = vote(ids, np.ones(52, np.float32), views, np.zeros(52, np.int64), 1)
    np.testing.assert_array_equal(code.ids[0, :2], [1, 0])
    np.testing.assert_allclose(code.weights[0, :2], [2 / 3, 1 / 3], atol=1e-3)


def test_a_mask_takes_its_most_frequent_row_and_void_is_a_candidate():
    ids = np.array([[[4, 4, 2], [-1, -1, 2], [5, 1, 3]]], np.int16)
    masks = np.array([[[0, 0, 0], [1, 1, 1], [-1, -1, 2]]], np.int32)
    wanted = [[[4, 4, 4], [-1, -1, -1], [5, 1, 3]]]
    np.testing.assert_array_equal(mask_mode(ids, masks), wanted)


def test_one_number_in_two_views_is_two_masks():
    ids = np.array([[[4, 4]], [[2, 2]]], np.int16)
    np.testing.assert_array_equal(mask_mode(ids, np.zeros((2, 1, 2), np.int32)), ids)
