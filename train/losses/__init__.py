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
from train.losses.geometry import (
    confidence_loss,
    depth_loss,
    direction_loss,
    error_loss,
    field_of_view_loss,
    focal_length_loss,
    gradient_loss,
    normal_loss,
    normals,
    point_error,
    point_loss,
    pose_loss,
    ray_angle_loss,
    ray_loss,
    rotation_loss,
    scale_invariant_loss,
    scale_shift_loss,
    trimmed_scale_shift_loss,
)
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
    "confidence_loss",
    "contrast_loss",
    "correspondences",
    "depth_loss",
    "direction_loss",
    "error_loss",
    "feature_agreement_loss",
    "field_of_view_loss",
    "flatness_loss",
    "focal_length_loss",
    "gradient_loss",
    "identity_loss",
    "instance_loss",
    "instance_smoothness_loss",
    "length_loss",
    "masked_mean",
    "match_loss",
    "neighbour_loss",
    "normal_loss",
    "normals",
    "object_agreement_loss",
    "point_error",
    "point_loss",
    "pose_loss",
    "prototype_loss",
    "ray_angle_loss",
    "ray_loss",
    "responding_feature",
    "response_loss",
    "rotation_loss",
    "scale_invariant_loss",
    "scale_shift_loss",
    "sentence_response",
    "separation_loss",
    "smoothness_loss",
    "trimmed_scale_shift_loss",
    "view_agreement_loss",
    "vote_labels",
]
