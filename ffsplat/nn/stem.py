"""Image to tokens by convolutions, and tokens back to pixels with the stem's skips.

Padding never leaks into a photo: features outside its valid area are held at zero, which is what
a convolution sees beyond the border of an unpadded photo, and no norm looks across pixels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ffsplat.nn.attention import ChannelNorm

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def mask_features(
    features: Float[Tensor, "n c y x"], valid: Float[Tensor, "n 1 h w"] | None
) -> Float[Tensor, "n c y x"]:
    """Zero where the image is padding; `valid` is 0 or 1 at the image's size, None for all 1."""
    if valid is None:
        return features
    stride = valid.shape[-1] // features.shape[-1]
    return features * valid[..., ::stride, ::stride]


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1), ChannelNorm(outputs), nn.GELU()
    )


class Stem(nn.Module):
    """Halves the image stage by stage and keeps each map.

    Source: Xiao et al., "Early Convolutions Help Transformers See Better", 2021.
    """

    def __init__(self, width: int, skips: tuple[int, ...]):
        super().__init__()
        inputs = (3, *skips[:-1])
        self.stages = nn.ModuleList(
            _convolution(a, b, stride=2) for a, b in zip(inputs, skips, strict=True)
        )
        self.project = nn.Conv2d(skips[-1], width, 3, stride=2, padding=1)

    def forward(
        self, images: Float[Tensor, "n 3 h w"], valid: Float[Tensor, "n 1 h w"] | None
    ) -> tuple[Float[Tensor, "n c y x"], list[Tensor]]:
        """The token grid at the patch stride, and the feature maps at strides 2, 4, ..."""
        skips, features = [], mask_features(images * 2 - 1, valid)
        for stage in self.stages:
            features = mask_features(stage(features), valid)
            skips.append(features)
        return self.project(features), skips


class PatchStem(nn.Module):
    """One linear map of each patch (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021)."""

    def __init__(self, width: int, patch: int):
        super().__init__()
        self.project = nn.Conv2d(3, width, patch, stride=patch)

    def forward(
        self, images: Float[Tensor, "n 3 h w"], valid: Float[Tensor, "n 1 h w"] | None
    ) -> tuple[Float[Tensor, "n c y x"], list[Tensor]]:
        """The token grid of sRGB in [0, 1], and no feature maps."""
        return self.project(normalize_colors(images)), []


def normalize_colors(images: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """Each channel with the mean and deviation of ImageNet's photos taken out."""
    mean, deviation = (
        torch.tensor(values, device=images.device, dtype=images.dtype)[:, None, None]
        for values in (IMAGENET_MEAN, IMAGENET_DEVIATION)
    )
    return (images - mean) / deviation


class Decoder(nn.Module):
    """Doubles the token grid until it has the image's size; each stage adds the stem's map."""

    def __init__(self, width: int, channels: tuple[int, ...], skips: tuple[int, ...]):
        super().__init__()
        inputs = (width, *channels[:-1])
        self.expand = nn.ModuleList(
            nn.Conv2d(a, 4 * b, 1) for a, b in zip(inputs, channels, strict=True)
        )
        # The last stage has no stem map of its size: it takes the image itself.
        self.skip = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in zip((*reversed(skips), 3), channels, strict=True)
        )
        self.mix = nn.ModuleList(_convolution(c, c) for c in channels)

    def forward(
        self,
        grid: Float[Tensor, "n c y x"],
        skips: list[Tensor],
        images: Float[Tensor, "n 3 h w"],
        valid: Float[Tensor, "n 1 h w"] | None,
    ) -> list[Tensor]:
        """Feature maps from coarse to fine; the last one has the size of the image."""
        maps = []
        sources = (*reversed(skips), images)
        for expand, skip, mix, source in zip(
            self.expand, self.skip, self.mix, sources, strict=True
        ):
            grid = mask_features(F.pixel_shuffle(expand(grid), 2) + skip(source), valid)
            grid = mask_features(grid + mix(grid), valid)
            maps.append(grid)
        return maps
