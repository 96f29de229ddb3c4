"""What pixels and Gaussians are called, beside the truth: by pixel, by splatting, in space."""

import numpy as np
import torch
from jaxtyping import Int
from scipy.spatial import KDTree
from torch import Tensor

from data.clip import UNKNOWN
from data.rooms.labels import WHOLE_INDEX
from ffsplat import codes
from ffsplat.codebook import rows_of_level
from ffsplat.evaluation.panoptic import VOID, Panoptic, match_segments
from ffsplat.geometry import transform_points, unproject
from ffsplat.prediction import Prediction
from ffsplat.render import render
from ffsplat.types import LEVELS, NO_ID, Codebook, Scene
from train.batches import Batch
from train.evaluation.baselines import Statistics
from train.evaluation.clips import cameras_of
from train.evaluation.tally import Tally

STUFF = ("wall", "floor", "ceiling")
"""Rows without objects: all pixels of one are one segment. All other rows are things."""


def stuff_rows(classes: int) -> np.ndarray:
    """Which classes of the level `whole` are stuff."""
    rows = np.zeros(classes, bool)
    rows[[WHOLE_INDEX[name] for name in STUFF]] = True
    return rows


def add_pixels(tally: Tally, prediction: Prediction, given: Batch, statistics: Statistics) -> None:
    """Add the best row of every pixel of the given views."""
    for level in ("whole", "part"):
        logits = getattr(prediction, f"{level}_logits")
        truth = getattr(given, level)
        _add(tally, level, logits.argmax(-1), truth, logits.shape[-1], getattr(statistics, level))


def add_surface(tally: Tally, scene: Scene, batch: Batch, statistics: Statistics) -> None:
    """Add the heaviest code of every Gaussian, beside the label of the nearest true point.

    The true points are all pixels of the batch that have a depth; where the nearest has no label,
    the Gaussian does not count.
    """
    known = batch.depth.flatten() > 0
    if not len(scene) or not known.any():
        return
    points = unproject(batch.depth, batch.intrinsics).flatten(2, 3)
    surface = transform_points(batch.world_from_camera, points).flatten(0, 2)[known]
    _, nearest = KDTree(surface.cpu().numpy()).query(scene.gaussians.means)
    for level in ("whole", "part"):
        truth = getattr(batch, level).flatten()[known].cpu()[torch.from_numpy(nearest)]
        guess, classes = heaviest_classes(scene, level)
        _add(tally, f"{level} 3d", guess, truth, classes, getattr(statistics, level))


def add_splatted(tally: Tally, scene: Scene, others: Batch, statistics: Statistics) -> None:
    """Add the codes of a scene splatted into other views, and the segments that it shows there."""
    cameras = cameras_of(others)
    for level in ("whole", "part"):
        table, classes = _classes(_codebook(scene), level)
        drawn = torch.from_numpy(table[render(scene, cameras, "codes", level=level)])
        truth = getattr(others, level)[0].cpu()
        _add(tally, f"{level} splatted", drawn, truth, classes, getattr(statistics, level))
        if level == "whole":
            instances = render(scene, cameras, "instance")
            for view, (called, numbers) in enumerate(zip(drawn.numpy(), instances, strict=True)):
                guess = panoptic_guess(scene, called, numbers)
                true = panoptic_truth(others.whole[0, view], others.identity[0, view])
                tally.add_segments("network", match_segments(guess, true, classes))


def heaviest_classes(scene: Scene, level: str) -> tuple[Int[Tensor, " n"], int]:
    """The class of a level that each Gaussian's code says most of, -1 for none; how many there are.

    Classes count the rows of the level.
    """
    codebook = _codebook(scene)
    table, classes = _classes(codebook, level)
    assert scene.codes is not None
    of_level = codes.keep_rows(scene.codes, codebook.levels == LEVELS.index(level))
    return torch.from_numpy(table[of_level.ids[:, 0]]), classes


def panoptic_guess(
    scene: Scene, called: Int[np.ndarray, "h w"], instances: Int[np.ndarray, "h w"]
) -> Panoptic:
    """Segments of a splatted view: things by instance, stuff by class, void elsewhere.

    `called` is the class that was splatted to each pixel; the class of an instance is that of its
    Gaussians.
    """
    classes, count = heaviest_classes(scene, "whole")
    assert scene.instances is not None
    numbered = scene.instances != NO_ID
    of_instance = np.full(scene.instances.max(initial=NO_ID) + 2, VOID)
    of_instance[scene.instances[numbered]] = classes.numpy()[numbered]
    stuff = stuff_rows(count)
    by_instance = of_instance[instances]  # the last entry is that of -1
    is_thing = (by_instance != VOID) & ~stuff[by_instance]
    is_stuff = (called != VOID) & stuff[called] & ~is_thing
    return Panoptic(
        np.where(is_thing, by_instance, np.where(is_stuff, called, VOID)),
        np.where(is_thing, instances, NO_ID),
    )


def panoptic_truth(whole: Int[Tensor, "h w"], identity: Int[Tensor, "h w"]) -> Panoptic:
    """Segments of labelled pixels; void where nobody says which object they belong to."""
    known = identity != UNKNOWN
    return Panoptic(torch.where(known, whole, VOID).cpu().numpy(), identity.cpu().numpy())


def _codebook(scene: Scene) -> Codebook:
    assert scene.codebook is not None  # `to_scene` gives every scene one
    return scene.codebook


def _classes(codebook: Codebook, level: str) -> tuple[Int[np.ndarray, " rows"], int]:
    """Class of each row of a codebook within a level, -1 for others and no row; how many."""
    rows = rows_of_level(codebook, level)
    table = np.full(len(codebook) + 1, VOID)
    table[rows] = np.arange(len(rows))
    return table, len(rows)


def _add(
    tally: Tally, task: str, guess: Tensor, truth: Tensor, classes: int, majority: int | None
) -> None:
    tally.add_labels(task, "network", guess, truth, classes)
    if majority is not None:
        always = torch.full_like(truth, majority)
        tally.add_labels(task, "majority class", always, truth, classes)
