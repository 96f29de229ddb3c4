"""Rules in 2-D, beside what the evaluation code of LangSplat gives for the same maps.

The frozen numbers were made by that code (commit d70edb8), with OpenCV's filter.
"""

import cv2
import numpy as np
import pytest

from ffsplat.query import maps
from ffsplat.query.question import Question
from tests.toyscenes import features, saved, unit, vector_book, vector_scene


@pytest.fixture
def levels() -> np.ndarray:
    """Three smooth maps."""
    level, y, x = np.mgrid[:3, :40, :50]
    waves = np.sin(0.11 * (level + 1) * x + 0.2 * y + level) * np.cos(0.07 * x * (3 - level))
    return (0.5 + 0.1 * (level + 1) * waves).astype(np.float32)


def test_the_mask_is_that_of_langsplat(levels):
    mask, level = maps.langsplat_mask(levels)
    assert level == 2
    # fmt: off
    rows = [7, 8, 8, 8, 9, 9, 8, 7, 6, 9, 9, 10, 11, 11, 10, 12, 11, 12, 11, 12, 12, 13, 12, 10,
            10, 7, 8, 8, 8, 9, 9, 8, 7, 8, 8, 9, 9, 9, 8, 8]
    # fmt: on
    assert mask.sum(axis=1).tolist() == rows


def test_smoothing_is_that_of_langsplat(levels):
    found = maps.smoothed(levels)
    expected = [0.5070765018463135, 0.5417935848236084, 0.3982555866241455]
    np.testing.assert_allclose([found[0, 0, 0], found[1, 20, 30], found[2, 39, 49]], expected,
                               rtol=1e-6)  # fmt: skip
    assert np.argwhere(maps.located(levels)).tolist() == [[39, 8]]


@pytest.mark.parametrize("side", [30, 7, 2])
def test_the_mean_is_that_of_opencv(side):
    scores = np.random.default_rng(0).random((2, 40, 37)).astype(np.float32)
    kernel = np.full((side, side), 1 / side**2)
    expected = [cv2.filter2D(one, -1, kernel) for one in scores]
    np.testing.assert_allclose(maps.box_mean(scores, side), expected, atol=1e-6)


def test_neighbours_vote_but_the_last_row_and_column_do_not():
    mask = np.random.default_rng(1).random((20, 23)) > 0.5
    found = maps.majority(mask)
    for y, x in np.ndindex(mask.shape):
        square = mask[max(0, y - 3) : min(y + 4, 19), max(0, x - 3) : min(x + 4, 22)]
        assert found[y, x] == (2 * square.sum() > square.size)
    mask[-1], mask[:, -1] = ~mask[-1], ~mask[:, -1]
    np.testing.assert_array_equal(maps.majority(mask), found)


def test_a_threshold_of_langsplat_is_one_of_the_range(levels):
    """0.4 after stretching to [-1, 1] and 0.7 of the range are the same cut."""
    smooth = maps.smoothed(levels)
    one = smooth[maps.best_level(smooth)].astype(np.float64)
    cut = (one - one.min()) / (one.max() - one.min()) > 0.7
    np.testing.assert_array_equal(maps.majority(cut), maps.langsplat_mask(levels)[0])


def test_what_is_rendered_are_cosines_with_the_text_and_each_canonical_phrase():
    random = np.random.default_rng(4)
    rows = dict(zip("abc", unit(random.standard_normal((3, 7))), strict=True))
    scene = vector_scene(vector_book(rows), [{"a": 1.0}, {"b": 0.5, "c": 0.5}, {}])
    phrases = unit(random.standard_normal((3, 7)))
    text = saved("x", phrases[0], phrases[1:])
    found = maps.channels(Question(scene, text))
    np.testing.assert_allclose(found, features(scene) @ phrases.T, atol=2e-3)


def test_a_rendered_relevancy_is_that_of_the_blended_cosines():
    random = np.random.default_rng(2)
    rendered = random.uniform(-1, 1, (2, 3, 4, 5)).astype(np.float32)
    pairs = np.exp(10 * np.stack(np.broadcast_arrays(rendered[..., :1], rendered[..., 1:])))
    expected = (pairs[0] / pairs.sum(0)).min(-1)
    found = maps.relevancy_map(rendered)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
