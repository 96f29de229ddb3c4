"""Which masks of different views show one object: by shared places, by matches, by likeness."""

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, Int64

from ffsplat.types import NO_ID
from ffsplat.voxels import group

OVERLAP = 1 / 9
"""Share of a mask's places that must be known of an object: Gaga's 0.1 on I / (|G| + I)."""


class ObjectMemory:
    """Objects as sets of places (world cells or Gaussians), grown view by view.

    A mask of a new view is the object with the largest share of the mask's places, if that reaches
    `overlap`, else a new object; places that no object has yet join the object. Source: Gaga (Lyu
    et al., arXiv 2404.07977), the 3D-aware memory bank, whose score I / (|G| + I) has the same
    order as the share I / |G|. With `exclusive`, two masks of one view are never one object.
    """

    def __init__(self, overlap: float = OVERLAP, exclusive: bool = False):
        self.overlap = overlap
        self.exclusive = exclusive
        self.count = 0
        self._places = np.zeros(0, np.int64)
        self._objects = np.zeros(0, np.int64)

    def assign(self, masks: list[Int64[np.ndarray, " _"]]) -> Int32[np.ndarray, " masks"]:
        """The object of each mask of one view, given the places that it shows, without repeats.

        In the order given: an early mask takes places that a later one might have had.
        """
        numbers = np.zeros(len(masks), np.int32)
        taken: list[int] = []
        first = self.count == 0
        for index, places in enumerate(masks):
            number = NO_ID if first else self._best(places, taken)
            fresh = places
            if number == NO_ID:
                number = self.count
                self.count += 1
            else:
                fresh = places[~np.isin(places, self._places)]
            self._places = np.append(self._places, fresh)
            self._objects = np.append(self._objects, np.full(len(fresh), number))
            numbers[index] = number
            taken.append(number)
        return numbers

    def places(self, number: int) -> Int64[np.ndarray, " _"]:
        """The places of an object, rising."""
        return np.sort(self._places[self._objects == number])

    def _best(self, places: Int64[np.ndarray, " _"], taken: list[int]) -> int:
        shared = np.isin(self._places, places)
        common = np.bincount(self._objects[shared], minlength=self.count)
        if self.exclusive:
            common[taken] = 0
        best = int(common.argmax())
        return best if len(places) and common[best] >= self.overlap * len(places) else NO_ID


def associate_masks(
    masks: Int32[np.ndarray, "v h w"],
    cells: Int64[np.ndarray, "v h w"],
    overlap: float = OVERLAP,
    exclusive: bool = True,
) -> Int32[np.ndarray, "v h w"]:
    """Number the objects of all views from the masks of each, -1 for none.

    `masks` number the objects of each view by itself, `cells` are the world cells of the pixels,
    both negative for none. Larger masks of a view go first; views go in order.
    """
    memory = ObjectMemory(overlap, exclusive)
    numbers = np.full(masks.shape, NO_ID, np.int32)
    for view, (mask, cell) in enumerate(zip(masks, cells, strict=True)):
        regions = group(mask[mask >= 0].astype(np.int64))
        places = cell[mask >= 0]
        members = [
            np.unique(part[part >= 0])
            for part in np.split(places[regions.order], regions.starts[1:])
        ]
        order = np.argsort(-regions.sizes, kind="stable")
        found = np.empty(len(regions), np.int32)
        found[order] = memory.assign([members[i] for i in order])
        numbers[view][mask >= 0] = found[regions.index]
    return numbers


def count_matches(
    masks_a: Int32[np.ndarray, "h w"],
    masks_b: Int32[np.ndarray, "h2 w2"],
    pixels_a: Int[np.ndarray, "n 2"],
    pixels_b: Int[np.ndarray, "n 2"],
) -> Int64[np.ndarray, "a b"]:
    """How many keypoint matches run from each mask of one view to each mask of another.

    Pixels are (row, column); masks are numbered from 0, negative for none.
    """
    shape = masks_a.max(initial=-1) + 1, masks_b.max(initial=-1) + 1
    first, second = masks_a[tuple(pixels_a.T)], masks_b[tuple(pixels_b.T)]
    both = (first >= 0) & (second >= 0)
    pairs = first[both].astype(np.int64) * shape[1] + second[both]
    return np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)


def color_histograms(
    colors: Float32[np.ndarray, "h w 3"], masks: Int32[np.ndarray, "h w"], bins: int = 4
) -> Float32[np.ndarray, "masks _"]:
    """Share of each of bins^3 sRGB colours in each mask; masks are numbered from 0."""
    count = masks.max(initial=-1) + 1
    levels = np.clip((colors * bins).astype(np.int64), 0, bins - 1)
    color = (levels[..., 0] * bins + levels[..., 1]) * bins + levels[..., 2]
    known = masks >= 0
    pairs = masks[known].astype(np.int64) * bins**3 + color[known]
    counts = np.bincount(pairs, minlength=count * bins**3).reshape(count, -1).astype(np.float32)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def likeness(
    features_a: Float32[np.ndarray, "a d"],
    features_b: Float32[np.ndarray, "b d"],
    colors_a: Float32[np.ndarray, "a c"],
    colors_b: Float32[np.ndarray, "b c"],
    feature_weight: float = 0.5,
    color_weight: float = 0.5,
) -> Float32[np.ndarray, "a b"]:
    """Mixed score of masks: u cosine of their unit features + v intersection of their histograms.

    Source: FastLGS (Ji et al., AAAI 2025); its u and v are not published, so both are arguments.
    """
    cosine = features_a @ features_b.T
    common = np.minimum(colors_a[:, None], colors_b[None]).sum(axis=-1)
    return np.float32(feature_weight) * cosine + np.float32(color_weight) * common


def match_masks(
    matches: Int64[np.ndarray, "a b"],
    scores: Float[np.ndarray, "a b"],
    least_matches: int = 8,
    least_score: float = 0.8,
) -> Int32[np.ndarray, " a"]:
    """For each mask of one view that of the other which shows the same object, -1 for none.

    More than `least_matches` keypoint matches decide; else the best score, if it reaches
    `least_score`. Source: the matching rule of FastLGS; its thresholds are not published.
    """
    if not matches.shape[1]:
        return np.full(len(matches), NO_ID, np.int32)
    by_score = np.where(scores.max(axis=1) >= least_score, scores.argmax(axis=1), NO_ID)
    many = matches.max(axis=1) > least_matches
    return np.where(many, matches.argmax(axis=1), by_score).astype(np.int32)


def objects_in_mask(
    numbers: Int32[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], share: float = 0.7
) -> Int32[np.ndarray, " n"]:
    """The objects of which more than `share` of the visible pixels lie in a mask, rising.

    Turns the mask of a detector, or of a click, into objects of a scene. Negative numbers are no
    object. Source: Gaussian Grouping (Ye et al., ECCV 2024), intersection over the object's area.
    """
    known = numbers >= 0
    area = np.bincount(numbers[known])
    inside = np.bincount(numbers[known & mask], minlength=len(area))
    return np.flatnonzero(inside > share * area).astype(np.int32)
