"""Rules for scores that were rendered into views: what LangSplat does in 2-D.

Scores are linear in the codes until they become a relevancy, so cosines are rendered, one channel a
phrase, and everything here comes after. Features are blended and not scaled again, as in LangSplat.
"""

import numpy as np
from jaxtyping import Bool, Float, Float32

from ffsplat import codes
from ffsplat.query.canonical import TEMPERATURE, relevancy
from ffsplat.query.question import Question

BOX = 30
"""Side of LangSplat's mean filter in pixels, at the size of LERF's images."""

MASK_THRESHOLD = 0.4
"""LangSplat's threshold of a relevancy that is stretched to [-1, 1]."""

RADIUS = 3
"""Of the square that votes in LangSplat's last step: 7 by 7."""


def channels(question: Question) -> Float32[np.ndarray, "n channels"]:
    """What to render of each Gaussian: its cosine with the text and each canonical phrase."""
    text = question.embedding
    rows = question.row_scores(np.vstack([text.vector, text.canon.reshape(-1, len(text.vector))]))
    return codes.cosine(question.code, rows)


def relevancy_map(
    rendered: Float[np.ndarray, "*v t"], temperature: float = TEMPERATURE
) -> Float32[np.ndarray, " *v"]:
    """The relevancy of each pixel from its rendered `channels`."""
    return relevancy(rendered[..., 0], rendered[..., 1:], temperature)


def smoothed(scores: Float[np.ndarray, "*l h w"]) -> Float32[np.ndarray, "*l h w"]:
    """Half the map and half its mean over 30 by 30 pixels, mirrored without the edge pixel.

    The square reaches 15 pixels up and left and 14 down and right. Source: LangSplat, evaluation.
    """
    return ((box_mean(scores) + scores) / 2).astype(np.float32)


def box_mean(scores: Float[np.ndarray, "*l h w"], side: int = BOX) -> Float32[np.ndarray, "*l h w"]:
    """The mean over a square around each pixel, `side // 2` of it before the pixel."""
    found = scores.astype(np.float64)
    for axis in (-2, -1):
        found = _means(np.moveaxis(found, axis, -1), side)
        found = np.moveaxis(found, -1, axis)
    return found.astype(np.float32)


def best_level(scores: Float[np.ndarray, "levels h w"]) -> int:
    """The level whose largest score is the largest."""
    return int(scores.max(axis=(1, 2)).argmax())


def langsplat_mask(
    scores: Float[np.ndarray, "levels h w"], threshold: float = MASK_THRESHOLD
) -> tuple[Bool[np.ndarray, "h w"], int]:
    """The pixels that a text means, and the level that says so, from relevancies of each level.

    Smooths, takes the best level, stretches it over its range to [-1, 1], cuts, and lets
    neighbours vote. Source: Qin et al., "LangSplat", 2024, evaluation code.
    """
    smooth = smoothed(scores)
    level = best_level(smooth)
    stretched = smooth[level] - smooth[level].min()
    stretched = stretched / (stretched.max() + np.float32(1e-9))
    return majority(np.clip(2 * stretched - 1, 0, 1) > np.float32(threshold)), level


def majority(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """What most of the 7 by 7 pixels around each say; False for a tie.

    As in LangSplat, the last row and the last column have no vote.
    """
    votes = np.zeros((2, *mask.shape), np.int64)
    votes[:, :-1, :-1] = mask[:-1, :-1], np.ones_like(mask[:-1, :-1])
    for axis in (1, 2):
        votes = _sums(votes, RADIUS, axis)
    return 2 * votes[0] > votes[1]


def located(scores: Float[np.ndarray, "levels h w"]) -> Bool[np.ndarray, "h w"]:
    """The pixels of the largest mean relevancy, at the level that has it: where the thing is.

    Source: LangSplat, evaluation code for localisation.
    """
    means = box_mean(scores)
    found = means[best_level(means)]
    return found == found.max()


def _means(values: Float[np.ndarray, "*l n"], side: int) -> Float[np.ndarray, "*l n"]:
    """Means over `side` values of the last axis, mirrored at the ends."""
    before = side // 2
    padding = [(0, 0)] * (values.ndim - 1) + [(before, side - 1 - before)]
    sums = np.cumsum(np.pad(values, padding, mode="reflect"), axis=-1)
    sums = np.concatenate([np.zeros_like(sums[..., :1]), sums], axis=-1)
    return (sums[..., side:] - sums[..., :-side]) / side


def _sums(values: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Sums over 2 radius + 1 values along an axis, with zeros beyond its ends."""
    padding = [(0, 0)] * values.ndim
    padding[axis] = (radius + 1, radius)
    sums = np.cumsum(np.pad(values, padding), axis=axis)
    size = values.shape[axis]
    window = 2 * radius + 1
    return np.take(sums, range(window, window + size), axis) - np.take(sums, range(size), axis)
