"""Depth, its error and cameras: direct supervision by exact geometry."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from train.losses.masks import masked_mean


def depth_loss(
    log_depth: Float[Tensor, "b v h w"],
    log_truth: Float[Tensor, "b v h w"],
    mask: Bool[Tensor, "b v h w"],
) -> Float[Tensor, ""]:
    """L1 of log depth."""
    return masked_mean((log_depth - log_truth).abs(), mask)


def gradient_loss(
    log_depth: Float[Tensor, "b v h w"],
    log_truth: Float[Tensor, "b v h w"],
    mask: Bool[Tensor, "b v h w"],
) -> Float[Tensor, ""]:
    """L1 between the image gradients of log depth, at strides 1 and 4.

    Source: Li & Snavely, "MegaDepth", 2018, equation 3 (multi-scale gradient matching).
    """
    error = log_depth - log_truth
    total = error.new_zeros(())
    for stride in (1, 4):
        for axis in (-1, -2):
            size = error.shape[axis] - stride
            step = error.narrow(axis, stride, size) - error.narrow(axis, 0, size)
            both = mask.narrow(axis, stride, size) & mask.narrow(axis, 0, size)
            total = total + masked_mean(step.abs(), both)
    return total / 4


def error_loss(
    expected: Float[Tensor, "b v h w"],
    actual: Float[Tensor, "b v h w"],
    mask: Bool[Tensor, "b v h w"],
) -> Float[Tensor, ""]:
    """Negative log-likelihood of a Laplace error: at its minimum `expected` is the mean error.

    `actual` is the absolute error of log depth and gets no gradient, so calibrating does not
    soften the depth. Source: Kendall & Gal, 2017, equation 8, with the Laplace density.
    """
    return masked_mean(actual.detach() / expected + expected.log(), mask)


def pose_loss(predicted: Float[Tensor, "*s 3"], truth: Float[Tensor, "*s 3"]) -> Float[Tensor, ""]:
    """Smooth L1 of rotation vectors in radians, or of translations over the mean depth."""
    return F.smooth_l1_loss(predicted, truth, beta=0.05)
