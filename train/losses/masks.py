"""Means over the places where the truth holds."""

import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(
    values: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"] | Float[Tensor, "*s"]
) -> Float[Tensor, ""]:
    """Mean of `values` weighted by `mask`; 0 where the mask is empty.

    Where several processes train together it is their share of the mean over the values of all: the
    mean of their gradients is that of one process with all the data, however uneven the masks are.
    """
    weights = mask.to(values)
    return (values * weights).sum() / _over_processes(weights.sum()).clamp(min=1e-6)


def _over_processes(total: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The mean of a number over all processes."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return total
    total = total.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
