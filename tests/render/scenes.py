"""Random scenes for the renderer's tests, as leaves of float64."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ffsplat.geometry import rigid, rotation_from_vector
from ffsplat.render.projection import project


@dataclass(frozen=True, eq=False)
class Leaves:
    """Everything a gradient can be asked of; poses as (rotation vector, translation)."""

    means: Tensor
    quaternions_wxyz: Tensor
    scales: Tensor
    opacities: Tensor
    features: Tensor
    turns: Tensor
    moves: Tensor
    lenses: Tensor

    def arguments(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """The tensors of `rasterize`, in its order."""
        fx, fy, cx, cy = self.lenses.unbind(-1)
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        rows = [fx, zero, cx, zero, fy, cy, zero, zero, one]
        intrinsics = torch.stack(rows, -1).reshape(-1, 3, 3)
        poses = rigid(rotation_from_vector(self.turns), self.moves)
        gaussians = list(vars(self).values())[:5]
        return [tensor.to(dtype) for tensor in (*gaussians, poses, intrinsics)]


def scene(count: int, channels: int, width: int, height: int, dense=False, views=2, seed=0):
    """A cloud before `views` cameras: thin, or dense with large and nearly opaque Gaussians."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    means = normal(count, 3) * torch.tensor([1.0, 1.0, 0.8]) + torch.tensor([0.0, 0.0, 3.0])
    lens = torch.tensor([0.8 * width, 0.85 * width, 0.48 * width, 0.53 * height])
    return Leaves(
        means=means,
        quaternions_wxyz=normal(count, 4),
        scales=0.02 + (0.4 if dense else 0.12) * uniform(count, 3),
        opacities=0.7 + 0.3 * uniform(count) if dense else 0.02 + 0.9 * uniform(count),
        features=normal(count, channels),
        turns=0.1 * normal(views, 3),
        moves=0.2 * normal(views, 3),
        lenses=lens.repeat(views, 1).double(),
    )


def clear_pixels(leaves: Leaves, width: int, height: int) -> Tensor:
    """Pixels where no alpha is so near the cut at 1/255 that rounding decides: (v, h, w)."""
    *gaussians, _, poses, intrinsics = leaves.arguments()
    seen = project(*gaussians, poses, intrinsics, width, height)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    offsets = torch.stack([x, y], -1).reshape(-1, 2) + 0.5 - seen.means2d[:, :, None]
    (dx, dy), (a, b, c) = offsets.unbind(-1), seen.conics[..., None].unbind(-2)
    power = a * dx * dx + 2 * b * dx * dy + c * dy * dy
    alpha = leaves.opacities[:, None] * torch.exp(-power / 2)
    near_cut = ((255 * alpha - 1).abs() < 1e-3) & (seen.extents[..., :1] > 0)
    return ~near_cut.any(1).reshape(-1, height, width)
