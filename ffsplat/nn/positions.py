"""Where a token lies in its photo, added to it: by sines, or from a learned table."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ffsplat.nn.blocks import normalized_positions
from ffsplat.nn.heads import start_at

FREQUENCIES = 4
TABLE_OFFSET = 0.1
"""Tokens that are added before the table is scaled: a habit of DINO's code that weights rely on."""

Sizes = list[tuple[int, int]]
"""Rows and columns of each photo in whole tokens."""


def photo_sizes(valid: Bool[Tensor, "n y x"]) -> Sizes:
    """Up to the last valid row and column; at least one of each."""
    rows = (torch.arange(1, valid.shape[1] + 1, device=valid.device) * valid.any(2)).amax(1)
    columns = (torch.arange(1, valid.shape[2] + 1, device=valid.device) * valid.any(1)).amax(1)
    both = torch.stack([rows, columns], dim=1).clamp(min=1).tolist()
    return [(row, column) for row, column in both]


class SinePosition(nn.Module):
    """A linear map of sines of the position in units of the canvas's longer side."""

    def __init__(self, width: int):
        super().__init__()
        linear = nn.Linear(4 * FREQUENCIES, width)
        self.weight, self.bias = linear.weight, linear.bias

    def forward(
        self, grid: tuple[int, int], sizes: Sizes | None, like: Tensor
    ) -> Float[Tensor, "n c"]:
        """One row a token of the canvas; photos of all sizes lie in its corner."""
        positions = normalized_positions(*grid, like)
        octaves = 2.0 ** torch.arange(FREQUENCIES, device=like.device) * torch.pi
        angles = (positions[..., None] * octaves).flatten(1)
        sines = torch.cat([angles.sin(), angles.cos()], dim=1)
        return F.linear(sines.to(like.dtype), self.weight, self.bias)


class TablePosition(nn.Module):
    """A square table, stretched over each photo; its first row belongs to the class token.

    Source: Oquab et al., "DINOv2", 2023, and its code.
    """

    def __init__(self, width: int, side: int):
        super().__init__()
        self.side = side
        self.table = start_at(0.02, 1 + side * side, width)

    def forward(
        self, grid: tuple[int, int], sizes: Sizes | None, like: Tensor
    ) -> Float[Tensor, "#m n c"]:
        """One row a token of the canvas, for all photos or for each by its size."""
        if sizes is None:
            return self._stretched(*grid).flatten(0, 1)[None].to(like.dtype)
        rows, columns = grid
        placed = {
            size: F.pad(
                self._stretched(*size), (0, 0, 0, columns - size[1], 0, rows - size[0])
            ).flatten(0, 1)
            for size in set(sizes)
        }
        return torch.stack([placed[size] for size in sizes]).to(like.dtype)

    def _stretched(self, rows: int, columns: int) -> Float[Tensor, "y x c"]:
        table = self.table[1:].float().unflatten(0, (self.side, self.side))
        if rows == columns == self.side:
            return table
        scale = [(count + TABLE_OFFSET) / self.side for count in (rows, columns)]
        image = table.permute(2, 0, 1)[None]
        return F.interpolate(image, scale_factor=scale, mode="bicubic")[0].permute(1, 2, 0)
