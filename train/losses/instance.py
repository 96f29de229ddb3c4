"""Which pixels belong together: losses on instance embeddings."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from train.losses.masks import masked_mean


def instance_loss(
    embeddings: Float[Tensor, "b n e"], identities: Int[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy on "same object?" for all pairs of n sampled pixels of a set.

    The logit is 8 (cosine - 0.5); pairs that agree and pairs that differ count the same in all.
    """
    logits = 8 * (embeddings @ embeddings.mT - 0.5)
    same = identities[:, :, None] == identities[:, None, :]
    losses = F.binary_cross_entropy_with_logits(logits, same.to(logits), reduction="none")
    return 0.5 * (masked_mean(losses, same) + masked_mean(losses, ~same))
