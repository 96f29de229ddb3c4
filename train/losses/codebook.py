"""What a pixel or a Gaussian is: losses on codebook rows."""

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
