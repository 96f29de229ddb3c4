"""Numbers that losses are tried on, and the check of their gradients."""

import math

import torch


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def wave(*shape: int, phase: float = 0.0) -> torch.Tensor:
    """The same numbers on every machine, for those that the original code made of them."""
    count = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(count**1.3 + phase).float().reshape(shape)


def finite_gradient(loss: torch.Tensor, *leaves: torch.Tensor, unused: bool = False) -> None:
    """All gradients are finite; with `unused` a leaf may get none."""
    for gradient in torch.autograd.grad(loss, leaves, allow_unused=unused):
        assert (unused and gradient is None) or gradient.isfinite().all()
