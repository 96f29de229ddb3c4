"""Dense prediction from tokens: a pyramid of maps, fused from coarse to fine.

Source: Ranftl et al., "Vision Transformers for Dense Prediction" (DPT), 2021, with sines of the
place in the photo added at each level as in Wang et al., "VGGT", 2025.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

PLACE_WEIGHT = 0.1
"""Of the sines that tell a feature where it lies."""
PLACE_BASE = 100.0
HEAD_WIDTH = 32
"""Channels of the last hidden layer, at the full resolution."""


def convolution(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    """3x3, same size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


class Pyramid(nn.Module):
    """Tokens of four blocks -> maps at 4, 2, 1 and 1/2 times the token grid, of one width."""

    def __init__(self, inputs: int, channels: tuple[int, ...], width: int, norm: bool):
        super().__init__()
        self.norm = nn.LayerNorm(inputs) if norm else nn.Identity()
        self.project = nn.ModuleList(nn.Linear(inputs, c) for c in channels)
        self.resize = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            ]
        )
        self.adapt = nn.ModuleList(convolution(c, width, bias=False) for c in channels)

    def forward(
        self, taps: list[Float[Tensor, "n y x c"]], aspect: float
    ) -> list[Float[Tensor, "n w _ _"]]:
        """The maps, fine to coarse; `aspect` is width over height of the photo."""
        maps = []
        for tokens, project, resize, adapt in zip(
            taps, self.project, self.resize, self.adapt, strict=True
        ):
            level = project(self.norm(tokens)).permute(0, 3, 1, 2)  # channels stay last in memory
            maps.append(adapt(resize(add_place(level, aspect))))
        return maps


class Fusion(nn.Module):
    """Maps of a pyramid, added up from coarse to fine; twice as large as the finest of them."""

    def __init__(self, width: int):
        super().__init__()
        self.steps = nn.ModuleList(FusionStep(width, lateral=level < 3) for level in range(4))

    def forward(self, maps: list[Float[Tensor, "n w _ _"]]) -> Float[Tensor, "n w y x"]:
        """One map of all four."""
        fused = None
        for level in (3, 2, 1, 0):
            finest = [2 * side for side in maps[0].shape[-2:]]
            size = maps[level - 1].shape[-2:] if level else torch.Size(finest)
            fused = self.steps[level](fused, maps[level], size)
        assert fused is not None
        return fused


class FusionStep(nn.Module):
    """Adds a finer map, mixes, and stretches to the size of the next."""

    def __init__(self, width: int, lateral: bool):
        super().__init__()
        self.lateral = Residual(width) if lateral else None
        self.mix = Residual(width)
        self.out = nn.Conv2d(width, width, 1)

    def forward(
        self,
        fused: Float[Tensor, "n w y x"] | None,
        level: Float[Tensor, "n w y x"],
        size: torch.Size,
    ) -> Float[Tensor, "n w _ _"]:
        """The sum at `size`; the coarsest level comes without one from before."""
        if fused is not None and self.lateral is not None:
            level = fused + self.lateral(level)
        # A convolution of single pixels and the stretching commute: it is done on the smaller map.
        return stretch(self.out(self.mix(level)), size)


class Residual(nn.Module):
    """Two convolutions, each after a ReLU, beside the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = convolution(width, width)
        self.conv2 = convolution(width, width)

    def forward(self, x: Float[Tensor, "n w y x"]) -> Float[Tensor, "n w y x"]:
        """Same shape."""
        return self.conv2(F.relu(self.conv1(F.relu(x)))) + x


def stretch(x: Float[Tensor, "n c y x"], size: torch.Size) -> Float[Tensor, "n c _ _"]:
    """Bilinear, corners onto corners."""
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def add_place(x: Float[Tensor, "n c y x"], aspect: float) -> Float[Tensor, "n c y x"]:
    """Features plus sines of where they lie: half of the channels by x, half by y.

    The photo is centred on 0 and its diagonal is 2 long.
    """
    rows, columns = x.shape[-2:]
    half = x.shape[1] // 2
    diagonal = (aspect**2 + 1) ** 0.5
    across = _place_sines(columns, aspect / diagonal, half, x)
    down = _place_sines(rows, 1 / diagonal, half, x)
    place = torch.cat(
        [across[None].expand(rows, -1, -1), down[:, None].expand(-1, columns, -1)], dim=-1
    )
    return x + place.permute(2, 0, 1)


def _place_sines(
    count: int, span: float, channels: int, like: Tensor
) -> Float[Tensor, "{count} {channels}"]:
    centres = torch.arange(count, device=like.device) * 2 + (1 - count)
    frequency = PLACE_BASE ** -(torch.arange(channels // 2, device=like.device) / (channels // 2))
    angles = (centres * (span / count))[:, None] * frequency
    return (PLACE_WEIGHT * torch.cat([angles.sin(), angles.cos()], dim=1)).to(like.dtype)
