"""What a pixel or a Gaussian is: losses on codebook rows."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def code_loss(
    logits: Float[Tensor, "*s rows"], labels: Int[Tensor, "*s"], weights: Float[Tensor, " rows"]
) -> Float[Tensor, ""]:
    """Cross-entropy over codebook rows, classes weighted by `weights`."""
    return F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), weight=weights)
