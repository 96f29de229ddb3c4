"""What should agree: neighbours in space, views of one point, pixels of one surface."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from train.losses.instance import group_rows
from train.losses.masks import masked_mean

DISTANCES = 1 << 24
"""Distances between points held at once: 64 MB."""


def neighbour_loss(
    points: Float[Tensor, "n 3"],
    logits: Float[Tensor, "n c"],
    *,
    k: int = 5,
    samples: int = 1000,
    most: int = 200_000,
    with_self: bool = False,
    per_class: bool = False,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Mean KL(P_j || P_i) from sampled Gaussians j to their `k` nearest i, P = softmax(logits).

    One scene at a time; `most` points at random are considered, and `samples` of these asked for.
    Points get no gradient. `generator` is one of the CPU.

    Sources: Ye et al., "Gaussian Grouping", 2024, the 3D regularisation loss, whose code counts a
    point among its own neighbours, divides by the classes and multiplies by 2 (`with_self`,
    `per_class`, and a weight of 2 give its numbers). Li et al., "LangSurf", 2024, applies it to the
    channels of a language feature; with -log(f_j / f_i), as it is also printed, it would be the
    negative of the divergence and push neighbours apart.
    """
    order = torch.randperm(len(points), generator=generator)[:most].to(points.device)
    points, logits = points[order].detach(), logits[order]
    k = min(k, len(points) - (not with_self))
    if k < 1:
        return logits.sum() * 0
    near = _nearest(points, min(samples, len(points)), k, with_self)
    log_p = logits.float().log_softmax(-1)
    own = log_p[: len(near), None]
    divergence = (own.exp() * (own - log_p[near])).sum(-1).mean()
    return divergence / logits.shape[1] if per_class else divergence


def _nearest(
    points: Float[Tensor, "n 3"], count: int, k: int, with_self: bool
) -> Int[Tensor, "count k"]:
    """The `k` nearest points of each of the first `count`, themselves left out unless wanted."""
    found = []
    for rows in torch.arange(count, device=points.device).split(max(1, DISTANCES // len(points))):
        distance = torch.cdist(points[rows], points, compute_mode="donot_use_mm_for_euclid_dist")
        if not with_self:
            distance[torch.arange(len(rows)), rows] = torch.inf
        found.append(distance.topk(k, largest=False).indices)
    return torch.cat(found)


def flatness_loss(scales: Float[Tensor, "*s 3"]) -> Float[Tensor, ""]:
    """Mean of the smallest scale, in world units: a flat Gaussian lies in its surface.

    Source: Li et al., "LangSurf", 2024, the flattening term of its geometry loss, from PGSR (Chen
    et al., 2024).
    """
    smallest = scales.amin(-1)
    return masked_mean(smallest, torch.ones_like(smallest))


def object_agreement_loss(
    logits: Float[Tensor, "n c"], identities: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """KL(M || P_i) of each Gaussian from the mean M of its object, P = softmax(logits).

    The mean over objects of the mean over their Gaussians; M gets no gradient. Source: Liao et
    al., "CLIP-GS", 2024, the 3D coherent regularisation: its sum of M log(M / f_i) is a divergence
    only between distributions, so the softmax and the mean over Gaussians are added here.
    """
    log_p = logits.float().log_softmax(-1)
    groups = group_rows(log_p.exp(), identities)
    mean = groups.means.detach()
    entropy = torch.special.entr(mean).sum(-1)
    cross = -(mean[groups.index] * log_p).sum(-1)
    return groups.mean(cross - entropy[groups.index])


def vote_labels(
    labels: Int[Tensor, "v n"], seen: Bool[Tensor, "v n"], classes: int
) -> Int[Tensor, " n"]:
    """The label that most of the views that see a point give it; ties go to the lower label.

    Labels below 0 are unknown and have no vote; -1 where there is none. Source: Zhang et al.,
    "econSG", 2025, the label vote in its code, whose void label is 0.
    """
    voting = seen & (labels >= 0)
    counts = voting.new_zeros(labels.shape[1], classes, dtype=torch.int32)
    counts.scatter_add_(1, labels.clamp(min=0).mT, voting.mT.int())
    return torch.where(voting.any(0), counts.argmax(-1), -1)


def view_agreement_loss(
    logits: Float[Tensor, "v n c"], seen: Bool[Tensor, "v n"]
) -> Float[Tensor, ""]:
    """Cross-entropy of each view's logits at n surface points against the label of most views.

    As a share of that of a uniform guess; points that fewer than two views see do not count.
    Raises ValueError for fewer than two classes. Sources: Liao et al., "CLIP-GS", 2024, the 2D
    self-training on labels made consistent over views; Zhang et al., "econSG", 2025, whose vote in
    3D makes them here, and whose code divides by log(classes).
    """
    classes = logits.shape[-1]
    if classes < 2:
        raise ValueError(f"views disagree about two classes or more, not {classes}")
    target = vote_labels(logits.argmax(-1), seen, classes).clamp(min=0)
    shared = seen & (seen.sum(0) > 1)
    log_p = logits.float().log_softmax(-1)
    own = log_p.gather(-1, target.expand(len(logits), -1)[..., None])[..., 0]
    return masked_mean(-own, shared) / math.log(classes)


def feature_agreement_loss(
    features: Float[Tensor, "v n c"], seen: Bool[Tensor, "v n"]
) -> Float[Tensor, ""]:
    """Mean absolute difference of each view's unit features from what the views say together.

    That is the normalised mean over the views that see the point, and gets no gradient; points
    that fewer than two views see do not count. Source: Zhang et al., "econSG", 2025, its semantic
    loss on features fused over views, which is L1 in the code (weight 20).
    """
    together = F.normalize((features * seen[..., None]).sum(0), dim=-1).detach()
    shared = seen & (seen.sum(0) > 1)
    return masked_mean((features - together).abs().mean(-1), shared)


def affinity_loss(
    features: Float[Tensor, "*b h w c"], reference: Float[Tensor, "*b h w d"]
) -> Float[Tensor, ""]:
    """Mean difference of the cosines between a pixel and its 8 neighbours from the reference's.

    Edges of the reference (an image encoder's features) carry over; it gets no gradient. Borders
    are mirrored, so an image must be two pixels high and wide. Raises ValueError for a smaller one.
    Source: Zuo et al., "FMGS", 2024, the pixel alignment loss, as its code computes it: cosines,
    averaged over neighbours and pixels; sums of plain products would grow with the features.
    """
    if min(features.shape[-3:-1]) < 2:
        raise ValueError(f"an image of {features.shape[-3:-1]} pixels has no neighbours to mirror")
    difference = _neighbour_cosines(features) - _neighbour_cosines(reference.detach())
    return masked_mean(difference.abs(), torch.ones_like(difference))


def _neighbour_cosines(features: Float[Tensor, "*b h w c"]) -> Float[Tensor, "*b h w 8"]:
    unit = F.normalize(features, dim=-1, eps=1e-6)
    h, w = unit.shape[-3:-1]
    rows, columns = _mirrored(h, unit.device), _mirrored(w, unit.device)
    padded = unit[..., rows, :, :][..., columns, :]
    steps = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    cosines = [(unit * padded[..., y : y + h, x : x + w, :]).sum(-1) for y, x in steps]
    return torch.stack(cosines, dim=-1)


def _mirrored(size: int, device: torch.device) -> Int[Tensor, " padded"]:
    """Indices -1 .. size, those outside mirrored at the outermost pixel."""
    indices = torch.arange(-1, size + 1, device=device).abs()
    return size - 1 - (size - 1 - indices).abs()


def smoothness_loss(
    smooth: Float[Tensor, "n c"],
    codes: Float[Tensor, "n c"],
    uncertainty: Float[Tensor, " n"],
    least: float = 0.1,
) -> Float[Tensor, ""]:
    """Codes of Gaussians follow a smooth function of their place, the more the less sure they are.

    `smooth` is that function's output. mean (smooth - sg codes)^2 + mean w (sg smooth - codes)^2,
    w = least + (1 - least) uncertainty, which gets no gradient; uncertainty is in [0, 1].
    Source: Shi et al., "LEGaussians", 2024, the smoothing loss; the weight is the blend of its
    code, where the paper prints max(uncertainty, least).
    """
    weight = torch.lerp(
        torch.full_like(uncertainty, least), torch.ones_like(uncertainty), uncertainty
    )
    weight = weight.detach()
    learn = (smooth - codes.detach()).square().mean(-1)
    follow = (smooth.detach() - codes).square().mean(-1)
    return masked_mean(learn + weight * follow, torch.ones_like(weight))
