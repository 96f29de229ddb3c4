"""Labels and objects together: each Gaussian's, or each pixel's, class and segment."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int32

from ffsplat.codes import CHUNK
from ffsplat.hits import slots_of
from ffsplat.query.labels import SCALE, classify, narrowed, probabilities, row_scores
from ffsplat.query.question import Question
from ffsplat.text import TextSpace
from ffsplat.types import NO_ID, Scene


@dataclass(frozen=True, eq=False)
class Panoptic:
    """The label of each Gaussian or pixel, an index into `labels`, and its segment; -1 is none.

    A segment of stuff has no number: all that is called by its label is one.
    """

    labels: tuple[str, ...]
    label: Int32[np.ndarray, " *s"]
    segment: Int32[np.ndarray, " *s"]


def panoptic(
    scene: Scene,
    labels: tuple[str, ...],
    *,
    stuff: Collection[str] = ("wall", "floor", "ceiling"),
    space: str | TextSpace | None = None,
    level: str | None = None,
    scale: float = SCALE,
) -> Panoptic:
    """What each Gaussian is called, and to which object it belongs.

    All Gaussians of an instance are called what they are together: by the largest sum of
    probabilities, weighted by opacity. Those without instance are called by their own; labels of
    `stuff` have no objects. Raises as `query`.
    """
    question = Question(scene, "", space, level)
    question = narrowed(question, row_scores(question, labels))
    found = classify(question, labels, scale)
    if scene.instances is None:
        return Panoptic(labels, found.label, np.full(len(scene), NO_ID, np.int32))
    together = instance_probabilities(question, labels, scale)
    slots, _ = slots_of(scene.instances)
    voted = np.where(together.any(axis=1), together.argmax(axis=1), NO_ID).astype(np.int32)
    label = np.where(scene.instances < 0, found.label, voted[slots])
    is_stuff = np.append(np.isin(labels, list(stuff)), True)[label]
    return Panoptic(labels, label, np.where(is_stuff, np.int32(NO_ID), scene.instances))


def instance_probabilities(
    question: Question, labels: tuple[str, ...], scale: float = SCALE
) -> Float32[np.ndarray, "slots t"]:
    """Mean probabilities of the labels over each instance (by `slots_of`), weighted by opacity."""
    scene = question.scene
    assert scene.instances is not None
    slots, count = slots_of(scene.instances)
    opacities = scene.gaussians.opacities_of_meaning
    sums, total = np.zeros((count, len(labels))), np.bincount(slots, opacities, count)
    for start in range(0, len(scene), CHUNK):
        rows = slice(start, start + CHUNK)
        shares = probabilities(question, question.code[rows], labels, scale)
        shares *= opacities[rows, None]
        for t in range(len(labels)):
            sums[:, t] += np.bincount(slots[rows], shares[:, t], count)
    return (sums / np.maximum(total, 1e-12)[:, None]).astype(np.float32)


def panoptic_map(
    labels: tuple[str, ...],
    probabilities: Float[np.ndarray, "q t"],
    masks: Float[np.ndarray, "q h w"],
    *,
    stuff: Collection[str] = ("wall", "floor", "ceiling"),
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    overlap: float = 0.8,
) -> Panoptic:
    """A view cut into segments, from what each of q objects is and how much of it each pixel shows.

    `masks` are blended shares of the objects in [0, 1], rendered one by one. An object counts whose
    best probability is above `threshold`; a pixel goes to the one with the largest product of
    probability and mask, if more than `overlap` of where that product is at least `mask_threshold`
    stays its own. Objects of one label of stuff are one. Source: Cheng et al., "Per-Pixel
    Classification is Not All You Need for Semantic Segmentation", 2021, section 3.4, as SIU3R and
    DETR's code have it; numbers of segments are never given twice.
    """
    label, segment = (np.full(masks.shape[1:], NO_ID, np.int32) for _ in range(2))
    best, called = probabilities.max(axis=1, initial=0), probabilities.argmax(axis=1)
    kept = np.flatnonzero(best > threshold)
    if not len(kept):
        return Panoptic(labels, label, segment)
    weighted = masks[kept] * best[kept, None, None]
    owner = weighted.argmax(axis=0)
    for place, query in enumerate(kept):
        own, whole = owner == place, weighted[place] >= mask_threshold
        if not own.any() or not own.sum() > overlap * max(whole.sum(), 1e-9) or not whole.any():
            continue
        label[own] = called[query]
        segment[own] = NO_ID if labels[called[query]] in stuff else query
    return Panoptic(labels, label, segment)
