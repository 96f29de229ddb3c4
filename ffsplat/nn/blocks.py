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


def grid_rotary(
    rows: int, columns: int, head_width: int, prefix: int, like: Tensor
) -> tuple[Float[Tensor, "m r"], Float[Tensor, "m r"]]:
    """Sines and cosines of whole-token positions: those within a view, and those across views.

    Rows and columns count from 1; the `prefix` tokens stand at 0. Half of the channels turn with
    the row, half with the column, at frequencies 1 to almost 1/100 a token. Across views all
    patches stand at 1, so that attention is blind to where they are.
    Source: Lin et al., "Depth Anything 3", 2025, and its code.
    """
    y = torch.arange(1.0, rows + 1, device=like.device)
    x = torch.arange(1.0, columns + 1, device=like.device)
    positions = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).reshape(-1, 2)
    exponents = torch.arange(head_width // 4, device=like.device) / (head_width // 4)
    tables = []
    for where in (positions, torch.ones_like(positions)):
        angles = where[:, :, None] * 100.0**-exponents
        angles = angles.flatten(1).repeat_interleave(2, dim=1)
        angles = torch.cat([angles.new_zeros(prefix, head_width), angles])
        tables.append(torch.cat([angles.sin(), angles.cos()], dim=1).to(like.dtype))
    return tables[0], tables[1]


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

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        epsilon: float = 1e-5,
        gated: bool = False,
        query_norm: bool = True,
    ):
        super().__init__()
        hidden = -(-width // 3) * 8 if gated else 4 * width
        self.norm1 = nn.LayerNorm(width, epsilon)
        self.attention = Attention(width, heads, query_norm)
        self.scale1 = LayerScale(width, 0.1)
        self.norm2 = nn.LayerNorm(width, epsilon)
        self.mlp = perceptron(width, hidden, gated=gated)
        self.scale2 = LayerScale(width, 0.1)

    def forward(
        self,
        tokens: Float[Tensor, "g t c"],
        rotary: Float[Tensor, "t r"] | None = None,
        mask: Bool[Tensor, "#g 1 #t t"] | None = None,
    ) -> Float[Tensor, "g t c"]:
        """Let the t tokens of each group attend to those of them that `mask` admits."""
        attended = self.attention(self.norm1(tokens), rotary, mask)
        tokens = tokens + self.scale1(attended)
        return tokens + self.scale2(self.mlp(self.norm2(tokens)))
