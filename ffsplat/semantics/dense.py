"""Dense OpenCLIP features of photos: what each place of a view looks like, in the space of text.

A view is resized to one or several sizes, cut into overlapping windows near the size that the
network was trained on, and each window is read in one of the ways of `dense_ways`. Windows are
averaged as the published evaluations average their scores, and so are sizes, with equal weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from ffsplat.clip import Clip, ClipName, License, load_clip
from ffsplat.errors import UsageError
from ffsplat.semantics.dense_ways import (
    Way,
    proxy_features,
    self_features,
    value_features,
)

ARCH, TAG = "ViT-B-16", "laion2b_s34b_b88k"
"""The network that LERF, LangSplat and most systems after them use; MIT."""

SCALES = (336,)
"""Pixels along the shorter side, as in the evaluations of both published ways."""

WINDOWS: dict[Way, int] = {"value": 224, "self": 224, "proxy": 336}
"""Pixels along the side of a window, from the authors' code."""

STRIDE = 112
"""Pixels between windows, from the authors' code."""

SQUARE = 0.2
"""How far the sides of another network's patches may differ where its size was rounded."""

Span = tuple[int, int]


@dataclass(frozen=True)
class _Box:
    """A part of the canvas that holds a photo, in pixels, and the size of that canvas."""

    top: int
    left: int
    height: int
    width: int
    canvas: Span


class DenseClip:
    """A frozen OpenCLIP ViT that gives one unit vector for each cell of a grid over each view."""

    def __init__(
        self,
        arch: str = ARCH,
        tag: str = TAG,
        *,
        clip: Clip | None = None,
        way: str = "auto",
        scales: tuple[int, ...] = SCALES,
        window: int | None = None,
        stride: int = STRIDE,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        offline: bool = False,
    ):
        """Load a network, or take a `clip` that is loaded already.

        `way` "auto" is "proxy" where features are asked for with an affinity and "self" without.
        `scales` are pixels along the shorter side of a photo; a `window` of 0 is the whole photo
        at each. A `dtype` of bfloat16 computes under autocast. Raises as `load_clip`, and
        UsageError for options that make no sense.
        """
        self.clip = load_clip(ClipName(arch, tag), offline=offline) if clip is None else clip
        ways: tuple[Way, ...] = get_args(Way)
        if way not in ("auto", *ways):
            raise UsageError(f"unknown way {way!r}", f"known are auto, {', '.join(ways)}")
        if not scales or min(scales) < 1 or stride < 1 or (window or 0) < 0:
            raise UsageError(f"sizes {scales}, {window} and {stride} are not all positive")
        self.way: Way | None = next((known for known in ways if known == way), None)
        self.scales, self.window, self.stride = scales, window, stride
        self.device, self.dtype = torch.device(device), dtype
        self.tower: Any = self.clip.model.visual.to(self.device)
        self.patch: Span = tuple(self.tower.patch_size)
        self._mean, self._std = (
            torch.tensor(numbers, device=self.device).view(1, 3, 1, 1)
            for numbers in (self.clip.mean, self.clip.std)
        )

    @property
    def name(self) -> str:
        """The space of the features, `open_clip:<arch>/<tag>`."""
        return self.clip.name.space

    @property
    def license(self) -> License:
        """The licence of the weights."""
        return self.clip.name.license

    @property
    def width(self) -> int:
        """Numbers in a feature."""
        return self.tower.output_dim

    @torch.inference_mode()
    def features(
        self,
        images: Float[Tensor, "v 3 h w"],
        valid: Bool[Tensor, "v h w"] | None = None,
        affinity: Float[Tensor, "v n c"] | None = None,
    ) -> Float32[np.ndarray, "v y x d"]:
        """Unit vectors on a grid of equal cells over the canvas of the views; 0 outside a photo.

        `images` is sRGB in [0, 1]; what is not `valid` is cut away as far as it is a margin.
        `affinity` has the features of another network, one a square patch, row by row over the
        whole canvas; the grid is then theirs. Without it there is one cell a patch at the largest
        scale. One window of one view is computed at a time, so views never influence each other.
        Raises UsageError for an affinity that is missing, superfluous or of another grid.
        """
        way = self._way(affinity is not None)
        canvas = (images.shape[2], images.shape[3])
        if affinity is None:
            height, width = patched_size(canvas, self.patch, max(self.scales))
            grid = height // self.patch[0], width // self.patch[1]
        else:
            grid = affinity_grid(canvas, affinity.shape[1])
        out = np.zeros((len(images), *grid, self.width), np.float32)
        for i, image in enumerate(images):
            inside = torch.ones(canvas, dtype=torch.bool) if valid is None else valid[i].cpu()
            box = _bounding_box(inside)
            if box is None:
                continue
            other = None if affinity is None else affinity[i].unflatten(0, grid).to(self.device)
            found = self._view(way, image.to(self.device), box, other, grid)
            cells = F.adaptive_avg_pool2d(inside[None].float(), grid)[0] >= 0.5
            out[i] = (found.cpu() * cells[..., None]).numpy()
        return out

    def _way(self, with_affinity: bool) -> Way:
        way: Way = self.way or ("proxy" if with_affinity else "self")
        if (way == "proxy") != with_affinity:
            problem = "needs" if way == "proxy" else "has no use for"
            raise UsageError(f"the way {way!r} {problem} the features of another network")
        block = self.tower.transformer.resblocks[-1]
        if way != "value" and not isinstance(block.attn, nn.MultiheadAttention):
            raise UsageError(f"the attention of {self.name} is not the usual one", 'way "value"')
        if way == "self" and len(self.tower.transformer.resblocks) < 2:
            raise UsageError(f"{self.name} has one block, the way {way!r} needs more")
        return way

    def _view(
        self, way: Way, image: Tensor, box: _Box, other: Tensor | None, grid: Span
    ) -> Float[Tensor, "y x d"]:
        """Sum over scales of the unit means over windows, at length 1."""
        total = torch.zeros((*grid, self.width), device=self.device)
        photo = image[None, :, box.top : box.top + box.height, box.left : box.left + box.width]
        for scale in self.scales:
            size = patched_size((box.height, box.width), self.patch, scale)
            resized = F.interpolate(photo.float(), size, mode="bicubic", antialias=True)
            resized = (resized.clamp(0, 1) - self._mean) / self._std
            mean = torch.zeros_like(total)
            for top, left, height, width in self.windows(way, size):
                rows, v = _cells(grid[0], box.canvas[0], box.top, box.height, size[0], top, height)
                columns, u = _cells(
                    grid[1], box.canvas[1], box.left, box.width, size[1], left, width
                )
                if not len(v) or not len(u):
                    continue
                window = resized[:, :, top : top + height, left : left + width]
                places = torch.stack(torch.meshgrid(u, v, indexing="xy"), -1)[None]
                near = None if other is None else other[rows, columns]
                mean[rows, columns] += self._read(way, window, near, places.to(self.device))
            total += F.normalize(mean, dim=-1)
        return F.normalize(total, dim=-1)

    def _read(
        self, way: Way, window: Tensor, other: Tensor | None, places: Tensor
    ) -> Float[Tensor, "rows columns d"]:
        """Unit features of a window at some places in it."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if way == "proxy" and other is not None:
                found = proxy_features(self.tower, window, other.movedim(-1, 0)[None], places)
                return F.normalize(found[0].float(), dim=-1)
            read = value_features if way == "value" else self_features
            found = F.normalize(read(self.tower, window).float(), dim=-1)
        maps = found.movedim(-1, 1)
        placed = F.grid_sample(maps, places, padding_mode="border", align_corners=False)
        return F.normalize(placed[0].movedim(0, -1), dim=-1)

    def windows(self, way: Way, size: Span) -> Iterator[tuple[int, int, int, int]]:
        """Top, left, height and width of windows of whole patches that cover an image."""
        side = WINDOWS[way] if self.window is None else self.window
        sides = [
            min(length, max(1, side // step) * step) if side else length
            for length, step in zip(size, self.patch, strict=True)
        ]
        strides = [max(1, round(self.stride / step)) * step for step in self.patch]
        for top in _starts(size[0], sides[0], strides[0]):
            for left in _starts(size[1], sides[1], strides[1]):
                yield top, left, sides[0], sides[1]


def patched_size(size: Span, patch: Span, shorter: int | None) -> Span:
    """(height, width) nearest to whole patches once the shorter side is scaled to `shorter`."""
    scale = 1.0 if shorter is None else shorter / min(size)
    height, width = (
        max(1, round(side * scale / step)) * step for side, step in zip(size, patch, strict=True)
    )
    return height, width


def affinity_grid(canvas: Span, count: int) -> Span:
    """Rows and columns of `count` patches over a canvas, about square; UsageError if none are."""
    side = (canvas[0] * canvas[1] / max(count, 1)) ** 0.5
    rows, columns = max(1, round(canvas[0] / side)), max(1, round(canvas[1] / side))
    height, width = canvas[0] / rows, canvas[1] / columns
    if rows * columns != count or abs(height - width) > SQUARE * max(height, width):
        raise UsageError(f"{count} patches are no grid of squares over {canvas[0]}x{canvas[1]}")
    return rows, columns


def _bounding_box(inside: Bool[Tensor, "h w"]) -> _Box | None:
    """The rectangle around all valid pixels, or None if there is none."""
    rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    return _Box(top, left, height, width, (inside.shape[0], inside.shape[1]))


def _starts(length: int, side: int, stride: int) -> list[int]:
    """Where windows begin so that they cover a length; the last one ends with it."""
    return [*range(0, length - side, stride), length - side]


def _cells(
    count: int, canvas: int, start: int, extent: int, size: int, window: int, side: int
) -> tuple[slice, Float[Tensor, " inside"]]:
    """Which of `count` cells along one axis of the canvas have their centre in a window.

    The photo lies at `start` of the canvas over `extent` pixels and is resized to `size`; the
    window begins at `window` of that and is `side` long. Also gives their places in it, -1 at its
    one end and 1 at its other, as `grid_sample` counts.
    """
    centers = (torch.arange(count, dtype=torch.float64) + 0.5) * canvas / count
    places = ((centers - start) / extent * size - window) / side
    inside = ((places >= 0) & (places <= 1)).nonzero()[:, 0]
    if not len(inside):
        return slice(0, 0), torch.zeros(0)
    span = slice(int(inside[0]), int(inside[-1]) + 1)
    return span, (2 * places[span] - 1).float()
