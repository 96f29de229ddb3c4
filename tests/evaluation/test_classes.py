"""Scores of classes, beside a plain transcription of their definition."""

import math

import numpy as np
import pytest

from ffsplat.evaluation.classes import UNLABELLED, class_scores, confusion


def by_definition(guess, truth, classes):
    ious, accuracies = [], []
    for one in range(classes):
        here = truth == one
        if not here.any():
            continue
        known = truth != UNLABELLED
        both = (here & (guess == one)).sum()
        ious.append(both / (known & (here | (guess == one))).sum())
        accuracies.append(both / here.sum())
    return np.mean(ious), np.mean(accuracies)


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_the_definition(seed):
    generator = np.random.default_rng(seed)
    guess, truth = generator.integers(-1, 6, (2, 500))
    truth[truth == 2] = 3  # a class that is guessed and never there
    scores = class_scores(confusion(guess, truth, 6))
    miou, macc = by_definition(guess, truth, 6)
    assert scores["miou"] == pytest.approx(miou)
    assert scores["macc"] == pytest.approx(macc)
    known = truth != UNLABELLED
    assert scores["accuracy"] == pytest.approx((guess == truth)[known].mean())


def test_no_answer_is_a_wrong_answer_and_no_truth_is_no_question():
    counts = confusion(np.array([0, UNLABELLED, 1]), np.array([0, 0, UNLABELLED]), 2)
    assert counts.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert class_scores(counts) == {"miou": 0.5, "macc": 0.5, "accuracy": 0.5}


def test_without_truth_there_is_no_score():
    assert all(math.isnan(v) for v in class_scores(np.zeros((2, 3), np.int64)).values())
