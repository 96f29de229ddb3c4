"""What other networks say: rendered or predicted features against a teacher's dense map."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from train.losses.masks import masked_mean


def resample(
    features: Float[Tensor, "*b c h w"], height: int, width: int, corners: bool = False
) -> Float[Tensor, "*b c height width"]:
    """Bilinear values of a feature map at another resolution.

    With `corners` the centres of the corner pixels fall on each other, as in the code of Feature
    3DGS; without, the outlines of the images do, which is where the cells of a teacher lie.
    """
    if features.shape[-2:] == (height, width):
        return features
    flat = features.flatten(0, -4) if features.ndim > 3 else features[None]
    resized = F.interpolate(flat, (height, width), mode="bilinear", align_corners=corners)
    return resized.view(*features.shape[:-2], height, width)


def teacher_l1_loss(
    student: Float[Tensor, "*b c h w"],
    teacher: Float[Tensor, "*b c y x"],
    mask: Bool[Tensor, "*b y x"] | None = None,
    corners: bool = False,
) -> Float[Tensor, ""]:
    """Mean absolute difference from the teacher's map, at the teacher's resolution.

    The student is resampled, never the teacher, whose values between its cells nobody computed; it
    gets no gradient. Source: Zhou et al., "Feature 3DGS", 2024, its feature loss, with
    weight 1 and `corners` in the code.
    """
    student = resample(student, teacher.shape[-2], teacher.shape[-1], corners)
    error = (student - teacher.detach()).abs().mean(-3)
    return masked_mean(error, torch.ones_like(error) if mask is None else mask)


def teacher_cosine_loss(
    student: Float[Tensor, "*b c h w"],
    teacher: Float[Tensor, "*b c y x"],
    mask: Bool[Tensor, "*b y x"] | None = None,
    corners: bool = False,
) -> Float[Tensor, ""]:
    """Mean of 1 - cosine from the teacher's map, at the teacher's resolution.

    Source: Fan et al., "Large Spatial Model", 2024, its semantic loss, with weight 0.2 in the code;
    its maps have one resolution, so how to resample follows Feature 3DGS.
    """
    student = resample(student, teacher.shape[-2], teacher.shape[-1], corners)
    error = 1 - _cosine(student.movedim(-3, -1), teacher.detach().movedim(-3, -1))
    return masked_mean(error, torch.ones_like(error) if mask is None else mask)


def _cosine(a: Float[Tensor, "*s d"], b: Float[Tensor, "*s d"]) -> Float[Tensor, "*s"]:
    return F.cosine_similarity(a, b, dim=-1, eps=1e-6)


def sparse_weights(logits: Float[Tensor, "*s rows"], k: int = 4) -> Float[Tensor, "*s rows"]:
    """Weights over codebook rows, k of them over 0 and their sum 1.

    The softmax over the k best logits: what a softmax over all gives once it is cut and rescaled,
    without its underflow. Only these k logits get a gradient, so equal ones must not be where
    training starts. Source: Li et al., "LangSplatV2", 2025, its sparse coefficients.
    """
    best, rows = logits.topk(min(k, logits.shape[-1]), dim=-1)
    return torch.zeros_like(logits).scatter(-1, rows, best.softmax(-1))


def coded_cosine_loss(
    weights: Float[Tensor, "*s rows"],
    codebook: Float[Tensor, "rows d"],
    teacher: Float[Tensor, "*s d"],
    mask: Bool[Tensor, "*s"],
) -> Float[Tensor, ""]:
    """Mean of 1 - cosine between coded features, weights @ codebook, and the teacher's.

    `weights` are those of Gaussians or pixels, or what a renderer blends of them: blending and the
    product with the codebook may change places. Source: Li et al., "LangSplatV2", 2025. Its
    code takes the mean over all pixels, so that each one outside the mask adds a constant 1; here
    these do not count.
    """
    error = 1 - _cosine(weights @ codebook, teacher.detach())
    return masked_mean(error, mask)


def multilevel_cosine_loss(
    weights: Sequence[Float[Tensor, "*s _"]],
    codebooks: Sequence[Float[Tensor, "_ d"]],
    teachers: Sequence[Float[Tensor, "*s d"]],
    masks: Sequence[Bool[Tensor, "*s"]],
) -> Float[Tensor, ""]:
    """Sum over the levels of meaning (whole, part, ...) of `coded_cosine_loss`, one of each.

    LangSplatV2 trains its three levels in three runs, which have the same gradients as the sum.
    """
    levels = zip(weights, codebooks, teachers, masks, strict=True)
    return torch.stack([coded_cosine_loss(*level) for level in levels]).sum()
