"""Which pixels of new views become Gaussians, by the rules of `pruning.keep_pixels`, in one pass.

Confidence falls with the expected error of depth, so errors are compared instead. A slope of log
depth is a ratio of depths.
"""

import math

import numpy as np
from jaxtyping import Bool, Float32

from ffsplat.geometric import ERROR_SCALE
from ffsplat.prediction import Prediction
from ffsplat.pruning import EDGE_SLOPE, SKY_CONFIDENCE, SKY_DISTANCE
from ffsplat.stream.map.compiled import brief, lean


def kept_pixels(
    prediction: Prediction,
    valid: Bool[np.ndarray, "v h w"],
    min_confidence: float,
    min_opacity: float,
) -> Bool[np.ndarray, "v h w"]:
    """What `keep_pixels` keeps of the views of one set, on the CPU, flying pixels pruned."""
    depth, errors = (one[0].float().numpy() for one in (prediction.depth, prediction.depth_error))
    centres, opacities = depth, prediction.opacities[0].float().numpy()
    if prediction.depth_offsets is not None:
        centres = depth + prediction.depth_offsets[0].float().numpy()
    if prediction.meaning_opacities is not None:
        meaning = prediction.meaning_opacities[0].float().numpy()
        opacities = np.maximum(opacities, meaning)
    finite = valid & np.isfinite(depth)
    far = SKY_DISTANCE * _ranked(depth[finite], upper=False)
    unsure = _ranked(errors[finite], upper=True) - ERROR_SCALE * math.log(SKY_CONFIDENCE)
    edges = np.exp(EDGE_SLOPE / prediction.intrinsics[0].double().numpy()[:, [0, 1], [0, 1]])
    kept = np.empty(valid.shape, bool)
    keep(depth, centres, errors, opacities, valid, edges, far, unsure, min_opacity, kept)
    limit = -ERROR_SCALE * math.log(max(min_confidence, 1e-30))
    some = errors[kept]
    if not (some <= limit).all():
        kept &= errors <= max(limit, _ranked(some, upper=True))
    return kept


def _ranked(values: Float32[np.ndarray, " n"], upper: bool) -> float:
    """The median; of an even number, the upper or the lower of the two in the middle."""
    if not len(values):
        return math.nan
    rank = (len(values) - 1 + upper) // 2
    return float(np.partition(values, rank)[rank])


@brief
def keep(depth, centres, errors, opacities, valid, edges, far, unsure, min_opacity, kept):
    """All but the limit of confidence. `edges` (v, 2) is the ratio of depths of neighbours, across
    and down, from which one of them may be a flying pixel.
    """
    _, h, w = depth.shape
    for view in range(len(depth)):
        d, inside = depth[view], valid[view]
        across, down = edges[view]
        for i in range(h):
            for j in range(w):
                z, opaque = d[i, j], opacities[view, i, j] >= min_opacity
                good = inside[i, j] and 0 < z < np.inf and centres[view, i, j] > 0 and opaque
                good = good and not (z > far and errors[view, i, j] > unsure)
                if good and 0 < j < w - 1 and inside[i, j - 1] and inside[i, j + 1]:
                    good = not is_flying(d[i, j - 1], z, d[i, j + 1], across)
                if good and 0 < i < h - 1 and inside[i - 1, j] and inside[i + 1, j]:
                    good = not is_flying(d[i - 1, j], z, d[i + 1, j], down)
                kept[view, i, j] = good


@lean
def is_flying(before, here, after, edge):
    """Whether depth rises, or falls, by more than this ratio to a pixel and again from it."""
    rises = here > edge * before >= 0 and after > edge * here
    falls = before > edge * here and here > edge * after >= 0
    return rises or falls
