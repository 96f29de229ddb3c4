"""The protocols, each with its rule in words: published numbers differ most by these."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from ffsplat.evaluation.asking import Subject
from ffsplat.evaluation.classes import UNLABELLED, class_scores, confusion
from ffsplat.evaluation.masks import is_localized, mask_iou, summarize
from ffsplat.evaluation.panoptic import Panoptic, match_segments, panoptic_quality
from ffsplat.evaluation.points import measure_points, read_labelled_points
from ffsplat.evaluation.truth import LabelledView, read_3d_ovs, read_folder, read_lerf_ovs
from ffsplat.query.maps import langsplat_mask, located
from ffsplat.render import render
from ffsplat.types import Cameras

VISIBLE = 10 / 255
"""Opacity above which a silhouette covers a pixel, as in `compute_lerf_iou.py` of OpenGaussian."""


@dataclass(frozen=True)
class Protocol:
    """A rule, the files it reads, and the functions that read and measure a subject by them."""

    name: str
    rule: str
    source: str
    files: str
    read: Callable[[Path], Any]
    measure: Callable[..., dict[str, float]]


def activated(subject: Subject, views: Sequence[LabelledView]) -> dict[str, float]:
    """Masks of rendered relevancy, and where it is highest, as LangSplat measures them."""
    ious, hits = [], []
    for view in subject.seen(views):
        camera = subject.camera(view)
        for phrase, truth in view.masks.items():
            maps = subject.relevancies(phrase, camera)
            ious.append(mask_iou(langsplat_mask(maps)[0], truth))
            if phrase in view.boxes:
                hits.append(is_localized(located(maps), view.boxes[phrase]))
    return summarize(ious) | ({"localization": float(np.mean(hits))} if hits else {})


def selected(subject: Subject, views: Sequence[LabelledView]) -> dict[str, float]:
    """IoU of the silhouettes of what matches each phrase, in space."""
    ious = []
    for view in subject.seen(views):
        camera = subject.camera(view)
        for phrase, truth in view.masks.items():
            _, chosen = subject.matches(phrase)
            ious.append(mask_iou(subject.silhouette(chosen, camera) > VISIBLE, truth))
    return summarize(ious)


def named(subject: Subject, views: Sequence[LabelledView]) -> dict[str, float]:
    """Every pixel takes its best class; IoU of each class and image, accuracy of pixels."""
    ious, right = [], []
    for view in subject.seen(views):
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
    for view in subject.seen(views):
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


LERF_FILES = (
    "frame_<number>.json a photo, with the polygons and boxes of its objects; or, without boxes "
    "and so without localisation, a folder frame_<number> a photo with a mask a phrase"
)

EVERYWHERE = (
    "Photos and labels belong together by name, extensions aside; labels of another size than the "
    "photo are compared at their own. Labelled photos without a camera are left out and counted in "
    "a warning; a phrase that the scene's words cannot express is found nowhere."
)
"""What holds for every protocol."""

_ALL = (
    Protocol(
        "lerf-ovs",
        "Each phrase of each labelled photo gives a map of relevancy per level, from blended "
        "cosines. Segmentation: half the map and half its 30 x 30 mean; the level with the highest "
        "value; stretched over its range to [-1, 1], above 0.4; majority of 7 x 7. Mean IoU and "
        "shares above 0.25 and 0.5 over phrases. Localisation: the highest pixel of the mean alone "
        "lies in a box of the phrase.",
        "Qin et al., LangSplat, 2024, evaluate_iou_loc.py",
        LERF_FILES,
        read_lerf_ovs,
        activated,
    ),
    Protocol(
        "lerf-ovs-3d",
        "Each phrase selects Gaussians in space; those alone are drawn, and cover a pixel where "
        "their opacity is above 10/255. Mean IoU and shares above 0.25 and 0.5 over phrases.",
        "Wu et al., OpenGaussian, 2024, compute_lerf_iou.py",
        LERF_FILES,
        read_lerf_ovs,
        selected,
    ),
    Protocol(
        "3d-ovs",
        "Each pixel takes the class with the highest blended score. IoU of each class of each "
        "photo, 0 where it is neither there nor found, averaged over classes, then photos; "
        "accuracy is the share of pixels whose classes are all right.",
        "Liu et al., Weakly Supervised 3D Open-vocabulary Segmentation, 2023, renderer.py",
        "segmentations/classes.txt and a folder a photo with a mask a class, <class>.png, white "
        "(255) where it is",
        read_3d_ovs,
        named,
    ),
    Protocol(
        "scannet",
        "Each labelled point takes the class with the highest score at the nearest Gaussian of an "
        "opacity of 0.1 or more within 0.1 m; without one it is wrong. Other labels count for "
        "nothing. IoU and accuracy of each class that is there, averaged. OpenGaussian freezes one "
        "Gaussian on each point instead and leaves out points whose Gaussian is fainter.",
        "Wu et al., OpenGaussian, 2024, eval_scannet.py",
        "<scene>_vh_clean_2.labels.ply; --poses takes the folder of <frame>.txt that ScanNet's "
        "reader exports; --classes: 20 are those of ScanNet's benchmark, 19 leave out other "
        "furniture, 15 and 10 are subsets of OpenGaussian",
        read_labelled_points,
        lambda subject, truth, **more: measure_points(subject, *truth, **more),
    ),
    Protocol(
        "labels",
        "Each pixel takes the class with the highest blended score, of those in label_names. One "
        "confusion of all labelled pixels of all photos: mean IoU and accuracy of classes, "
        "accuracy. Where objects are numbered, panoptic quality of what is drawn as an instance, "
        "each named by most of its pixels.",
        "Kirillov et al., Panoptic Segmentation, 2019, section 4",
        "cameras.json with label_names and frames, and images of numbers, as `python -m data "
        "convert` writes them",
        read_folder,
        panoptic,
    ),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}
"""Every protocol by its name."""
