"""Losses: pure functions of what was predicted and what is true, each a scalar, one file a subject.

Masks say where the truth holds; a mean over an empty mask is 0.
"""

from train.losses.codebook import code_loss
from train.losses.consistency import (
    affinity_loss,
    feature_agreement_loss,
    flatness_loss,
    neighbour_loss,
    object_agreement_loss,
    smoothness_loss,
    view_agreement_loss,
    vote_labels,
)
from train.losses.geometry import depth_loss, error_loss, gradient_loss, pose_loss
from train.losses.instance import (
    identity_loss,
    instance_loss,
    instance_smoothness_loss,
    length_loss,
    prototype_loss,
    separation_loss,
)
from train.losses.masks import masked_mean
from train.losses.matching import correspondences, match_loss
from train.losses.referring import (
    choose_mask,
    contrast_loss,
    responding_feature,
    response_loss,
    sentence_response,
)

__all__ = [
    "affinity_loss",
    "choose_mask",
    "code_loss",
    "contrast_loss",
    "correspondences",
    "depth_loss",
    "error_loss",
    "feature_agreement_loss",
    "flatness_loss",
    "gradient_loss",
    "identity_loss",
    "instance_loss",
    "instance_smoothness_loss",
    "length_loss",
    "masked_mean",
    "match_loss",
    "neighbour_loss",
    "object_agreement_loss",
    "pose_loss",
    "prototype_loss",
    "responding_feature",
    "response_loss",
    "sentence_response",
    "separation_loss",
    "smoothness_loss",
    "view_agreement_loss",
    "vote_labels",
]
