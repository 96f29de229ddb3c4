"""Association of masks over views: Gaga's rule against sets, FastLGS' rule by hand."""

import numpy as np
import pytest

from ffsplat.semantics.associate import (
    ObjectMemory,
    associate_masks,
    color_histograms,
    count_matches,
    likeness,
    match_masks,
    objects_in_mask,
)


def gaga(views: list[list[set]]) -> tuple[list[list[int]], list[set]]:
    """The memory bank of Gaga with Python sets, its score and threshold as published."""
    bank: list[set] = []
    assigned: set = set()
    labels = []
    for number, masks in enumerate(views):
        labels.append([])
        for mask in masks:
            scores = [len(mask & group) / (len(mask) + len(mask & group) + 1e-8) for group in bank]
            if number == 0 or max(scores) < 0.1:
                labels[-1].append(len(bank))
                bank.append(set(mask))
            else:
                best = int(np.argmax(scores))
                labels[-1].append(best)
                bank[best] |= mask - assigned
            assigned |= mask
    return labels, bank


@pytest.mark.parametrize("seed", range(8))
def test_the_memory_equals_gagas_bank_of_sets(seed):
    rng = np.random.default_rng(seed)
    views = [
        [set(rng.integers(0, 60, rng.integers(0, 25)).tolist()) for _ in range(6)] for _ in range(8)
    ]
    labels, bank = gaga(views)
    memory = ObjectMemory()
    found = [memory.assign([np.array(sorted(m), np.int64) for m in view]) for view in views]
    np.testing.assert_array_equal(found, labels)
    assert memory.count == len(bank)
    for number, places in enumerate(bank):
        assert set(memory.places(number).tolist()) == places


def test_gagas_own_code_gave_these_labels():
    """Run once with the published `associate` (weijielyu/Gaga, de9e194) on the same sets."""
    rng = np.random.default_rng(100)
    memory = ObjectMemory()
    found = [
        memory.assign([np.unique(rng.integers(0, 60, 12)) for _ in range(4)]).tolist()
        for _ in range(5)
    ]
    assert found == GAGA_LABELS


GAGA_LABELS = [[0, 1, 2, 3], [1, 0, 1, 1], [2, 2, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]]


def test_exclusive_masks_of_one_view_are_never_one_object():
    memory = ObjectMemory(exclusive=True)
    memory.assign([np.arange(10)])
    np.testing.assert_array_equal(memory.assign([np.arange(5), np.arange(5, 10)]), [0, 1])
    greedy = ObjectMemory()
    greedy.assign([np.arange(10)])
    np.testing.assert_array_equal(greedy.assign([np.arange(5), np.arange(5, 10)]), [0, 0])


def test_masks_that_show_the_same_cells_get_one_number_whatever_their_own_numbers():
    cells = np.tile(np.arange(24).reshape(4, 6), (3, 1, 1)).astype(np.int64)
    truth = np.tile(np.repeat([0, 1, -1], 2), (3, 4, 1))
    masks = truth.astype(np.int32)
    masks[1] = np.where(truth[1] < 0, -1, 7 - truth[1])
    numbers = associate_masks(masks, cells)
    np.testing.assert_array_equal(numbers < 0, truth < 0)
    for view in range(3):
        np.testing.assert_array_equal(numbers[view], numbers[0])
    assert len(np.unique(numbers)) == 3


def test_matches_are_counted_between_masks_by_hand():
    a = np.array([[0, 0, 1], [-1, 1, 1]], np.int32)
    b = np.array([[1, 1, 0], [2, -1, 0]], np.int32)
    from_a = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]])
    to_b = np.array([[0, 0], [0, 1], [1, 0], [0, 0], [1, 1]])
    np.testing.assert_array_equal(count_matches(a, b, from_a, to_b), [[0, 2, 0], [0, 0, 1]])


def test_histograms_count_colours_in_masks_by_hand():
    colors = np.array([[[0, 0, 0], [1, 1, 1], [0.1, 0.2, 0]]], np.float32)
    found = color_histograms(colors, np.array([[0, 0, 1]], np.int32), bins=2)
    np.testing.assert_allclose(found[:, [0, 7]], [[0.5, 0.5], [1, 0]])
    assert found.shape == (2, 8)


def test_likeness_mixes_cosine_and_common_colours():
    features = np.eye(3, dtype=np.float32)
    colors = np.array([[1, 0], [0.5, 0.5], [0, 1]], np.float32)
    found = likeness(features[:2], features[1:], colors[:2], colors[1:], 0.6, 0.4)
    np.testing.assert_allclose(found, [[0.4 * 0.5, 0], [0.6 + 0.4, 0.4 * 0.5]], atol=1e-6)


def test_many_matches_decide_and_few_leave_it_to_likeness():
    matches = np.array([[0, 9], [3, 2], [0, 0]])
    scores = np.array([[0.99, 0.1], [0.2, 0.9], [0.5, 0.6]], np.float32)
    np.testing.assert_array_equal(match_masks(matches, scores), [1, 1, -1])
    nothing = match_masks(np.zeros((2, 0), np.int64), np.zeros((2, 0), np.float32))
    np.testing.assert_array_equal(nothing, [-1, -1])


def test_a_noisy_mask_finds_the_objects_that_lie_in_it():
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.repeat(np.arange(16).reshape(4, 4), 10, 0), 10, 1).astype(np.int32)
    numbers[:3] = -1
    mask = np.isin(numbers, [2, 4]) ^ (rng.random(numbers.shape) < 0.1)
    np.testing.assert_array_equal(objects_in_mask(numbers, mask), [2, 4])
    assert len(objects_in_mask(np.full((3, 3), -1, np.int32), np.ones((3, 3), bool))) == 0
