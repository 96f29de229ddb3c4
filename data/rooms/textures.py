"""Solid procedural textures and photographic tiles: the colour of a material at a point."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from data.rooms.materials import (
    BRICKS,
    CHECKER,
    MIRROR,
    NOISE,
    PATCHES,
    PHOTO,
    SKY,
    STRIPES,
    WOOD,
)
from data.rooms.primitives import main_axis

NOISE_SIZE = 32
MAX_TILE = 256
MAX_TILES = 4096


@dataclass(frozen=True, eq=False)
class Atlas:
    """Square tileable photos in linear light, their mip levels, and tile numbers by category."""

    levels: tuple[Float[Tensor, "tiles _ _ 3"], ...]
    categories: dict[str, range]

    def to(self, device: torch.device | str) -> "Atlas":
        """The same tiles on another device."""
        return Atlas(tuple(level.to(device) for level in self.levels), self.categories)


def load_atlas(folder: Path) -> Atlas:
    """Read `index.json` (file, tiles, cols, tile by category) and the atlases it names.

    Raises ValueError for tile sizes or counts beyond the limits or that differ.
    """
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    categories, stacks, count = {}, [], 0
    for name, row in index.items():
        side, columns, tiles = int(row["tile"]), int(row["cols"]), int(row["tiles"])
        if not (0 < side <= MAX_TILE and tiles > 0 and count + tiles <= MAX_TILES):
            raise ValueError(f"{folder / 'index.json'}: {name} has {tiles} tiles of {side} pixels")
        with Image.open(folder / row["file"]) as image:
            pixels = np.asarray(image.convert("RGB"))
        rows = pixels.shape[0] // side
        grid = pixels[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
        stacks.append(grid.transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3)[:tiles])
        categories[name] = range(count, count + tiles)
        count += tiles
    levels = [(torch.from_numpy(np.concatenate(stacks)).float() / 255) ** 2.2]
    while levels[-1].shape[1] > 1:
        smaller = F.avg_pool2d(levels[-1].permute(0, 3, 1, 2), 2)
        levels.append(smaller.permute(0, 2, 3, 1).contiguous())
    return Atlas(tuple(levels), categories)


@cache
def _noise_volume(device: str) -> Float[Tensor, "1 1 d h w"]:
    """Periodic noise in [-1, 1]: two octaves of random values, made smooth by interpolation."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(1, 1, *[NOISE_SIZE // 2] * 3, generator=generator) * 2 - 1
    fine = torch.rand(1, 1, *[NOISE_SIZE] * 3, generator=generator) * 2 - 1
    wide = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    wide = F.avg_pool3d(F.pad(wide, (1, 0) * 3, mode="circular"), 2, 1)
    volume = 0.8 * wide + 0.4 * fine
    return F.pad(volume, (0, 1) * 3, mode="circular").to(device)


def noise(points: Float[Tensor, "3 n"]) -> Float[Tensor, " n"]:
    """Smooth noise of about unit cell size at points, in about [-1, 1]."""
    cell = torch.remainder(points.T, NOISE_SIZE) / NOISE_SIZE * 2 - 1
    volume = _noise_volume(str(points.device))
    return F.grid_sample(volume, cell[None, None, None], align_corners=True).reshape(-1)


def _stretch(p: Float[Tensor, "3 n"], x: float, y: float, z: float) -> Float[Tensor, "3 n"]:
    return p * p.new_tensor([x, y, z])[:, None]


def _hash(cells: Float[Tensor, "3 n"], seed: float) -> Float[Tensor, " n"]:
    """A random number in [0, 1) for each integer cell."""
    mixed = torch.sin(_stretch(cells, 12.9898, 78.233, 37.719).sum(0) + seed) * 4375.85453
    return mixed - mixed.floor()


def _pattern(kind: int, p: Float[Tensor, "3 n"]) -> Float[Tensor, " n"]:
    """How much of the second colour there is at p (in cells), in [0, 1]."""
    if kind == CHECKER:
        return torch.remainder(p.floor().sum(0), 2)
    if kind == STRIPES:
        return (torch.remainder(p[0] + 0.3 * p[1], 1) < 0.4).float()
    if kind == NOISE:
        return (0.5 + 0.5 * noise(p) + 0.3 * noise(2.7 * p)).clamp(0, 1)
    if kind == WOOD:
        # Rings bent by noise, with fine grain along x.
        ring = p[1] + 0.25 * p[2] + 0.6 * noise(_stretch(p, 0.12, 0.5, 0.5))
        grain = noise(_stretch(p, 0.4, 8.0, 8.0))
        return (0.5 + 0.35 * torch.sin(6.28 * ring) + 0.3 * grain).clamp(0, 1)
    if kind == BRICKS:
        row = p[2] + p[1] * 0.37
        shifted = p[0] * 0.5 + p[1] * 0.5 + 0.5 * torch.remainder(row.floor(), 2)
        joint = torch.minimum(torch.remainder(row, 1), torch.remainder(shifted, 1) * 2)
        return (joint < 0.12).float()
    raise ValueError(f"texture kind {kind} has no pattern")


def _photo(
    atlas: Atlas,
    tile: Int64[Tensor, " n"],
    points: Float[Tensor, "3 n"],
    normal: Float[Tensor, "3 n"],
    footprint: Float[Tensor, " n"],
) -> Float[Tensor, "3 n"]:
    """Bilinear look-up in the mip level of the footprint, along the main axis of the normal."""
    axis = main_axis(normal)
    u = torch.where(axis == 0, points[1], points[0])
    v = torch.where(axis == 2, points[1], points[2])
    side = atlas.levels[0].shape[1]
    wanted = (footprint * side).clamp(min=1).log2().round().long().clamp(max=len(atlas.levels) - 1)
    colour = torch.zeros_like(points)
    for number, level in enumerate(atlas.levels):
        rows = (wanted == number).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        n = level.shape[1]
        x, y = u[rows] * n - 0.5, -v[rows] * n - 0.5
        x0, y0 = x.floor(), y.floor()
        fx, fy = (x - x0)[:, None], (y - y0)[:, None]
        columns = [torch.remainder(x0 + k, n).long() for k in (0, 1)]
        lines = [torch.remainder(y0 + k, n).long() for k in (0, 1)]
        flat, start = level.reshape(-1, 3), tile[rows] * n * n
        a, b, c, d = (
            flat.index_select(0, start + line * n + column) for line in lines for column in columns
        )
        mixed = (a + (b - a) * fx) * (1 - fy) + (c + (d - c) * fx) * fy
        colour.index_copy_(1, rows, mixed.T)
    return colour


def _blend(code: int, p: Tensor, a: Tensor, b: Tensor, extra: tuple[Tensor, ...]):
    """Amount of and second colour of a pattern at p; `extra` is height, view and normal."""
    height, view, normal = extra
    if code == PATCHES:
        cell = torch.floor(p + 0.5 * noise(p))
        tone = torch.stack([_hash(cell, seed) for seed in (0.0, 1.7, 3.1)])
        return 0.25 + 0.75 * _hash(cell, 5.3), tone
    if code == SKY:
        amount = (0.5 + 0.35 * height + 0.5 * noise(0.2 * p)).clamp(0, 1)
        return amount, _stretch(b, 0.5, 0.75, 0.5)
    if code == MIRROR:
        reflected = view - 2 * (view * normal).sum(0) * normal
        return (0.4 + 0.6 * noise(3 * reflected + p.floor())).clamp(0, 1), 0.35 * a
    return _pattern(code, p), b


def albedo(
    material: Float[Tensor, "15 n"],
    points: Float[Tensor, "3 n"],
    normal: Float[Tensor, "3 n"],
    view: Float[Tensor, "3 n"],
    footprint: Float[Tensor, " n"],
    atlas: Atlas | None,
) -> Float[Tensor, "3 n"]:
    """Linear colour at points (metres, frame of the primitive, like `normal` and `view`).

    `view` is the unit direction of the ray, `footprint` the width of a pixel there in metres:
    patterns finer than a pixel fade to their mean.
    """
    kind, first, second = material[0].long(), material[1:4] ** 2.2, material[4:7] ** 2.2
    cells = points * material[7] + material[11:14]
    width = footprint * material[7]
    for code in (CHECKER, STRIPES, NOISE, WOOD, BRICKS, PATCHES, SKY, MIRROR, PHOTO):
        rows = (kind == code).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        a, b, p, n, v = (x.index_select(1, rows) for x in (first, second, cells, normal, view))
        if code == PHOTO:
            if atlas is not None:
                tile = material[10, rows].long()
                first.index_copy_(1, rows, _photo(atlas, tile, p, n, width[rows]))
            continue
        amount, b = _blend(code, p, a, b, (points[2, rows], v, n))
        sharp = (1.5 - 2 * width[rows]).clamp(0, 1)
        first.index_copy_(1, rows, a + (b - a) * (0.4 + (amount - 0.4) * sharp))
    return first.clamp(0, 1)
