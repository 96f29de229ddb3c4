"""What is measured where every place has one class: overlap and accuracy of each."""

import numpy as np
from jaxtyping import Int, Int64

UNLABELLED = -1
"""The class of a place without truth, which counts for nothing, and of a place without answer."""


def confusion(
    guess: Int[np.ndarray, " n"], truth: Int[np.ndarray, " n"], classes: int
) -> Int64[np.ndarray, "classes more"]:
    """How often each true class (row) was called each class; the last column counts no answer."""
    known = truth != UNLABELLED
    answered = np.where(guess == UNLABELLED, classes, guess)[known]
    places = truth[known].astype(np.int64) * (classes + 1) + answered
    counts = np.bincount(places, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1).astype(np.int64)


def class_scores(counts: Int64[np.ndarray, "classes more"]) -> dict[str, float]:
    """Mean IoU and mean accuracy of the classes that the truth has, and the share that is right.

    A class that was guessed and is not there lowers the others' IoU and has none of its own. NaN
    without truth. Source: `calculate_metrics` in `eval_scannet.py` of OpenGaussian (Wu et al.,
    2024), where what has no truth is not counted as a wrong answer either.
    """
    right = np.diagonal(counts)
    true, called = counts.sum(axis=1), counts[:, :-1].sum(axis=0)
    there = true > 0
    if not there.any():
        return dict.fromkeys(("miou", "macc", "accuracy"), float("nan"))
    iou = right[there] / (true + called - right)[there]
    return {
        "miou": float(iou.mean()),
        "macc": float((right[there] / true[there]).mean()),
        "accuracy": float(right.sum() / true.sum()),
    }
