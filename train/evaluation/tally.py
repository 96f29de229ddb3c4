"""What was measured so far: values by metric and by who earned them, and counts of labels."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from ffsplat.evaluation.panoptic import panoptic_quality
from train import metrics


class Tally:
    """Values of every metric and counts of every labelling, gathered over sets.

    `values[metric, who]` is one number a set, pair or image, NaN where it has no meaning;
    `counts[task, who]` is a confusion matrix, `segments[who]` what `panoptic.match_segments` found.
    """

    def __init__(self):
        self.values: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
        self.counts: dict[tuple[str, str], Tensor] = {}
        self.segments: dict[str, Float64[np.ndarray, "classes 4"]] = {}

    def add(self, metric: str, by_name: Mapping[str, Float[Tensor, "*b"]]) -> None:
        """Append values of a metric."""
        for name, values in by_name.items():
            self.values[metric, name].append(values.flatten().double().cpu())

    def add_labels(
        self, task: str, name: str, guess: Int[Tensor, "*s"], truth: Int[Tensor, "*s"], classes: int
    ) -> None:
        """Count which class was called which; a negative guess is an answer that is never right."""
        answered = torch.where(guess < 0, classes, guess)
        counts = metrics.confusion(answered, truth, classes + 1).cpu()
        self.counts[task, name] = self.counts.get((task, name), 0) + counts

    def add_segments(self, name: str, matches: Float64[np.ndarray, "classes 4"]) -> None:
        """Count matched and unmatched segments."""
        self.segments[name] = self.segments.get(name, 0) + matches

    def known(self, metric: str, name: str) -> Float64[Tensor, " n"]:
        """What was added to a metric, without NaN."""
        added = self.values.get((metric, name), [])
        values = torch.cat([torch.zeros(0, dtype=torch.float64), *added])
        return values[~values.isnan()]


Summary = Callable[[Tally, str], float]
"""One number about what somebody earned; NaN where nothing could be measured."""


def mean(metric: str) -> Summary:
    """The mean of a metric."""
    return lambda tally, name: tally.known(metric, name).mean().item()


def median(metric: str) -> Summary:
    """The median of a metric; of an even number of values, the mean of the two in the middle."""

    def summary(tally: Tally, name: str) -> float:
        values = tally.known(metric, name)
        return values.quantile(0.5).item() if len(values) else math.nan

    return summary


def auc(metric: str, threshold: int) -> Summary:
    """The area under the recall curve of a metric in degrees."""
    return lambda tally, name: metrics.pose_auc(tally.known(metric, name), threshold)


def accuracy(task: str) -> Summary:
    """Share of labels that are right."""
    return lambda tally, name: _count(metrics.accuracy, tally, task, name)


def mean_iou(task: str) -> Summary:
    """Intersection over union, averaged over the classes that occur."""
    return lambda tally, name: _count(metrics.mean_iou, tally, task, name)


def _count(summary: Callable[[Tensor], float], tally: Tally, task: str, name: str) -> float:
    counts = tally.counts.get((task, name))
    return math.nan if counts is None else summary(counts)


def quality(which: str, among: Callable[[int], np.ndarray] | None = None) -> Summary:
    """Panoptic ("pq"), segmentation ("sq") or recognition ("rq") quality.

    `among` tells, of so many classes, over which the mean is taken.
    """

    def summary(tally: Tally, name: str) -> float:
        matches = tally.segments.get(name)
        if matches is None:
            return math.nan
        return panoptic_quality(matches[among(len(matches))] if among else matches)[which]

    return summary
