"""Matches between views: descriptors, their all-pairs similarity, and what tokens learn from it."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ffsplat.nn.blocks import normalized_positions

MATCH_TEMPERATURE = 0.05
"""Cosine similarities are divided by this before the softmax over the other view's cells."""


def match_logits(
    descriptors: Float[Tensor, "*b n c"], others: Float[Tensor, "*b m c"]
) -> Float[Tensor, "*b n m"]:
    """Scores of every cell of one view against every cell of the other, ready for a softmax."""
    return descriptors / MATCH_TEMPERATURE @ others.transpose(-1, -2)


class MatchInjection(nn.Module):
    """Tells each token where it lies in the reference view: a soft match, turned into features.

    The expected displacement and the sharpness of the match go through a projection that starts
    at zero, so that the network is at first the one without it.
    """

    def __init__(self, width: int, match_width: int):
        super().__init__()
        self.describe = nn.Linear(width, match_width)
        self.inject = nn.Linear(3, width)
        nn.init.zeros_(self.inject.weight)
        nn.init.zeros_(self.inject.bias)

    def forward(
        self,
        tokens: Float[Tensor, "b v n c"],
        grid: tuple[int, int],
        valid: Bool[Tensor, "b v n"] | None,
    ) -> tuple[Float[Tensor, "b v n c"], Float[Tensor, "b v n d"]]:
        """Tokens with the match added, and the descriptors (unit length) for supervision."""
        descriptors = F.normalize(self.describe(tokens).float(), dim=-1)
        with torch.autocast(tokens.device.type, enabled=False):
            logits = match_logits(descriptors, descriptors[:, :1].expand_as(descriptors))
            if valid is not None:
                logits = logits.masked_fill(~valid[:, :1, None], -torch.inf)
            probability = logits.softmax(-1)
            positions = normalized_positions(*grid, tokens)
            displacement = probability @ positions - positions
        match = torch.cat([displacement, probability.amax(-1, keepdim=True)], dim=-1)
        return tokens + self.inject(match.to(tokens.dtype)), descriptors
