"""Which pixels of a prediction become Gaussians: none that is unsure, flying, or of the sky."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ffsplat.geometric import ERROR_SCALE
from ffsplat.prediction import Prediction

EDGE_SLOPE = 8.0
"""Depth gained over distance moved across the view, from which a pixel may be a flying one.

A surface seen at 7 degrees has this slope. On rendered rooms it costs 0.5 % of true depth, and on
their depth blurred over 3x3 pixels it finds two thirds of the pixels that are off by 15 %.
"""

SKY_DISTANCE = 4.0
"""Depth over the median of the set from which a pixel may be sky."""
SKY_CONFIDENCE = 0.25
"""Confidence over the median of the set below which a pixel so far away is sky."""


def confidences(prediction: Prediction) -> Float[Tensor, "b v h w"]:
    """Confidence of each pixel's depth, in (0, 1]."""
    return torch.exp(-prediction.depth_error / ERROR_SCALE)


def keep_pixels(
    prediction: Prediction,
    valid: Bool[Tensor, "b v h w"],
    min_confidence: float,
    min_opacity: float,
    prune_edges: bool,
) -> Bool[Tensor, "b v h w"]:
    """Which pixels become Gaussians; see `merge.to_scene`."""
    kept = valid & torch.isfinite(prediction.depth) & (prediction.depth > 0)
    if prediction.depth_offsets is not None:
        kept = kept & (prediction.depth + prediction.depth_offsets > 0)
    opaque = prediction.opacities >= min_opacity
    if prediction.meaning_opacities is not None:
        opaque = opaque | (prediction.meaning_opacities >= min_opacity)
    kept = kept & opaque
    if prune_edges:
        kept = kept & ~flying_pixels(prediction.depth, prediction.intrinsics, valid)
    confidence = confidences(prediction)
    kept = kept & ~sky_pixels(prediction.depth, confidence, valid)
    if kept.any():
        kept = kept & (confidence >= confidence[kept].median().clamp(max=min_confidence))
    return kept


def flying_pixels(
    depth: Float[Tensor, "*b h w"],
    intrinsics: Float[Tensor, "*b 3 3"],
    valid: Bool[Tensor, "*b h w"],
) -> Bool[Tensor, "*b h w"]:
    """Pixels that hang between a near and a far surface.

    Along a row or a column, depth rises (or falls) more steeply than EDGE_SLOPE both to and from
    such a pixel. A clean edge is steep on one side only, so both of its pixels stay.
    """
    log_depth = torch.where(valid, depth, torch.nan).log()
    flying = torch.zeros_like(valid)
    for axis in (-1, -2):
        # A pixel's side is depth / focal, so a slope is a step of log depth times focal.
        slope = log_depth.diff(dim=axis) * intrinsics[..., -1 - axis, -1 - axis, None, None]
        count = slope.shape[axis] - 1
        if count < 1:
            continue
        before, after = slope.narrow(axis, 0, count), slope.narrow(axis, 1, count)
        steep = torch.minimum(before, after) > EDGE_SLOPE
        steep |= torch.maximum(before, after) < -EDGE_SLOPE
        flying.narrow(axis, 1, count).logical_or_(steep)
    return flying


def sky_pixels(
    depth: Float[Tensor, "b v h w"],
    confidence: Float[Tensor, "b v h w"],
    valid: Bool[Tensor, "b v h w"],
) -> Bool[Tensor, "b v h w"]:
    """Pixels without a surface: infinitely far, or very far and very unsure for their set.

    Networks that do not mask the sky place it at the largest depths they know and are unsure of it.
    """
    finite = valid & torch.isfinite(depth)

    def median(values: Tensor) -> Tensor:
        found = torch.where(finite, values, torch.nan).flatten(1).nanmedian(dim=1).values
        return found[:, None, None, None]

    far = depth > SKY_DISTANCE * median(depth)
    unsure = confidence < SKY_CONFIDENCE * median(confidence)
    return valid & (torch.isposinf(depth) | (far & unsure))
