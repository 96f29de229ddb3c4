"""Which pixels belong together: losses on instance embeddings and on identities.

An identity is any whole number that names an object; pixels without one are left out by the caller.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data.clip import UNKNOWN
from train.losses.masks import masked_mean


@dataclass(frozen=True, eq=False)
class Groups:
    """n rows in m groups: the group of each row, the rows of each group, their mean."""

    index: Int[Tensor, " n"]
    counts: Float[Tensor, " m"]
    means: Float[Tensor, "m c"]

    def mean(self, values: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Mean over the groups of the mean over each one's rows; 0 without rows."""
        return masked_mean(values, 1 / self.counts[self.index])


def group_rows(rows: Float[Tensor, "n c"], identities: Int[Tensor, " n"]) -> Groups:
    """Gather the rows of each identity; groups stand by rising identity."""
    found, index, counts = identities.unique(return_inverse=True, return_counts=True)
    sums = rows.new_zeros(len(found), rows.shape[1]).index_add(0, index, rows)
    return Groups(index, counts.to(rows), sums / counts[:, None])


def instance_loss(
    embeddings: Float[Tensor, "b n e"], identities: Int[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy on "same object?" for all pairs of n sampled pixels of a set.

    The logit is 8 (cosine - 0.5); pairs that agree and pairs that differ count the same in all,
    pairs with a pixel that belongs to nothing known (UNKNOWN) not at all.
    """
    logits = 8 * (embeddings @ embeddings.mT - 0.5)
    known = identities != UNKNOWN
    pairs = known[:, :, None] & known[:, None, :]
    same = identities[:, :, None] == identities[:, None, :]
    losses = F.binary_cross_entropy_with_logits(logits, same.to(logits), reduction="none")
    return 0.5 * (masked_mean(losses, pairs & same) + masked_mean(losses, pairs & ~same))


def identity_loss(
    logits: Float[Tensor, "*s classes"], identities: Int[Tensor, "*s"]
) -> Float[Tensor, ""]:
    """Cross-entropy over identities, as a share of that of a uniform guess.

    Identities below 0 are unknown and do not count. Raises ValueError for fewer than two classes.
    Source: Ye et al., "Gaussian Grouping", 2024, the 2D identity loss, with the division by
    log(classes) that its code makes; econSG (Zhang et al., 2025) weighs labels alike.
    """
    classes = logits.shape[-1]
    if classes < 2:
        raise ValueError(f"identities are told apart by two classes or more, not {classes}")
    losses = F.cross_entropy(
        logits.flatten(0, -2).float(), identities.flatten().clamp(min=0), reduction="none"
    )
    return masked_mean(losses, identities.flatten() >= 0) / math.log(classes)


def prototype_loss(
    embeddings: Float[Tensor, "n e"],
    identities: Int[Tensor, " n"],
    *,
    temperature: float | None = None,
    unit: bool = False,
    fixed: bool = False,
    alike: float | None = None,
    smallest: int = 1,
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """InfoNCE of unit embeddings against one prototype a mask, the mean of its embeddings.

    The mean over masks of the mean (or sum) over pixels of -log softmax(x . u / tau) at the own
    mask. `temperature` is tau, or None for one a prototype that grows with the spread of its mask:
    clip(10 sum|x - u| / (n log(n + 10)), 0.5, 1). `unit` normalises prototypes, `fixed` keeps
    gradients out of them, `alike` is the inner product of two means from which neither is a
    negative of the other, `smallest` the pixels that a mask needs.

    - COS3D (Zhu et al., 2025): smallest=21, reduction="sum", as in its code; the paper prints no
      temperature.
    - SuperGSeg (Liang et al., 2024): the defaults; its inner sum is a mean here, else large masks
      outweigh small ones.
    - FreeGS (Zhang et al., 2025): temperature=0.1, unit=True, fixed=True, alike=0.96. A ratio
      without the positive in its denominator has no lower bound; this is the InfoNCE of its code.
    """
    kept = _large(identities, smallest)
    embeddings, identities = embeddings[kept], identities[kept]
    groups = group_rows(embeddings, identities)
    prototypes = groups.means.detach() if fixed else groups.means
    if temperature is None:
        tau = _concentration(embeddings, groups)
    else:
        tau = torch.full_like(groups.counts, temperature)
    logits = embeddings @ (F.normalize(prototypes, dim=1) if unit else prototypes).mT / tau
    if alike is not None:
        twins = groups.means @ groups.means.mT >= alike
        twins.fill_diagonal_(False)
        logits = logits.masked_fill(twins[groups.index], -torch.inf)
    own = logits.gather(1, groups.index[:, None])[:, 0]
    losses = logits.logsumexp(1) - own if len(own) else own
    return groups.mean(losses if reduction == "mean" else losses * groups.counts[groups.index])


def _large(identities: Int[Tensor, " n"], smallest: int) -> Bool[Tensor, " n"]:
    """Pixels whose mask has at least `smallest` of them."""
    _, index, counts = identities.unique(return_inverse=True, return_counts=True)
    return counts[index] >= smallest


def _concentration(embeddings: Float[Tensor, "n e"], groups: Groups) -> Float[Tensor, " m"]:
    """The temperature of each prototype (Li et al., "Prototypical Contrastive Learning", 2021)."""
    with torch.no_grad():
        distance = (embeddings - groups.means[groups.index]).norm(dim=1)
        spread = torch.zeros_like(groups.counts).index_add(0, groups.index, distance)
        return (10 * spread / (groups.counts * (groups.counts + 10).log())).clamp(0.5, 1)


def separation_loss(
    embeddings: Float[Tensor, "n e"],
    identities: Int[Tensor, " n"],
    *,
    margin: float = 1.0,
    pull: float = 1.0,
) -> Float[Tensor, ""]:
    """Hinge between instances: means are `margin` apart, pixels near their own mean.

    The mean over ordered pairs of instances of relu(margin - |u_j - u_k|), plus `pull` times the
    mean over instances of the mean |x - u|^2. Source: Li et al., "LangSurf", 2024, its instance
    loss; the hinge alone is content with scattered pixels, so the pull of De Brabandere et al.,
    2017, equation 2 (without its margin), stands beside it. One instance has no hinge.
    """
    groups = group_rows(embeddings, identities)
    means = groups.means
    distance = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")
    others = ~torch.eye(len(means), dtype=torch.bool, device=means.device)
    push = masked_mean(F.relu(margin - distance), others)
    spread = (embeddings - means[groups.index]).square().sum(1)
    return push + pull * groups.mean(spread)


def length_loss(embeddings: Float[Tensor, "*s e"]) -> Float[Tensor, ""]:
    """Mean squared distance of lengths from 1.

    A rendered embedding is of unit length only if the Gaussians along its ray agree. Source: COS3D
    (Zhu et al., 2025), the regulariser in its code, there with weight 100.
    """
    off = (embeddings.norm(dim=-1) - 1).square()
    return masked_mean(off, torch.ones_like(off))


def instance_smoothness_loss(
    depth: Float[Tensor, "*b h w"], identities: Int[Tensor, "*b h w"], mask: Bool[Tensor, "*b h w"]
) -> Float[Tensor, ""]:
    """Mean step of depth from a pixel to its right and its lower neighbour within an instance.

    Steps across a border or out of the mask are 0 and count in the mean. Source: SIU3R (Xu et al.,
    2025), the depth smoothness in its code.
    """
    total = depth.new_zeros(())
    for axis in (-1, -2):
        count = depth.shape[axis] - 1
        inside = mask.narrow(axis, 0, count) & mask.narrow(axis, 1, count)
        inside = inside & (identities.diff(dim=axis) == 0)
        steps = torch.where(inside, depth.diff(dim=axis).abs(), 0.0)
        total = total + masked_mean(steps, torch.ones_like(steps))
    return total
