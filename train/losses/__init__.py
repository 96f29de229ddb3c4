"""Losses: pure functions of what was predicted and what is true, each a scalar, one file a subject.

Masks say where the truth holds; a mean over an empty mask is 0.
"""

from train.losses.codebook import code_loss
from train.losses.geometry import depth_loss, error_loss, gradient_loss, pose_loss
from train.losses.instance import instance_loss
from train.losses.masks import masked_mean
from train.losses.matching import correspondences, match_loss

__all__ = [
    "code_loss",
    "correspondences",
    "depth_loss",
    "error_loss",
    "gradient_loss",
    "instance_loss",
    "masked_mean",
    "match_loss",
    "pose_loss",
]
