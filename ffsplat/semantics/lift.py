"""From dense 2-D features to codes per pixel that agree between views."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int16, Int32, Int64

from ffsplat.prediction import PixelMeaning
from ffsplat.semantics.associate import associate_masks
from ffsplat.semantics.bank import Bank
from ffsplat.semantics.calibration import calibrate
from ffsplat.semantics.objects import code_objects, connected_objects
from ffsplat.semantics.reunite import Matches, reunite
from ffsplat.semantics.upsample import at_centres, spacing, upsample
from ffsplat.semantics.vote import mask_mode, vote
from ffsplat.types import NO_ID
from ffsplat.voxels import Groups, cell_keys, group

CELL = 0.5
"""Side of the cells in which views vote, over the distance between neighbouring features."""


def label_pixels(
    features: Float32[np.ndarray, "v y x d"],
    points: Float32[np.ndarray, "v h w 3"],
    confidence: Float32[np.ndarray, "v h w"],
    valid: Bool[np.ndarray, "v h w"],
    *,
    space: str,
    bank: Bank | None = None,
    masks: Int32[np.ndarray, "v h w"] | None = None,
    colors: Float32[np.ndarray, "v h w 3"] | None = None,
    matches: Sequence[Matches] = (),
    topk: int = 4,
    min_confidence: float = 0.05,
    hard: bool = False,
) -> PixelMeaning:
    """Codes and object numbers for all pixels of some views, from features of a 2-D teacher.

    `features` are unit, or 0 where there is none, on a grid of y x x cells over each view; `points`
    are where pixels lie in the world; `confidence` is that of their depth, in (0, 1]; pixels below
    `min_confidence`, or below half of the others where that is less, do not vote. `colors`, sRGB
    in [0, 1], sharpen the edges. `masks` number the objects of each view by itself, -1 for none:
    the pixels of a mask then mean one thing, and masks are associated over views, by the places
    that they share and then, where there are `colors`, by keypoint `matches` and likeness
    (`reunite`); without masks an object is a connected piece of one row. `hard` gives every object
    a codebook row of its own, the mean feature of all its pixels, and K = 1 (SLGaussian, arXiv
    2412.08331; SegSplat, arXiv 2511.18386).

    A `bank` keeps its rows between calls and the IDs are its own; without one, rows are numbered
    from 0. Raises ValueError for a bank of another feature size.
    """
    rows, grid = _bank_of(bank, features), features.shape[1:3]
    points = np.where(valid[..., None], points, np.float32(0))
    weights = _votes(confidence, valid, min_confidence)
    gap = spacing(at_centres(points, grid), at_centres(valid, grid))
    ids, share = _pixel_rows(features, points, weights, rows, gap, masks, colors)
    ids = np.append(rows.compact() if bank is None else rows.alias, np.int16(NO_ID))[ids]

    world, cells = _cells(points, valid, CELL * gap)
    views = np.broadcast_to(np.arange(len(valid))[:, None, None], valid.shape)
    sure = (share * confidence)[valid]
    code = vote(ids[valid], sure, views[valid], world.index, len(world), topk)
    if masks is not None:
        instances = _of_masks(masks, cells, features, colors, matches, rows.thresholds.unlike)
    else:
        corners = points[valid][world.order[world.starts]]
        instances = _spread(connected_objects(code.ids[:, 0], corners, gap), cells, NO_ID)
    if hard:
        return code_objects(features, instances, weights, space)
    ids, shares = (_spread(v, cells, none) for v, none in ((code.ids, NO_ID), (code.weights, 0)))
    return PixelMeaning(ids, shares.astype(np.float32), instances, rows.codebook(space))


def _votes(
    confidence: Float32[np.ndarray, "v h w"], valid: Bool[np.ndarray, "v h w"], least: float
) -> Float32[np.ndarray, "v h w"]:
    """The confidence of valid pixels as sure as `least` or as half of them, else 0."""
    if valid.any():
        least = min(least, float(np.median(confidence[valid])))
    return confidence * (valid & (confidence >= least))


def _cells(
    points: Float32[np.ndarray, "v h w 3"], valid: Bool[np.ndarray, "v h w"], side: float
) -> tuple[Groups, Int64[np.ndarray, "v h w"]]:
    """The world cells of the valid pixels, and which of them each pixel is in, -1 for none."""
    world = group(cell_keys(points[valid], side))
    cells = np.full(valid.shape, NO_ID, np.int64)
    cells[valid] = world.index
    return world, cells


def _bank_of(bank: Bank | None, features: Float32[np.ndarray, "v y x d"]) -> Bank:
    """The bank that is given, or a new one; ValueError for one of another feature size."""
    if bank is not None and bank.size != features.shape[-1]:
        raise ValueError(f"a bank of {bank.size} numbers a row, features of {features.shape[-1]}")
    return new_bank(features) if bank is None else bank


def _of_masks(
    masks: Int32[np.ndarray, "v h w"],
    cells: Int64[np.ndarray, "v h w"],
    features: Float32[np.ndarray, "v y x d"],
    colors: Float32[np.ndarray, "v h w 3"] | None,
    matches: Sequence[Matches],
    unlike: float,
) -> Int32[np.ndarray, "v h w"]:
    """The object of each pixel from the masks of each view, by places and then by looks."""
    instances = associate_masks(masks, cells)
    return instances if colors is None else reunite(instances, features, colors, unlike, matches)


def new_bank(features: Float32[np.ndarray, "v y x d"]) -> Bank:
    """An empty bank with thresholds calibrated on some features, which it does not take in."""
    size = features.shape[-1]
    return Bank(size, calibrate(features.reshape(-1, size), _neighbours(features.shape[:3])))


def purity(features: Float32[np.ndarray, "v y x d"]) -> Float32[np.ndarray, "v y x"]:
    """How well each feature agrees with its neighbours in the view: its rank in (0, 1].

    A feature at the border of two things sees both: it should neither open a row nor shift one.
    """
    total = np.zeros(features.shape[:3], np.float32)
    count = np.zeros(features.shape[1:3], np.float32)
    for one, other in _sides():
        cosine = np.einsum("vyxd,vyxd->vyx", features[one], features[other])
        for side in (one, other):
            total[side] += cosine
            count[side[1:]] += 1
    agreement = (total / np.maximum(count, 1)).ravel()
    rank = np.empty(agreement.size, np.float32)
    rank[np.argsort(agreement, kind="stable")] = np.arange(1, agreement.size + 1)
    return (rank / max(agreement.size, 1)).reshape(features.shape[:3])


def _sides() -> list[tuple[tuple[slice, slice, slice], tuple[slice, slice, slice]]]:
    """Both halves of all pairs of neighbours: down a column, along a row."""
    every, head, tail = slice(None), slice(None, -1), slice(1, None)
    return [
        ((every, head, every), (every, tail, every)),
        ((every, every, head), (every, every, tail)),
    ]


def _pixel_rows(
    features: Float32[np.ndarray, "v y x d"],
    points: Float32[np.ndarray, "v h w 3"],
    weights: Float32[np.ndarray, "v h w"],
    bank: Bank,
    gap: float,
    masks: Int32[np.ndarray, "v h w"] | None,
    colors: Float32[np.ndarray, "v h w 3"] | None,
) -> tuple[Int16[np.ndarray, "v h w"], Float32[np.ndarray, "v h w"]]:
    """The bank's row of each pixel, -1 where its weight is 0, and how sure its cells are of it."""
    grid = features.shape[1:3]
    ids, share = upsample(_rows(features, at_centres(weights, grid), bank), points, gap, colors)
    ids = np.where(weights > 0, ids, np.int16(NO_ID))
    if masks is not None:
        ids = np.where(weights > 0, mask_mode(ids, masks), np.int16(NO_ID))
    _observe(bank, at_centres(ids, grid), points, colors)
    return ids, share


def _rows(
    features: Float32[np.ndarray, "v y x d"], confidence: Float32[np.ndarray, "v y x"], bank: Bank
) -> Int16[np.ndarray, "v y x"]:
    """The row of each feature."""
    weights = confidence * np.square(purity(features))
    ids = bank.update(features.reshape(-1, features.shape[-1]), weights.ravel())
    return ids.reshape(features.shape[:3])


def _observe(
    bank: Bank,
    ids: Int16[np.ndarray, "v y x"],
    points: Float32[np.ndarray, "v h w 3"],
    colors: Float32[np.ndarray, "v h w 3"] | None,
) -> None:
    """Tell the bank where its rows were seen: once for each cell."""
    grid = ids.shape[1], ids.shape[2]
    views = np.arange(len(ids)).repeat(grid[0] * grid[1])
    places = at_centres(points, grid).reshape(-1, 3)
    seen = None if colors is None else at_centres(colors, grid).reshape(-1, 3)
    bank.observe(ids.ravel(), views, places, seen)


def _neighbours(shape: tuple[int, ...]) -> Int64[np.ndarray, "p 2"]:
    """Flat indices of all pairs of cells that lie side by side in a view."""
    index = np.arange(int(np.prod(shape))).reshape(shape)
    pairs = [np.stack([index[one].ravel(), index[other].ravel()], 1) for one, other in _sides()]
    return np.concatenate(pairs)


def _spread(values: np.ndarray, cells: Int64[np.ndarray, "v h w"], none: int) -> np.ndarray:
    """The value of each pixel's cell, `none` for a pixel in no cell."""
    padding = np.full((1, *values.shape[1:]), none, values.dtype)
    return np.concatenate([values, padding])[cells]
