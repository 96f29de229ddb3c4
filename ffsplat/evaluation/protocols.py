"""The protocols, each with its rule in words: published numbers differ most by these."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from ffsplat.evaluation.asking import Subject
from ffsplat.evaluation.classes import UNLABELLED, class_scores, confusion
from ffsplat.evaluation.masks import mask_iou, summarize
from ffsplat.evaluation.panoptic import Panoptic, match_segments, panoptic_quality
from ffsplat.evaluation.truth import LabelledView
from ffsplat.render import render
from ffsplat.types import Cameras

VISIBLE = 10 / 255
"""Opacity above which a silhouette covers a pixel, as in `compute_lerf_iou.py` of OpenGaussian."""


@dataclass(frozen=True)
class Protocol:
    """A rule, and the functions that read its labels and measure by it."""

    name: str
    rule: str
    source: str
    read: Callable[[Path], Sequence[LabelledView]]
    measure: Callable[[Subject, Sequence[LabelledView]], dict[str, float]]


def selected(subject: Subject, views: Sequence[LabelledView]) -> dict[str, float]:
    """IoU of the silhouettes of what matches each phrase, in space."""
    ious = []
    for view in views:
        camera = subject.camera(view)
        for phrase, truth in view.masks.items():
            _, chosen = subject.matches(phrase)
            ious.append(mask_iou(subject.silhouette(chosen, camera) > VISIBLE, truth))
    return summarize(ious)


def named(subject: Subject, views: Sequence[LabelledView]) -> dict[str, float]:
    """Every pixel takes its best class; IoU of each class and image, accuracy of pixels."""
    ious, right = [], []
    for view in views:
        called = best_class(subject, view, subject.camera(view))
        guess = [called == place for place in range(len(view.masks))]
        truth = list(view.masks.values())
        ious.append(np.mean([mask_iou(g, t) for g, t in zip(guess, truth, strict=True)]))
        right.append((np.stack(guess) == np.stack(truth)).all(axis=0).mean())
    return {"miou": float(np.mean(ious)), "accuracy": float(np.mean(right))}


def panoptic(subject: Subject, views: Sequence[LabelledView]) -> dict[str, float]:
    """One confusion of all pixels, and panoptic quality where the labels number objects."""
    names = list(views[0].masks)
    counts = np.zeros((len(names), len(names) + 1), np.int64)
    matches = np.zeros((len(names), 4))
    for view in views:
        camera = subject.camera(view)
        called, truth = best_class(subject, view, camera), true_class(view)
        counts += confusion(called.ravel(), truth.ravel(), len(names))
        if view.instances is not None and subject.scene.instances is not None:
            objects = render(subject.scene, camera, "instance")[0]
            guess = Panoptic(_voted(called, objects), objects)
            matches += match_segments(guess, Panoptic(truth, view.instances), len(names))
    return class_scores(counts) | (panoptic_quality(matches) if matches.any() else {})


def best_class(subject: Subject, view: LabelledView, camera: Cameras) -> Int32[np.ndarray, "h w"]:
    """The place of the class with the largest blended score; UNLABELLED where all have none."""
    maps = np.stack([subject.score_map(subject.matches(name)[0], camera) for name in view.masks])
    return np.where(maps.max(axis=0) > 0, maps.argmax(axis=0), UNLABELLED).astype(np.int32)


def true_class(view: LabelledView) -> Int32[np.ndarray, "h w"]:
    """The place of the class that is true at each pixel, of several the last."""
    truth = np.full(view.size[::-1], UNLABELLED, np.int32)
    for place, mask in enumerate(view.masks.values()):
        truth[mask] = place
    return truth


def _voted(
    called: Int32[np.ndarray, "h w"], objects: Int32[np.ndarray, "h w"]
) -> Int32[np.ndarray, "h w"]:
    """Every object takes the class of most of its pixels; pixels of none keep their own."""
    voted = called.copy()
    for number in np.unique(objects[objects >= 0]):
        inside = objects == number
        votes = np.bincount(called[inside] - UNLABELLED)
        voted[inside] = int(votes.argmax()) + UNLABELLED
    return voted
