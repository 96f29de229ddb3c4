"""Views agree before evidence becomes codes: votes in cells of the world, and within masks."""

import numpy as np
from jaxtyping import Float32, Int16, Int32, Int64

from ffsplat import codes
from ffsplat.types import NO_ID, SparseCode
from ffsplat.voxels import group


def vote(
    ids: Int16[np.ndarray, " n"],
    weights: Float32[np.ndarray, " n"],
    views: Int64[np.ndarray, " n"],
    cells: Int64[np.ndarray, " n"],
    count: int,
    k: int = 4,
    gram: codes.Gram = None,
) -> SparseCode:
    """One code for each of `count` cells, from n pixels that lie in them.

    Each view has one vote a cell: the mean over its pixels there of weight on their rows, so that a
    near view with many pixels does not outvote the others. Votes of equal rows add up, the k
    largest are kept, and weights are shares of the sum: the closed form of the update of
    EmbodiedSplat (arXiv 2603.04254), w_j = d_j / sum d, over the per-view vote of econSG (Zhang et
    al., ICLR 2025). An ID of -1 abstains; a cell without a vote has no evidence.
    """
    ballots = group((cells << 32) | (views.astype(np.int64) << 16) | (ids.astype(np.int64) + 1))
    papers = group(ballots.keys >> 16)
    size = papers.sum(ballots.sizes.astype(np.float64))
    share = ballots.sum(weights) / size[papers.index]
    rows = (ballots.keys & 0xFFFF) - 1
    single = codes.from_pairs(
        rows[:, None].astype(np.int16), np.ones((len(rows), 1), np.float32), 1
    )
    return codes.fuse(single, ballots.keys >> 32, share.astype(np.float32), count, k, gram)


def mask_mode(
    ids: Int16[np.ndarray, "v h w"], masks: Int32[np.ndarray, "v h w"]
) -> Int16[np.ndarray, "v h w"]:
    """Every pixel of a mask gets the most frequent row of the mask; no evidence is a candidate.

    `masks` numbers the masks of each view, negative for no mask: such pixels keep their row. Ties
    go to the lower ID. Source: class-region refinement of econSG, step ii.
    """
    view = np.arange(len(ids))[:, None, None]
    keys = np.where(masks < 0, -1, view << 32 | masks.astype(np.int64)).ravel()
    regions = group(keys)
    pairs = group(regions.index << 16 | (ids.ravel().astype(np.int64) + 1))
    region = pairs.keys >> 16
    order = np.lexsort((-pairs.sizes, region))
    winners = order[np.searchsorted(region, np.arange(len(regions)))]
    mode = ((pairs.keys[winners] & 0xFFFF) - 1).astype(np.int16)
    return np.where(masks < 0, ids, mode[regions.index].reshape(ids.shape))


def no_votes(shape: tuple[int, ...], k: int) -> tuple[np.ndarray, np.ndarray]:
    """IDs and weights of pixels without evidence."""
    return np.full((*shape, k), NO_ID, np.int16), np.zeros((*shape, k), np.float32)
