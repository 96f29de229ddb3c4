"""What a pixel or a Gaussian is: losses on codebook rows, and on the rows themselves."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from data.clip import UNKNOWN
from train.losses.masks import masked_mean


def code_loss(
    logits: Float[Tensor, "*s rows"], labels: Int[Tensor, "*s"], weights: Float[Tensor, " rows"]
) -> Float[Tensor, ""]:
    """Cross-entropy over codebook rows, classes weighted by `weights`; UNKNOWN labels count not."""
    losses = F.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), reduction="none", ignore_index=UNKNOWN
    )
    known = (labels != UNKNOWN).flatten()
    return masked_mean(losses, known * weights[labels.flatten().clamp(min=0)])


def uncertain_code_loss(
    logits: Float[Tensor, "*s rows"], labels: Int[Tensor, "*s"], uncertainty: Float[Tensor, "*s"]
) -> Float[Tensor, ""]:
    """Cross-entropy that counts 1 - u, and -log(1 - u) so that doubt has its price.

    `uncertainty` u is in [0, 1] and learns where labels contradict each other: it is best at
    1 - 1 / cross-entropy, or 0. UNKNOWN labels count in neither. Source: Shi et al.,
    "LEGaussians", 2024, the semantic and the uncertainty loss as in its code; the paper prints the
    mean of u for the second, with which u would be 0 or 1.
    """
    losses = F.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), reduction="none", ignore_index=UNKNOWN
    )
    trust = (1 - uncertainty.flatten()).clamp(min=1e-6)
    return masked_mean(losses * trust - trust.log(), (labels != UNKNOWN).flatten())


def row_cosines(
    features: Float[Tensor, "*s d"], codebook: Float[Tensor, "rows d"]
) -> Float[Tensor, "*s rows"]:
    """Cosines between features and the rows of a codebook, of any lengths; 0 for a vector 0.

    What two encoders say may be added with weights: LEGaussians takes CLIP's + 0.5 DINO's.
    """
    unit = F.normalize(features, dim=-1, eps=1e-6)
    return unit @ F.normalize(codebook, dim=-1, eps=1e-6).mT


def nearest_row_loss(cosines: Float[Tensor, "*s rows"]) -> Float[Tensor, ""]:
    """Mean of 1 - cosine to the nearest row: draws the rows to what is near them.

    Sources: LEGaussians, 2024, the cosine loss of its quantiser; Qu et al., "GOI", 2024, its term
    L_max.
    """
    return 1 - cosines.amax(-1).mean()


def load_balance_loss(cosines: Float[Tensor, "*s rows"]) -> Float[Tensor, ""]:
    """Sum over rows of how often one is nearest times its mean softmax: all rows should serve.

    1 / rows where they all do. Source: the quantiser of LEGaussians, 2024, which its loss needs
    lest rows die; the softmax is of the bare cosines, without a temperature.
    """
    flat = cosines.flatten(0, -2)
    used = torch.bincount(flat.argmax(-1), minlength=flat.shape[-1]) / max(len(flat), 1)
    return (used * flat.softmax(-1).mean(0)).sum()


def code_entropy_loss(
    cosines: Float[Tensor, "*s rows"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Mean entropy of softmax(cosines / temperature), in nats: a feature is like few rows.

    Source: GOI, 2024, its term L_ent, of weight 0.3; the code anneals its factor, the inverse of
    this temperature, from 1 to 2 only.
    """
    log_p = (cosines / temperature).log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).mean()


def one_hot_loss(logits: Float[Tensor, "*s rows"], labels: Int[Tensor, "*s"]) -> Float[Tensor, ""]:
    """Mean squared distance of softmax(logits) from the one-hot vector of the label.

    Source: GOI, 2024, its term L_joint. The code weighs the mean over 300 rows by 50, which is 1/6
    of this sum over rows.
    """
    difference = logits.softmax(-1) - F.one_hot(labels, logits.shape[-1])
    return difference.square().sum(-1).mean()


def lookup_loss(
    logits: Float[Tensor, "*s rows"],
    codebook: Float[Tensor, "rows d"],
    features: Float[Tensor, "*s d"],
) -> Float[Tensor, ""]:
    """Mean of 1 - cosine between features and the rows that the logits choose.

    The choice is hard, so only the codebook learns. Source: GOI, 2024, its term L_e2e.
    """
    chosen = codebook[logits.argmax(-1)]
    return 1 - F.cosine_similarity(chosen, features, dim=-1, eps=1e-6).mean()


def joint_code_loss(
    logits: Float[Tensor, "*s rows"],
    codebook: Float[Tensor, "rows d"],
    features: Float[Tensor, "*s d"],
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """A codebook and what predicts its rows, learnt together from features.

    50 / rows * one_hot + nearest_row + 0.3 * entropy + lookup, the labels being the nearest rows.
    Source: GOI, 2024, with the weights of its code, whose temperature is 1 and after 1000 steps
    1/2.
    """
    cosines = row_cosines(features, codebook)
    return (
        50 / len(codebook) * one_hot_loss(logits, cosines.argmax(-1))
        + nearest_row_loss(cosines)
        + 0.3 * code_entropy_loss(cosines, temperature)
        + lookup_loss(logits, codebook, features)
    )


def balanced_quantization_loss(
    features: Float[Tensor, "n d"], codebook: Float[Tensor, "rows d"]
) -> Float[Tensor, ""]:
    """Mean over the rows present in an image of the mean 1 - cosine of what is nearest to them.

    Small things weigh as much as walls. Source: DF-3DGS, 2025, its quantisation loss; the divisor
    is the number of rows that this image uses, not that of the codebook.
    """
    best, rows = row_cosines(features, codebook).max(-1)
    counts = torch.bincount(rows, minlength=len(codebook))
    share = 1 / (counts[rows] * (counts > 0).sum())
    return ((1 - best) * share).sum()


def prefix_levels(scales: Float[Tensor, "*s"], lengths: Sequence[int]) -> Int[Tensor, "*s"]:
    """Which of some nested prefixes describes a mask of a size: the largest the shortest.

    `scales` are relative sizes in [0, 1], `lengths` the rising widths of the prefixes, the last one
    that of the feature, d. It is the longest that fits into floor(d (1 - scale)), and at least the
    first: at scale 1 the formula leaves no dimension at all. Source: Bhalgat et al., "N2F2", 2024,
    the function M(s).
    """
    room = (lengths[-1] * (1 - scales)).floor()
    steps = torch.tensor(lengths, dtype=room.dtype, device=room.device)
    return (torch.searchsorted(steps, room, right=True) - 1).clamp(min=0)


def nested_loss(
    features: Float[Tensor, "n d"],
    maps: Sequence[Float[Tensor, "out _"]],
    levels: Int[Tensor, " n"],
    targets: Float[Tensor, "n out"],
) -> Float[Tensor, ""]:
    """Mean of 1 - cosine between targets and the first dimensions of features, mapped to them.

    Feature i is cut to the width of map `levels[i]`, which is learnt too; so coarse meaning must
    fit into the first dimensions. Source: N2F2, 2024: a map for each prefix, not a slice of the
    teacher's feature.
    """
    losses = features.new_zeros(len(features))
    for level, matrix in enumerate(maps):
        index = (levels == level).nonzero()[:, 0]
        mapped = features[index, : matrix.shape[1]] @ matrix.mT
        error = 1 - F.cosine_similarity(mapped, targets[index], dim=-1, eps=1e-6)
        losses = losses.index_put((index,), error)
    return masked_mean(losses, torch.ones_like(losses))
