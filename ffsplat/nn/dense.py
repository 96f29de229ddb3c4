"""What pyramids of tokens say about pixels: depth and its confidence, rays, Gaussians.

Source: Lin et al., "Depth Anything 3", 2025 (depth and rays from two fusions of one pyramid).
"""

from collections.abc import Iterator
from itertools import groupby

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ffsplat.config import ModelConfig
from ffsplat.nn.attention import ChannelNorm
from ffsplat.nn.dpt import HEAD_WIDTH, Fusion, Pyramid, add_place, convolution, stretch
from ffsplat.nn.positions import Sizes
from ffsplat.nn.stem import normalize_colors
from ffsplat.nn.trunk import Encoded

VIEWS_AT_ONCE = {"cpu": 1}
"""Views whose maps are in memory at one time; 8 on other devices, which are idle with fewer."""

OUTSIDE = {"depth": 1.0, "confidence": 1.0}
"""What is said about padding; all else is 0."""

Maps = dict[str, Float[Tensor, "n _ _ *c"]]


class DepthHead(nn.Module):
    """Depth and confidence of every pixel."""

    def __init__(self, width: int):
        super().__init__()
        self.fusion = Fusion(width)
        self.neck = convolution(width, width // 2)
        self.hidden = convolution(width // 2, HEAD_WIDTH)
        self.out = nn.Conv2d(HEAD_WIDTH, 2, 1)

    def forward(self, maps: list[Tensor], size: torch.Size, aspect: float) -> Maps:
        """Positive depth, and confidence from 1 on, at `size`."""
        fused = stretch(self.neck(self.fusion(maps)), size)
        raw = self.out(F.relu(self.hidden(add_place(fused, aspect)), inplace=True)).exp()
        return {"depth": raw[:, 0], "confidence": raw[:, 1] + 1}


class RayHead(nn.Module):
    """Rays and their confidence, at 8 times the token grid: a second way to the cameras."""

    def __init__(self, width: int):
        super().__init__()
        self.fusion = Fusion(width)
        widths = (width, width // 2)
        self.neck = nn.Sequential(
            *(convolution(widths[i % 2], widths[(i + 1) % 2]) for i in range(5))
        )
        self.hidden = convolution(width // 2, HEAD_WIDTH)
        self.norm = ChannelNorm(HEAD_WIDTH, 1e-5)
        self.out = nn.Conv2d(HEAD_WIDTH, 7, 1)

    def forward(self, maps: list[Tensor], aspect: float) -> Maps:
        """Direction and origin of each ray in the network's world, and confidence from 1 on."""
        place = add_place(self.neck(self.fusion(maps)), aspect)
        raw = self.out(F.relu(self.norm(self.hidden(place)))).permute(0, 2, 3, 1)
        return {"rays": raw[..., :6], "ray_confidence": raw[..., 6].exp() + 1}


class GaussianHead(nn.Module):
    """Raw Gaussian parameters of every pixel, from a pyramid of its own and the photo."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.dpt_width
        half = width // 2
        self.pyramid = Pyramid(2 * config.width, config.dpt_channels, width, norm=False)
        self.fusion = Fusion(width)
        self.neck = convolution(width, half)
        self.photo = nn.ModuleList(
            convolution(a, b)
            for a, b in ((3, half // 4), (half // 4, half // 2), (half // 2, half))
        )
        self.hidden = convolution(half, HEAD_WIDTH)
        self.out = nn.Conv2d(HEAD_WIDTH, 11 + 3 * (config.sh_degree + 1) ** 2, 1)

    def forward(self, taps: list[Tensor], photo: Float[Tensor, "n 3 h w"], aspect: float) -> Maps:
        """Channels in the order of `activate_harmonic_gaussians`; `photo` is sRGB in [0, 1]."""
        fused = self.neck(self.fusion(self.pyramid(taps, aspect)))
        seen = normalize_colors(photo)
        for layer in self.photo:
            seen = F.gelu(layer(seen))
        seen = seen + stretch(fused, photo.shape[-2:])
        raw = self.out(F.relu(self.hidden(add_place(seen, aspect)), inplace=True))
        return {"gaussians": raw.permute(0, 2, 3, 1)}


class DenseHeads(nn.Module):
    """All heads that read pyramids; a few views at a time, each by its photo's own size."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.prefix, self.patch = 1 + config.registers, config.patch
        self.pyramid = Pyramid(2 * config.width, config.dpt_channels, config.dpt_width, norm=True)
        self.depth = DepthHead(config.dpt_width)
        self.rays = RayHead(config.dpt_width)
        self.gaussians = GaussianHead(config) if config.gaussian_head else None

    def forward(
        self, encoded: Encoded, norm: nn.Module, images: Float[Tensor, "b v 3 h w"], rays: bool
    ) -> Maps:
        """Depth, confidence and features of all views, and rays where they are asked for.

        `norm` is that of the trunk's last tokens.
        """
        b, v, _, h, w = images.shape
        grid = (h // self.patch, w // self.patch)
        sizes = [grid] * (b * v) if encoded.sizes is None else encoded.sizes
        device = images.device.type
        order, parts = [], []
        for views, size in _some_views(sizes, VIEWS_AT_ONCE.get(device, 8)):
            taps = self._taps(encoded, norm, views, grid, size)
            height, width = (side * self.patch for side in size)
            maps = self._read(taps, images.flatten(0, 1)[views, :, :height, :width], rays)
            parts.append({key: _pad(key, m, size, grid) for key, m in maps.items()})
            order += views
        joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        if order != sorted(order):
            back = torch.tensor(order, device=images.device).argsort()
            joined = {key: maps[back] for key, maps in joined.items()}
        return {key: maps.unflatten(0, (b, v)) for key, maps in joined.items()}

    def _taps(
        self,
        encoded: Encoded,
        norm: nn.Module,
        views: list[int],
        grid: tuple[int, int],
        size: tuple[int, int],
    ) -> list[Float[Tensor, "n y x c"]]:
        """The tapped tokens of some views as images: the local ones beside the last, normalised."""
        rows, columns = size
        taps = []
        for tap in encoded.taps:
            both = (tokens.flatten(0, 1)[encoded.rows(views), self.prefix :] for tokens in tap)
            local, last = (t.float().unflatten(1, grid)[:, :rows, :columns] for t in both)
            taps.append(torch.cat([local, norm(last)], dim=-1))
        return taps

    def _read(self, taps: list[Tensor], photos: Float[Tensor, "n 3 h w"], rays: bool) -> Maps:
        size = photos.shape[-2:]
        aspect = size[1] / size[0]
        pyramid = self.pyramid(taps, aspect)
        maps = self.depth(pyramid, size, aspect)
        maps["features"] = taps[-1][..., taps[-1].shape[-1] // 2 :]
        if rays:
            maps |= self.rays(pyramid, aspect)
        if self.gaussians is not None:
            maps |= self.gaussians(taps, photos, aspect)
        return maps


def _some_views(sizes: Sizes, at_once: int) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """All views, some at a time, those of equal size together, and that size in tokens."""
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    for size, group in groupby(order, sizes.__getitem__):
        views = list(group)
        for start in range(0, len(views), at_once):
            yield views[start : start + at_once], size


def _pad(
    key: str, maps: Float[Tensor, "n _ _ *c"], size: tuple[int, int], grid: tuple[int, int]
) -> Float[Tensor, "n _ _ *c"]:
    """Maps of photos with `size` tokens, put in the corner of the canvas."""
    if size == grid:
        return maps
    stride = maps.shape[1] // size[0]
    down, across = ((whole - part) * stride for whole, part in zip(grid, size, strict=True))
    channels = (0, 0) if maps.ndim == 4 else ()
    return F.pad(maps, (*channels, 0, across, 0, down), value=OUTSIDE.get(key, 0.0))
