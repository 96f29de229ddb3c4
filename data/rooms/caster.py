"""The batched ray-caster: which primitive each ray of many pinhole views meets first.

A view is cut into tiles of 8 x 8 pixels. A primitive is tried only in tiles whose pyramid its
bounding box touches, so the work is a flat list of (tile, primitive) pairs instead of every ray
against every primitive. Directions have z = 1 in the camera frame: t is z-depth.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from data.rooms.primitives import hit_ball, hit_box, hit_frustum, hit_room
from data.rooms.scene import Scenes
from data.rooms.templates import BALL, BOX, FRUSTUM, ROOM

TILE = 8
"""Pixels along the side of a tile."""


@dataclass(frozen=True, eq=False)
class Cameras:
    """v pinhole cameras for each of b rooms; `focal` in pixels, principal point in the middle."""

    world_from_camera: Float[Tensor, "b v 4 4"]
    focal: Float[Tensor, " b"]
    height: int
    width: int

    @property
    def intrinsics(self) -> Float[Tensor, "b v 3 3"]:
        """Pixel intrinsics, pixel centres at half-integers."""
        b, v = self.world_from_camera.shape[:2]
        matrix = torch.zeros(b, v, 3, 3, device=self.focal.device)
        matrix[..., 0, 0] = matrix[..., 1, 1] = self.focal[:, None]
        matrix[..., 0, 2], matrix[..., 1, 2] = self.width / 2, self.height / 2
        matrix[..., 2, 2] = 1
        return matrix

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on another device."""
        pose, focal = self.world_from_camera.to(device), self.focal.to(device)
        return Cameras(pose, focal, self.height, self.width)


@dataclass(frozen=True, eq=False)
class Tiles:
    """The tiles of all views and the rays in each.

    `scene` and `view` (= scene * v + view) are indices per tile, `corner` its first pixel (x, y);
    `offset` holds the rays' positions in a tile, in pixels; `rays` is ordered sample, y, x.
    """

    scene: Int64[Tensor, " t"]
    view: Int64[Tensor, " t"]
    corner: Float[Tensor, "t 2"]
    offset: Float[Tensor, "r 2"]
    grid: tuple[int, int, int, int]


def make_tiles(cameras: Cameras, samples: Float[Tensor, "s 2"]) -> Tiles:
    """Cut the views into tiles with rays at `samples` (x, y in [0, 1]) of every pixel."""
    b, v = cameras.world_from_camera.shape[:2]
    rows, columns = -(-cameras.height // TILE), -(-cameras.width // TILE)
    device = cameras.focal.device
    index = torch.arange(b * v * rows * columns, device=device)
    corner = torch.stack([index % columns, index // columns % rows], 1).float() * TILE
    view = index // (rows * columns)
    y, x = torch.meshgrid(*[torch.arange(TILE, device=device)] * 2, indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(1, -1, 2)
    offset = (samples[:, None] + pixels).reshape(-1, 2)
    return Tiles(view // v, view, corner, offset, (b, v, rows, columns))


def untile(values: Tensor, tiles: Tiles, samples: int, height: int, width: int) -> Tensor:
    """Per-ray values (t, r, ...) as images (b, v, s, h, w, ...)."""
    b, v, rows, columns = tiles.grid
    rest = values.shape[2:]
    image = values.reshape(b, v, rows, columns, samples, TILE, TILE, *rest)
    image = image.permute(0, 1, 4, 2, 5, 3, 6, *range(7, image.ndim))
    return image.reshape(b, v, samples, rows * TILE, columns * TILE, *rest)[
        :, :, :, :height, :width
    ]


def _local_views(scenes: Scenes, cameras: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """Camera axes and centre in every primitive's unit frame, and its box corners in the camera."""
    rotation, position = (
        cameras.world_from_camera[..., :3, :3],
        cameras.world_from_camera[..., :3, 3],
    )
    unit_from_world = scenes.rotation.transpose(-1, -2) / scenes.half[..., None]
    axes = unit_from_world[:, None] @ rotation[:, :, None]
    shift = position[:, :, None] - scenes.centre[:, None]
    origin = (unit_from_world[:, None] @ shift[..., None])[..., 0]
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], device=shift.device)] * 3)
    sides = (scenes.rotation * scenes.half[..., None, :]).transpose(-1, -2)
    corners = (signs @ sides)[:, None] - shift[..., None, :]
    return axes, origin, corners @ rotation[:, :, None]


def _overlap(corners: Tensor, valid: Tensor, cameras: Cameras, grid: tuple) -> Tensor:
    """(b, v, rows, columns, p): may the box with these camera-frame corners be seen in the tile?

    A box is out if all its corners lie beyond one side plane of the tile's pyramid.
    """
    _, _, rows, columns = grid
    inside = []
    for axis, (count, size) in enumerate(((columns, cameras.width), (rows, cameras.height))):
        edge = torch.arange(count + 1, device=corners.device) * TILE - size / 2
        slope = edge / cameras.focal[:, None]
        side = corners[..., axis, None] - slope[:, None, None, None] * corners[..., 2, None]
        highest, lowest = side.amax(3), side.amin(3)
        inside.append((highest[..., :-1] >= 0) & (lowest[..., 1:] <= 0))
    seen = valid[:, None] & (corners[..., 2].amax(-1) > 0)
    across, down = (mask.transpose(2, 3) for mask in inside)
    return down[:, :, :, None] & across[:, :, None] & seen[:, :, None, None]


def hit_pairs(shape: int, scenes: Scenes, primitive: Tensor, origin, direction) -> Tensor:
    """Hits (t) of rays on primitives (flat indices) that all have one shape."""
    if shape == BOX:
        return hit_box(origin, direction)
    if shape == BALL:
        return hit_ball(origin, direction)
    if shape == ROOM:
        return hit_room(origin, direction)
    ends, opened = (
        table.flatten(0, 1).index_select(0, primitive) for table in (scenes.ends, scenes.open)
    )
    return hit_frustum(origin, direction, ends, opened)


def chunks(pairs: Tensor, rays: int) -> list[Tensor]:
    """Parts of a list of pairs: on a CPU small enough for the working set to stay in cache."""
    return list(pairs.split(max(1, (1 << 26 if pairs.is_cuda else 1 << 16) // rays)))


def _tile_rays(cameras: Cameras, tiles: Tiles, tile: Tensor, axes: Tensor) -> tuple[Tensor, ...]:
    """Directions (3 of (n, r)) of a tile's rays, taken into frames by `axes` (n, 3, 3)."""
    focal = cameras.focal[tiles.scene[tile], None]
    middle = axes.new_tensor([cameras.width / 2, cameras.height / 2])
    start = (tiles.corner[tile] - middle) / focal
    base = axes[..., 2] + (axes[..., :2] @ start[..., None])[..., 0]
    step = axes[..., :2] / focal[..., None]
    px, py = tiles.offset.T
    return tuple(base[:, k, None] + step[:, k, :1] * px + step[:, k, 1:] * py for k in range(3))


def cast(
    scenes: Scenes, cameras: Cameras, tiles: Tiles
) -> tuple[Float[Tensor, "t r"], Int64[Tensor, "t r"]]:
    """z-depth and slot of the primitive of every ray's first hit."""
    p = scenes.shape.shape[1]
    axes, origins, corners = _local_views(scenes, cameras)
    overlap = _overlap(corners, scenes.shape >= 0, cameras, tiles.grid).reshape(-1, p)
    pair_tile, pair_slot = overlap.nonzero(as_tuple=True)
    pair_shape = scenes.shape[tiles.scene[pair_tile], pair_slot]
    axes, origins = axes.reshape(-1, 3, 3), origins.reshape(-1, 3)
    depth = axes.new_full((len(tiles.scene), len(tiles.offset)), torch.inf)
    found = []
    for shape in (ROOM, BOX, BALL, FRUSTUM):
        for pair in chunks((pair_shape == shape).nonzero()[:, 0], len(tiles.offset)):
            tile, slot = pair_tile[pair], pair_slot[pair]
            local = tiles.view[tile] * p + slot
            direction = _tile_rays(cameras, tiles, tile, axes.index_select(0, local))
            origin = origins.index_select(0, local)[..., None].unbind(1)
            t = hit_pairs(shape, scenes, tiles.scene[tile] * p + slot, origin, direction)
            depth.scatter_reduce_(0, tile[:, None].expand_as(t), t, "amin")
            found.append((tile, slot, t))
    winner = torch.full_like(depth, -1)
    for tile, slot, t in found:
        mine = torch.where(t == depth.index_select(0, tile), slot[:, None].float(), -1.0)
        winner.scatter_reduce_(0, tile[:, None].expand_as(t), mine, "amax")
    return depth, winner.long()
