"""Image to tokens by strided convolutions, and tokens back to pixels with the stem's skips."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1),
        nn.GroupNorm(1, outputs),
        nn.GELU(),
    )


class Stem(nn.Module):
    """Halves the image at each stage (Xiao et al., "Early convolutions", 2021); keeps each stage."""

    def __init__(self, stages: int, width: int, skips: tuple[int, ...]):
        super().__init__()
        channels = [3, *skips]
        self.stages = nn.ModuleList(
            _convolution(channels[i], channels[i + 1], stride=2) for i in range(stages - 1)
        )
        self.project = nn.Conv2d(channels[stages - 1], width, 3, stride=2, padding=1)

    def forward(
        self, images: Float[Tensor, "n 3 h w"]
    ) -> tuple[Float[Tensor, "n c y x"], list[Float[Tensor, "n _ _ _"]]]:
        """The token grid at the patch stride, and the feature maps at strides 2, 4, ..."""
        skips, features = [], images * 2 - 1
        for stage in self.stages:
            features = stage(features)
            skips.append(features)
        return self.project(features), skips


class Decoder(nn.Module):
    """Doubles the token grid until it has the image's size; each stage adds the stem's skip."""

    def __init__(self, width: int, channels: tuple[int, ...], skips: tuple[int, ...]):
        super().__init__()
        inputs = [width, *channels[:-1]]
        self.expand = nn.ModuleList(
            nn.Conv2d(a, 4 * b, 1) for a, b in zip(inputs, channels, strict=True)
        )
        # The last stage has no stem map of its size: it takes the image itself.
        self.skip = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in zip([*reversed(skips), 3], channels, strict=True)
        )
        self.mix = nn.ModuleList(_convolution(c, c) for c in channels)

    def forward(
        self,
        grid: Float[Tensor, "n c y x"],
        skips: list[Float[Tensor, "n _ _ _"]],
        images: Float[Tensor, "n 3 h w"],
    ) -> list[Float[Tensor, "n _ _ _"]]:
        """Feature maps from coarse to fine; the last one has the size of the image."""
        maps = []
        for expand, skip, mix, source in zip(
            self.expand, self.skip, self.mix, [*reversed(skips), images], strict=True
        ):
            grid = F.pixel_shuffle(expand(grid), 2) + skip(source)
            grid = grid + mix(grid)
            maps.append(grid)
        return maps
