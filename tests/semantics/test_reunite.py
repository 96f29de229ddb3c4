"""Objects that lie apart and are one thing: joined by likeness or by matches, never beside it."""

import numpy as np
import pytest

from ffsplat.semantics.reunite import Matches, mutual_matches, reunite


def two_views(numbers: list[list[int]]) -> np.ndarray:
    """Views of 8x16 pixels, the left half one object, the right half another."""
    halves = np.array(numbers, np.int32)
    return np.repeat(np.repeat(halves[:, None, :], 8, axis=1), 8, axis=2)


def painted(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return values[numbers].astype(np.float32)


RED, BLUE, GREY = [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0.5]


def test_what_is_alike_in_colour_and_feature_is_one_object():
    numbers = two_views([[0, 1], [1, 2]])  # 2 is 0 again, which lies elsewhere
    features = np.eye(4)[[0, 1, 0]]
    colors = np.array([RED, BLUE, RED])
    found = reunite(numbers, painted(features, numbers), painted(colors, numbers), 0.0)
    np.testing.assert_array_equal(found, two_views([[0, 1], [1, 0]]))


@pytest.mark.parametrize("change", ["feature", "colour"])
def test_what_differs_in_one_of_both_stays_apart(change):
    numbers = two_views([[0, 1], [1, 2]])
    features = np.eye(4)[[0, 1, 3 if change == "feature" else 0]]
    colors = np.array([RED, BLUE, GREY if change == "colour" else RED])
    found = reunite(numbers, painted(features, numbers), painted(colors, numbers), 0.0)
    np.testing.assert_array_equal(found, numbers)


def test_likeness_counts_from_the_cosine_of_unlike_features():
    """Halfway between unlike and equal is 0.5, however narrow the cone: under the threshold."""
    numbers = two_views([[0, 1], [1, 2]])
    common, own = np.sqrt(0.84), np.sqrt(0.16)
    vectors = np.zeros((3, 5))
    vectors[:, 0] = common
    vectors[[0, 1], [1, 2]] = own
    vectors[2, [1, 3]] = own * np.sqrt([0.25, 0.75])
    colors = painted(np.array([RED, BLUE, RED]), numbers)
    np.testing.assert_array_equal(
        reunite(numbers, painted(vectors, numbers), colors, 0.84), numbers
    )
    joined = reunite(numbers, painted(vectors, numbers), colors, 0.0)
    np.testing.assert_array_equal(joined, two_views([[0, 1], [1, 0]]))


def test_two_things_side_by_side_are_never_one():
    numbers = two_views([[0, 1], [2, 3]])
    same = np.ones((4, 3)) / np.sqrt(3)
    found = reunite(numbers, painted(same, numbers), painted(np.ones((4, 3)), numbers), 0.0)
    for view in found:
        assert len(np.unique(view)) == 2
    assert found.max() <= 2


def test_many_keypoints_outvote_looks():
    numbers = two_views([[0, 1], [2, 3]])
    features, colors = np.eye(4), np.array([RED, BLUE, BLUE, RED])
    rows = np.arange(9) % 8
    left, right = np.stack([rows, rows * 0 + 3], 1), np.stack([rows, rows * 0 + 12], 1)
    told = [Matches(0, 1, left, right)]
    found = reunite(numbers, painted(features, numbers), painted(colors, numbers), 0.0, told)
    np.testing.assert_array_equal(found, two_views([[0, 1], [2, 0]]))
    few = [Matches(0, 1, left[:8], right[:8])]
    found = reunite(numbers, painted(features, numbers), painted(colors, numbers), 0.0, few)
    np.testing.assert_array_equal(found, numbers)


def test_patches_match_where_each_is_the_others_nearest():
    random = np.random.default_rng(0)
    tokens = random.standard_normal((1, 3, 4, 16)).astype(np.float32)
    shuffled = random.permutation(12)
    both = np.concatenate([tokens, tokens.reshape(12, 16)[shuffled].reshape(1, 3, 4, 16) * 2 + 0.0])
    (found,) = mutual_matches(both, [(0, 1)], (30, 40))
    assert (found.first, found.second) == (0, 1)
    assert len(found.pixels) == 12
    patch = found.pixels[:, 0] // 10 * 4 + found.pixels[:, 1] // 10
    other = found.other_pixels[:, 0] // 10 * 4 + found.other_pixels[:, 1] // 10
    np.testing.assert_array_equal(shuffled[other], patch)
