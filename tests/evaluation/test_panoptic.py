"""Panoptic quality against a count segment by segment."""

import math

import numpy as np
import pytest

from ffsplat.evaluation.panoptic import VOID, Panoptic, match_segments, panoptic_quality

CLASSES = 4


def image(classes, numbers=None) -> Panoptic:
    classes = np.array(classes)
    return Panoptic(classes, np.zeros_like(classes) if numbers is None else np.array(numbers))


def segments(panoptic: Panoptic) -> dict[tuple[int, int], set[tuple[int, int]]]:
    found: dict = {}
    for place, kind in np.ndenumerate(panoptic.classes):
        if kind != VOID:
            found.setdefault((int(kind), int(panoptic.numbers[place])), set()).add(place)
    return found


def counted(guess: Panoptic, truth: Panoptic) -> np.ndarray:
    """The same as `match_segments`, with sets of pixels and the words of the paper."""
    void = {place for place, kind in np.ndenumerate(truth.classes) if kind == VOID}
    counts = np.zeros((CLASSES, 4))
    guesses, truths = segments(guess), segments(truth)
    matched = set()
    for key, true in truths.items():
        hit = False
        for other, said in guesses.items():
            iou = len(said & true) / len((said - void) | true)
            if other[0] == key[0] and iou > 0.5:
                counts[key[0]] += (iou, 1, 0, 0)
                matched.add(other)
                hit = True
        counts[key[0], 3] += not hit
    for other, said in guesses.items():
        if other not in matched and len(said & void) <= len(said) / 2:
            counts[other[0], 2] += 1
    return counts


@pytest.mark.parametrize("seed", range(20))
def test_matches_are_those_of_a_count_by_segments(seed):
    random = np.random.default_rng(seed)
    truth = image(random.integers(VOID, CLASSES, (9, 8)), random.integers(0, 2, (9, 8)))
    blocks = np.kron(np.arange(12).reshape(3, 4), np.ones((3, 2), int))
    truth = Panoptic(truth.classes.ravel()[blocks], truth.numbers.ravel()[blocks])
    wrong = random.random((9, 8)) < 0.25
    guess = image(
        np.where(wrong, random.integers(VOID, CLASSES, (9, 8)), truth.classes),
        np.where(wrong, 0, truth.numbers),
    )
    np.testing.assert_allclose(match_segments(guess, truth, CLASSES), counted(guess, truth))


def test_quality_by_hand():
    # Of class 0 one is found with an IoU of 3/4 and one missed; of class 1 one is made up.
    guess = image([[0, 0, 0, 1], [VOID, 1, 1, 1]], [[1, 1, 1, 0], [0, 0, 0, 0]])
    truth = image([[0, 0, 0, 0], [0, 0, 0, 0]], [[5, 5, 5, 5], [6, 6, 6, 6]])
    matches = match_segments(guess, truth, CLASSES)
    np.testing.assert_allclose(matches[:2], [[0.75, 1, 0, 1], [0, 0, 1, 0]])
    assert not matches[2:].any()
    found = panoptic_quality(matches)
    assert found["pq"] == pytest.approx((0.75 / 1.5 + 0) / 2)
    assert found["sq"] == pytest.approx((0.75 + 0) / 2)
    assert found["rq"] == pytest.approx((1 / 1.5 + 0) / 2)


def test_the_truth_is_perfect():
    truth = image([[0, 1, 1, VOID]], [[0, 1, 2, 0]])
    found = panoptic_quality(match_segments(truth, truth, CLASSES))
    assert found == {"pq": 1, "sq": 1, "rq": 1}


def test_half_an_overlap_is_no_match():
    guess, truth = image([[0, 0, VOID, VOID]]), image([[0, 0, 0, 0]])
    assert match_segments(guess, truth, CLASSES)[0].tolist() == [0, 0, 1, 1]


def test_a_guess_on_void_is_not_wrong():
    guess = image([[2, 2, 2, 1]])
    assert not match_segments(guess, image([[VOID] * 4]), CLASSES).any()
    # Half of it, no more, lies on void: then it counts.
    half = image([[VOID, 0, 0, 0]])
    guess = image([[2, 2, VOID, VOID]])
    assert match_segments(guess, half, CLASSES)[2].tolist() == [0, 0, 1, 0]


def test_nothing_is_nothing():
    empty = image([[VOID, VOID]])
    matches = match_segments(empty, empty, CLASSES)
    assert matches.shape == (CLASSES, 4)
    assert not matches.any()
    assert math.isnan(panoptic_quality(matches)["pq"])
