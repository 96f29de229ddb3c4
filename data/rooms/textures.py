"""Solid procedural textures and photographic tiles: the colour of a material at a point."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
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

NOISE_SIZE = 32
MAX_TILE = 256
MAX_TILES = 4096


@dataclass(frozen=True, eq=False)
class Atlas:
    """Square tileable photos in linear light with their mip levels, and tile numbers by category."""

    levels: tuple[Float[Tensor, "tiles side side 3"], ...]
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
        if not (0 < side <= MAX_TILE and 0 < tiles and count + tiles <= MAX_TILES):
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
    """Periodic noise in [-1, 1]: two octaves of random values, smooth under linear interpolation."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(1, 1, *[NOISE_SIZE // 2] * 3, generator=generator) * 2 - 1
    fine = torch.rand(1, 1, *[NOISE_SIZE] * 3, generator=generator) * 2 - 1
    wide = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    wide = F.avg_pool3d(F.pad(wide, (1, 0) * 3, mode="circular"), 2, 1)
    volume = 0.8 * wide + 0.4 * fine
    return F.pad(volume, (0, 1) * 3, mode="circular").to(device)


def noise(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Smooth noise of about unit cell size at points, in about [-1, 1]."""
    cell = torch.remainder(points, NOISE_SIZE) / NOISE_SIZE * 2 - 1
    volume = _noise_volume(str(points.device))
    return F.grid_sample(volume, cell[None, None, None], align_corners=True).reshape(-1)


def _hash(cells: Float[Tensor, "n 3"], seed: float) -> Float[Tensor, " n"]:
    """A random number in [0, 1) for each integer cell."""
    mixed = torch.sin(cells @ cells.new_tensor([12.9898, 78.233, 37.719]) + seed) * 4375.85453
    return mixed - mixed.floor()


def _pattern(kind: int, p: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """How much of the second colour there is at p (in cells), in [0, 1]."""
    if kind == CHECKER:
        return torch.remainder(p.floor().sum(1), 2)
    if kind == STRIPES:
        return (torch.remainder(p[:, 0] + 0.3 * p[:, 1], 1) < 0.4).float()
    if kind == NOISE:
        return (0.5 + 0.5 * noise(p) + 0.3 * noise(2.7 * p)).clamp(0, 1)
    if kind == WOOD:
        # Growth rings around the longest visible axis, bent by noise, with fine grain along x.
        ring = p[:, 1] + 0.25 * p[:, 2] + 0.6 * noise(p * p.new_tensor([0.12, 0.5, 0.5]))
        grain = noise(p * p.new_tensor([0.4, 8.0, 8.0]))
        return (0.5 + 0.35 * torch.sin(6.28 * ring) + 0.3 * grain).clamp(0, 1)
    if kind == BRICKS:
        row = p[:, 2] + p[:, 1] * 0.37
        shifted = p[:, 0] * 0.5 + p[:, 1] * 0.5 + 0.5 * torch.remainder(row.floor(), 2)
        joint = torch.minimum(torch.remainder(row, 1), torch.remainder(shifted, 1) * 2)
        return (joint < 0.12).float()
    raise ValueError(f"texture kind {kind} has no pattern")


def _photo(
    atlas: Atlas,
    tile: Tensor,
    points: Float[Tensor, "n 3"],
    normal: Float[Tensor, "n 3"],
    footprint: Float[Tensor, " n"],
) -> Float[Tensor, "n 3"]:
    """Bilinear look-up in the mip level of the footprint, along the main axis of the normal."""
    axis = normal.abs().argmax(1)
    u = torch.where(axis == 0, points[:, 1], points[:, 0])
    v = torch.where(axis == 2, points[:, 1], points[:, 2])
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
        a, b, c, d = (flat[start + line * n + column] for line in lines for column in columns)
        colour[rows] = (a + (b - a) * fx) * (1 - fy) + (c + (d - c) * fx) * fy
    return colour


def albedo(
    material: Float[Tensor, "n 15"],
    points: Float[Tensor, "n 3"],
    normal: Float[Tensor, "n 3"],
    view: Float[Tensor, "n 3"],
    footprint: Float[Tensor, " n"],
    atlas: Atlas | None,
) -> Float[Tensor, "n 3"]:
    """Linear colour at points (metres, frame of the primitive, like `normal` and `view`).

    `view` is the unit direction of the ray, `footprint` the width of a pixel there in metres:
    patterns finer than a pixel fade to their mean.
    """
    kind, first, second = material[:, 0].long(), material[:, 1:4] ** 2.2, material[:, 4:7] ** 2.2
    cells = points * material[:, 7:8] + material[:, 11:14]
    width = footprint * material[:, 7]
    colour = first.clone()
    for code in (CHECKER, STRIPES, NOISE, WOOD, BRICKS, PATCHES, SKY, MIRROR, PHOTO):
        rows = (kind == code).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        a, b, p = first[rows], second[rows], cells[rows]
        if code == PHOTO and atlas is not None:
            tile = material[rows, 10].long()
            colour[rows] = _photo(atlas, tile, p, normal[rows], width[rows])
            continue
        if code == PATCHES:
            cell = torch.floor(p + 0.5 * noise(p)[:, None])
            tone = torch.stack([_hash(cell, s) for s in (0.0, 1.7, 3.1)], 1)
            amount, b = (0.25 + 0.75 * _hash(cell, 5.3))[:, None], tone
        elif code == SKY:
            amount = (0.5 + 0.35 * points[rows, 2] + 0.5 * noise(0.2 * p)).clamp(0, 1)[:, None]
            b = b * b.new_tensor([0.5, 0.75, 0.5])
        elif code == MIRROR:
            out, n = view[rows], normal[rows]
            reflected = out - 2 * (out * n).sum(1, keepdim=True) * n
            amount = (0.4 + 0.6 * noise(3 * reflected + p.floor()))[:, None].clamp(0, 1)
            b = 0.35 * a
        else:
            amount = _pattern(code, p)[:, None]
        sharp = (1.5 - 2 * width[rows]).clamp(0, 1)[:, None]
        colour[rows] = a + (b - a) * (0.4 + (amount - 0.4) * sharp)
    return colour.clamp(0, 1)
