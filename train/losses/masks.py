"""Means over the places where the truth holds."""

from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(
    values: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"] | Float[Tensor, "*s"]
) -> Float[Tensor, ""]:
    """Mean of `values` weighted by `mask`; 0 where the mask is empty."""
    weights = mask.to(values)
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)
