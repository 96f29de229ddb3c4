"""Which view the others are seen from, where a network chooses it, and the order that gives."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

FEWEST_VIEWS = 3
"""Of fewer views the first is the reference."""


def balanced_view(tokens: Float[Tensor, "b v c"]) -> Int64[Tensor, " b"]:
    """The most typical view of each set, by its class token.

    Likeness to the other views, length of the token and variance of its direction are scaled to
    [0, 1] over the views; the view that is nearest to 0.5 in all three wins, ties go to the first.
    Source: Lin et al., "Depth Anything 3", 2025, and its code (`saddle_balanced`).
    """
    lengths = tokens.norm(dim=-1)
    directions = tokens / lengths[..., None]
    likeness = ((directions @ directions.mT).sum(-1) - 1) / (tokens.shape[1] - 1)
    measures = torch.stack([likeness, lengths, directions.var(dim=-1)])
    low, high = measures.amin(-1, keepdim=True), measures.amax(-1, keepdim=True)
    scaled = (measures - low) / (high - low + 1e-8)
    return (scaled - 0.5).abs().sum(0).argmin(dim=1)


def order_from(
    reference: Int64[Tensor, " b"], views: int
) -> tuple[Int64[Tensor, "b v"], Int64[Tensor, "b v"]]:
    """The views with the reference first and the others in turn, and the way back.

    `tokens.gather(1, order)` is the new order; in it, view i stands at `back[:, i]`.
    """
    numbers = torch.arange(views, device=reference.device)
    order = torch.where(numbers == reference[:, None], -1, numbers).argsort(dim=1)
    return order, order.argsort(dim=1)
