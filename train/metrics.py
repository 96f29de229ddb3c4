"""What is measured: pure functions on tensors, one value a set, a pair or an image.

Masks say where the truth holds. Lengths are z-depths or translations in one unit; angles are in
degrees.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ffsplat.geometry import invert_rigid, rotation_angle


def median_scale(
    depth: Float[Tensor, "b v h w"],
    truth: Float[Tensor, "b v h w"],
    mask: Bool[Tensor, "b v h w"],
) -> Float[Tensor, " b"]:
    """The factor that gives `depth` the median of the truth, one for all views of a set.

    Source: Zhou et al., "Unsupervised Learning of Depth and Ego-Motion", 2017, section 4.1.
    """

    def median(values: Tensor) -> Tensor:
        return torch.where(mask, values, torch.nan).flatten(1).nanmedian(1).values

    return median(truth) / median(depth)


def set_mean(
    values: Float[Tensor, "b v h w"], mask: Bool[Tensor, "b v h w"]
) -> Float[Tensor, " b"]:
    """Mean over the masked pixels of a set; NaN for a set without any."""
    return torch.where(mask, values, 0).sum((1, 2, 3)) / mask.sum((1, 2, 3))


def absolute_relative(
    depth: Float[Tensor, "b v h w"],
    truth: Float[Tensor, "b v h w"],
    mask: Bool[Tensor, "b v h w"],
) -> Float[Tensor, " b"]:
    """AbsRel, the mean of |depth - truth| / truth.

    Source: Eigen et al., "Depth Map Prediction from a Single Image", 2014, section 4.2.
    """
    return set_mean((depth - truth).abs() / truth, mask)


def delta1(
    depth: Float[Tensor, "b v h w"],
    truth: Float[Tensor, "b v h w"],
    mask: Bool[Tensor, "b v h w"],
) -> Float[Tensor, " b"]:
    """Share of pixels whose depth is within a factor 1.25 of the truth (Eigen et al., 2014)."""
    ratio = torch.maximum(depth / truth, truth / depth)
    return set_mean((ratio < 1.25).to(depth), mask)


def log_depth_error(
    depth: Float[Tensor, "b v h w"],
    scale: Float[Tensor, " b"],
    truth: Float[Tensor, "b v h w"],
    mask: Bool[Tensor, "b v h w"],
) -> Float[Tensor, "b v h w"]:
    """|log(depth / scale) - log(truth / its mean)|, what `Prediction.depth_error` expects."""
    mean = set_mean(truth, mask)[:, None, None, None]
    normal = torch.where(mask, truth, mean) / mean
    return (depth / scale[:, None, None, None] / normal).log().abs()


def rotation_error(
    guess: Float[Tensor, "*b 4 4"], truth: Float[Tensor, "*b 4 4"]
) -> Float[Tensor, "*b"]:
    """Angle of the rotation between two poses, in degrees."""
    return torch.rad2deg(rotation_angle((invert_rigid(guess) @ truth)[..., :3, :3]))


def direction_error(
    guess: Float[Tensor, "*b 4 4"], truth: Float[Tensor, "*b 4 4"]
) -> Float[Tensor, "*b"]:
    """Angle between two translations in degrees; 90, that of a random direction, for no guess."""
    a, b = guess[..., :3, 3], truth[..., :3, 3]
    # The half-angle form keeps small angles exact (Kahan, "How Futile are Mindless Assessments").
    a = a / a.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    b = b / b.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return torch.rad2deg(2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1)))


def pose_auc(errors: Float[Tensor, " n"], threshold: float | int) -> float:
    """Area under the recall curve of pose errors up to a threshold, over that of a perfect one.

    Recall rises linearly from error to error and stays after the last one below the threshold.
    `errors` and `threshold` are in degrees; NaN without errors. Source: Sarlin et al., "SuperGlue",
    2020, section 5.2, and its evaluation code (`pose_auc`), which LoFTR and RoMa share.
    """
    if not len(errors):
        return math.nan
    ordered = errors.double().sort().values
    recall = torch.arange(1, len(ordered) + 1).to(ordered) / len(ordered)
    below = int((ordered < threshold).sum())
    zero, end = ordered.new_zeros(1), ordered.new_tensor([threshold])
    x = torch.cat([zero, ordered[:below], end])
    y = torch.cat([zero, recall[:below], recall[max(below - 1, 0)].expand(1) * (below > 0)])
    return torch.trapezoid(y, x).item() / threshold


def field_of_view(
    intrinsics: Float[Tensor, "*b 3 3"], width: Float[Tensor, "*b"] | float | int
) -> Float[Tensor, "*b"]:
    """Horizontal field of view in degrees of an image `width` pixels wide."""
    return torch.rad2deg(2 * torch.atan(width / (2 * intrinsics[..., 0, 0])))


def confusion(
    guess: Int[Tensor, "*s"], truth: Int[Tensor, "*s"], classes: int
) -> Int[Tensor, "classes classes"]:
    """How many pixels of class i (row) were called j (column); a negative truth is unknown."""
    known = truth >= 0
    pairs = truth[known].long() * classes + guess[known].long()
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def accuracy(counts: Int[Tensor, "classes classes"]) -> float:
    """Share of pixels whose class is right."""
    return (counts.diagonal().sum() / counts.sum()).item()


def mean_iou(counts: Int[Tensor, "classes classes"]) -> float:
    """Intersection over union, averaged over the classes that occur in the truth.

    Source: Everingham et al., "The PASCAL Visual Object Classes Challenge", 2015, section 4.3.
    """
    hits = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hits
    occurs = counts.sum(1) > 0
    return (hits[occurs] / union[occurs]).mean().item()


def psnr(images: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio in decibels of sRGB images in [0, 1]."""
    error = (images.clamp(0, 1) - truth).square().mean((1, 2, 3))
    return -10 / math.log(10) * error.clamp(min=1e-10).log()
