"""Transformer blocks over the tokens of several views, with 2-D rotary positions."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ffsplat.nn.attention import Attention, LayerScale, perceptron

ROTARY_SPAN = 16.0
"""Rotary positions run over this length along the longer side, whatever the resolution."""


def normalized_positions(rows: int, columns: int, like: Tensor) -> Float[Tensor, "n 2"]:
    """Token centres (x, y), row by row, in units of the longer side; the top-left corner is 0."""
    side = max(rows, columns)
    x = (torch.arange(columns, device=like.device, dtype=torch.float32) + 0.5) / side
    y = (torch.arange(rows, device=like.device, dtype=torch.float32) + 0.5) / side
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


def rotary_embedding(
    positions: Float[Tensor, "n 2"], head_width: int, prefix: int
) -> Float[Tensor, "m {2*head_width}"]:
    """Sines and cosines for interleaved rotary attention, `prefix` unrotated tokens first.

    Half of the channels turn with x, half with y, at frequencies 1 to 1/100 a position.
    Source: Heo et al., "Rotary Position Embedding for Vision Transformer", 2024 (axial form).
    """
    exponents = torch.linspace(0, 1, head_width // 4, device=positions.device)
    angles = (positions * ROTARY_SPAN)[:, :, None] * 100.0**-exponents
    angles = angles.flatten(1).repeat_interleave(2, dim=1)
    angles = torch.cat([angles.new_zeros(prefix, head_width), angles])
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def causal_mask(
    views: int, tokens: int, window: int, device: torch.device
) -> Bool[Tensor, "1 1 n n"]:
    """Which of the tokens of all views (n = views * tokens) a token sees, by its view.

    A view sees itself, the `window` - 1 views before it, and the reference view.
    Source: Zhuo et al., "StreamVGGT", 2025, for attention that is causal in time.
    """
    view = torch.arange(views, device=device).repeat_interleave(tokens)
    age = view[:, None] - view
    return ((age >= 0) & ((age < window) | (view == 0)))[None, None]


class Block(nn.Module):
    """Pre-norm attention and MLP; which tokens meet is decided by how the caller groups them."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.scale1 = LayerScale(width, 0.1)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = perceptron(width, 4 * width)
        self.scale2 = LayerScale(width, 0.1)

    def forward(
        self,
        tokens: Float[Tensor, "g t c"],
        rotary: Float[Tensor, "t r"],
        mask: Bool[Tensor, "#g 1 #t t"] | None,
    ) -> Float[Tensor, "g t c"]:
        """Let the t tokens of each group attend to those of them that `mask` admits."""
        attended = self.attention(self.norm1(tokens), rotary, mask)
        tokens = tokens + self.scale1(attended)
        return tokens + self.scale2(self.mlp(self.norm2(tokens)))
