"""Panoptic quality: how well an image is cut into objects and stuff (Kirillov et al., 2019)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

VOID = -1
"""Class of a pixel that belongs to no segment: unlabelled truth, or no answer."""


@dataclass(frozen=True, eq=False)
class Panoptic:
    """Every pixel's class and, within the class, the number of its segment (any integers).

    Pixels of class VOID belong to no segment, whatever their number.
    """

    classes: Int[np.ndarray, "h w"]
    numbers: Int[np.ndarray, "h w"]


def match_segments(
    guess: Panoptic, truth: Panoptic, classes: int
) -> Float64[np.ndarray, "classes 4"]:
    """Sum of IoUs of matches, and numbers of matches, wrong and missed segments of each class.

    Segments match if their class is the same and their IoU is above one half, which no segment can
    share with two. Void pixels of the truth belong to no union, and a wrong segment that lies on
    them with more than half of its pixels does not count.
    Source: Kirillov et al., "Panoptic Segmentation", 2019, section 4.
    """
    guess_index, guess_class, guess_area = _segments(guess)
    true_index, true_class, true_area = _segments(truth)
    shape = len(guess_class) + 1, len(true_class) + 1
    # Index -1, void, falls on the last row or column.
    pairs = (guess_index % shape[0]) * shape[1] + true_index % shape[1]
    common = np.bincount(pairs.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    on_void = common[:-1, -1]
    overlap = common[:-1, :-1]
    union = (guess_area - on_void)[:, None] + true_area - overlap
    iou = overlap / union
    one, other = np.nonzero((iou > 0.5) & (guess_class[:, None] == true_class))
    wrong = 2 * on_void <= guess_area
    wrong[one] = False
    missed = np.ones(len(true_class), bool)
    missed[other] = False
    columns = (
        np.bincount(true_class[other], weights=iou[one, other], minlength=classes),
        np.bincount(true_class[other], minlength=classes),
        np.bincount(guess_class[wrong], minlength=classes),
        np.bincount(true_class[missed], minlength=classes),
    )
    return np.stack(columns, axis=1).astype(np.float64)


def panoptic_quality(matches: Float64[np.ndarray, "classes 4"]) -> dict[str, float]:
    """Panoptic, segmentation and recognition quality, averaged over the classes that occur.

    `matches` is the sum of what `match_segments` found in all images. A class occurs if it has
    segments in the truth or wrong ones; without any the result is NaN. The segmentation quality of
    a class without a match is 0.
    """
    iou, hits, wrong, missed = matches.T
    occurs = hits + wrong + missed > 0
    if not occurs.any():
        return dict.fromkeys(("pq", "sq", "rq"), float("nan"))
    iou, hits, halves = iou[occurs], hits[occurs], ((wrong + missed) / 2)[occurs]
    return {
        "pq": float((iou / (hits + halves)).mean()),
        "sq": float((iou / np.maximum(hits, 1)).mean()),
        "rq": float((hits / (hits + halves)).mean()),
    }


def _segments(
    image: Panoptic,
) -> tuple[Int[np.ndarray, "h w"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The segment of each pixel (-1 is void), and the class and the area of each segment."""
    labelled = image.classes != VOID
    pairs = np.stack([image.classes[labelled], image.numbers[labelled]], axis=1)
    found, place, area = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    index = np.full(image.classes.shape, VOID, np.int64)
    index[labelled] = place.ravel()
    return index, found[:, 0], area
