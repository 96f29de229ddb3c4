"""Objects that geometry left apart, joined by keypoint matches and by likeness.

Where depth or cameras are off, one thing lies at two places and becomes two objects. Two objects
that no view shows side by side are one if many keypoints match between them, or if their features
and colours are alike. Sources: the matching rule of FastLGS (Ji et al., AAAI 2025); the masklets of
"Semantic Consistent Language Gaussian Splatting" (2025), section 4.1, for pooling over all views.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64

from ffsplat.semantics.associate import color_histograms, count_matches, likeness, match_masks
from ffsplat.semantics.masks import pool_in_masks
from ffsplat.types import NO_ID


class Matches(NamedTuple):
    """Pixels (row, column) of two views that show the same points."""

    first: int
    second: int
    pixels: Int[np.ndarray, "n 2"]
    other_pixels: Int[np.ndarray, "n 2"]


def reunite(
    numbers: Int32[np.ndarray, "v h w"],
    features: Float32[np.ndarray, "v y x d"],
    colors: Float32[np.ndarray, "v h w 3"],
    unlike: float,
    matches: Sequence[Matches] = (),
) -> Int32[np.ndarray, "v h w"]:
    """The object numbers with objects joined that are each other's best match, without gaps.

    `unlike` is the cosine of unlike features (`calibration`): likeness counts from there. An object
    never joins one that it shares a view with. One round: pairs, not chains, so that a mistake does
    not swallow everything.
    """
    count = int(numbers.max(initial=NO_ID)) + 1
    if count < 2:
        return numbers
    apart = ~_side_by_side(numbers, count)
    scores = np.where(apart, _likeness(numbers, features, colors, unlike, count), -1)
    shared = np.where(apart, _shared_keypoints(numbers, matches, count), 0)
    partner = match_masks(shared, scores)
    objects = np.arange(count)
    mutual = (partner != NO_ID) & (partner[partner] == objects)
    joined = np.where(mutual, np.minimum(objects, partner), objects)
    dense = np.append(np.unique(joined, return_inverse=True)[1], NO_ID).astype(np.int32)
    return dense[numbers]


def mutual_matches(
    tokens: Float32[np.ndarray, "v y x c"],
    pairs: Sequence[tuple[int, int]],
    size: tuple[int, int],
    least: float = 0.5,
) -> list[Matches]:
    """Patches of views of `size` pixels that are each other's nearest by a network's features.

    Of those only pairs count whose cosine, without what all patches share, is at least `least`.
    """
    v, y, x, _ = tokens.shape
    centred = tokens - tokens.mean(axis=(0, 1, 2))
    lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
    unit = (centred / np.maximum(lengths, np.float32(1e-12))).reshape(v, y * x, -1)
    rows, columns = np.divmod(np.arange(y * x), x)
    centres = np.stack(
        [(2 * rows + 1) * size[0] // (2 * y), (2 * columns + 1) * size[1] // (2 * x)], 1
    )
    found = []
    for first, second in pairs:
        cosine = unit[first] @ unit[second].T
        best, back = cosine.argmax(axis=1), cosine.argmax(axis=0)
        patches = np.arange(y * x)
        kept = (back[best] == patches) & (cosine[patches, best] >= least)
        found.append(Matches(first, second, centres[kept], centres[best[kept]]))
    return found


def _side_by_side(
    numbers: Int32[np.ndarray, "v h w"], count: int
) -> Bool[np.ndarray, "count count"]:
    """Which objects a view shows together; each is beside itself."""
    seen = np.zeros((len(numbers), count), np.float32)
    for view, shown in enumerate(numbers):
        seen[view, np.unique(shown[shown != NO_ID])] = 1
    return (seen.T @ seen > 0) | np.eye(count, dtype=bool)


def _likeness(
    numbers: Int32[np.ndarray, "v h w"],
    features: Float32[np.ndarray, "v y x d"],
    colors: Float32[np.ndarray, "v h w 3"],
    unlike: float,
    count: int,
) -> Float32[np.ndarray, "count count"]:
    masks = pool_in_masks(features, numbers)
    sums = np.zeros((count, features.shape[-1]), np.float32)
    np.add.at(sums, masks.numbers, masks.features * masks.pixels[:, None].astype(np.float32))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    pooled = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    flat = color_histograms(
        colors.reshape(-1, colors.shape[2], 3), numbers.reshape(-1, numbers.shape[2])
    )
    half = 0.5 / (1 - unlike)
    return likeness(pooled, pooled, flat, flat, half) - np.float32(half * unlike)


def _shared_keypoints(
    numbers: Int32[np.ndarray, "v h w"], matches: Sequence[Matches], count: int
) -> Int64[np.ndarray, "count count"]:
    total = np.zeros((count, count), np.int64)
    for first, second, pixels, others in matches:
        found = count_matches(numbers[first], numbers[second], pixels, others)
        total[: found.shape[0], : found.shape[1]] += found
    return total + total.T
