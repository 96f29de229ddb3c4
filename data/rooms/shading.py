"""From hits to linear colour: surface points, shadows and lights."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from data.rooms.caster import Cameras, Tiles, chunks, hit_pairs
from data.rooms.primitives import TINY, local_normal, main_axis, unit
from data.rooms.scene import LIGHTS, Scenes
from data.rooms.templates import BALL, BOX, FRUSTUM, ROOM
from data.rooms.textures import Atlas, albedo

SHADOW_BIAS = 0.006
"""Metres by which a surface point is lifted before its shadow rays start."""


@dataclass(frozen=True, eq=False)
class Surface:
    """What n rays hit, components first.

    `point`, `normal` and `view` (the unit ray direction) are in the world; the same with `local_`
    in the frame of the primitive, in metres. `footprint` is the width of a pixel there in metres.
    """

    scene: Int64[Tensor, " n"]
    slot: Int64[Tensor, " n"]
    point: Float[Tensor, "3 n"]
    normal: Float[Tensor, "3 n"]
    view: Float[Tensor, "3 n"]
    local_point: Float[Tensor, "3 n"]
    local_normal: Float[Tensor, "3 n"]
    local_view: Float[Tensor, "3 n"]
    footprint: Float[Tensor, " n"]


def _rows(table: Tensor, index: Int64[Tensor, " n"]) -> Tensor:
    """Rows of a table (b, p, ...) by flat index, components first: (..., n)."""
    columns = table.flatten(0, 1).flatten(1).T.contiguous()
    return columns.index_select(1, index).unflatten(0, table.shape[2:])


def surface(
    scenes: Scenes, cameras: Cameras, tiles: Tiles, rows: slice, samples: slice, depth, slot
) -> Surface:
    """Surface data for some tiles (`rows`) and some of their rays (`samples`)."""
    offset = tiles.offset[samples]
    scene = tiles.scene[rows]
    pose = cameras.world_from_camera.flatten(0, 1)[tiles.view[rows], :3].permute(1, 2, 0)[..., None]
    focal = cameras.focal[scene][:, None]
    middle = offset.new_tensor([cameras.width / 2, cameras.height / 2])
    x, y = ((tiles.corner[rows, None] + offset - middle) / focal[..., None]).unbind(-1)
    ray = (pose[:, 0] * x + pose[:, 1] * y + pose[:, 2]).flatten(1)
    t = depth[rows, samples]
    point = (pose[:, 3] + t * ray.unflatten(1, t.shape)).flatten(1)
    scene_row = scene[:, None].expand(t.shape).reshape(-1)
    slot_row = slot[rows, samples].reshape(-1)
    flat = scene_row * scenes.shape.shape[1] + slot_row
    world_from_local = _rows(scenes.rotation, flat)
    half = _rows(scenes.half, flat)

    def to_local(vector: Tensor) -> Tensor:
        return (world_from_local * vector[:, None]).sum(0)

    local = to_local(point - _rows(scenes.centre, flat))
    shape, ends = _rows(scenes.shape[..., None], flat)[0], _rows(scenes.ends, flat)
    inner = local_normal(local / half, half, shape, ends)
    normal = (world_from_local * inner).sum(1)
    # Seen from behind (room, inside of open vessels) a surface turns its other side to the viewer.
    facing = torch.where((normal * ray).sum(0) > 0, -1.0, 1.0)
    view = unit(ray)
    footprint = (t / focal).reshape(-1)
    inner, normal = inner * facing, normal * facing
    return Surface(
        scene_row, slot_row, point, normal, view, local, inner, to_local(view), footprint
    )


def _shadow_pairs(scenes: Scenes, scene: Tensor, point: Tensor, normal: Tensor, casts: Tensor):
    """(tile, light, slot) triples in which the primitive may stand between light and points.

    First the bounding spheres of points and primitive, seen from the light: their cones must touch,
    and the primitive must not lie wholly behind the points. Then the box of the primitive, grown
    by the sphere of the points, must meet the line from the light to the middle of the points.
    """
    low, high = point.amin(1), point.amax(1)
    middle, radius = (low + high) / 2, (high - low).norm(dim=1)[:, None] / 2
    light = scenes.light_position
    to_tile = middle[:, None] - light[scene]
    tile_distance = to_tile.norm(dim=2)
    to_part = scenes.centre[:, None] - light[:, :, None]
    part_distance = to_part.norm(dim=3)
    part_radius = scenes.half.norm(dim=2)[:, None]
    cosine = to_tile[:, :, None] @ (to_part / part_distance[..., None])[scene].transpose(2, 3)
    cosine = cosine[:, :, 0] / tile_distance[..., None]
    part_angle = torch.asin((part_radius / part_distance).clamp(max=1))
    part_angle = torch.where(part_radius > part_distance, torch.pi, part_angle)[scene]
    tile_angle = torch.asin((radius / tile_distance).clamp(max=1))
    tile_angle = torch.where(radius > tile_distance, torch.pi, tile_angle)[..., None]
    touch = torch.acos(cosine.clamp(-1, 1)) <= part_angle + tile_angle
    before = (part_distance - part_radius)[scene] < (tile_distance + radius)[..., None]
    faces = ((light[scene][:, :, None] - point[:, None]) * normal[:, None]).sum(3).amax(2) > 0
    lit = faces & (scenes.light_colour.sum(2) > 0)[scene]
    tile, lamp, slot = (touch & before & lit[..., None] & casts[scene][:, None]).nonzero(
        as_tuple=True
    )
    room = scene[tile]
    rotation = scenes.rotation[room, slot]
    origin = ((-to_part[room, lamp, slot])[:, None] @ rotation)[:, 0]
    inverse = ((to_tile[tile, lamp][:, None] @ rotation)[:, 0] + TINY).reciprocal()
    reach = ((scenes.half[room, slot] + radius[tile]) * inverse).abs()
    enter, leave = (-origin * inverse - reach).amax(1), (reach - origin * inverse).amin(1)
    meets = (enter < leave) & (enter < 1 + radius[tile, 0] / tile_distance[tile, lamp])
    return tile[meets], lamp[meets], slot[meets]


def light_visibility(
    scenes: Scenes, tiles: Tiles, point: Float[Tensor, "t r 3"], normal: Float[Tensor, "t r 3"]
) -> Float[Tensor, "lights t r"]:
    """1 where a point sees a light, 0 where something stands between."""
    p = scenes.shape.shape[1]
    casts = scenes.materials[..., 14].gather(1, scenes.material) > 0
    casts = casts & (scenes.shape >= 0) & (scenes.shape != ROOM)
    lifted = point + SHADOW_BIAS * normal
    pair_tile, pair_light, pair_slot = _shadow_pairs(scenes, tiles.scene, lifted, normal, casts)
    pair_shape = scenes.shape[tiles.scene[pair_tile], pair_slot]
    unit_from_world = scenes.rotation.transpose(-1, -2) / scenes.half[..., None]
    shift = scenes.light_position[:, :, None] - scenes.centre[:, None]
    origins = (unit_from_world[:, None] @ shift[..., None])[..., 0]
    t, r = point.shape[:2]
    blocked = torch.zeros(t * LIGHTS, r, device=point.device)
    for shape in (BOX, BALL, FRUSTUM):
        for pair in chunks((pair_shape == shape).nonzero()[:, 0], r):
            tile, slot, light = pair_tile[pair], pair_slot[pair], pair_light[pair]
            scene = tiles.scene[tile]
            ray = lifted.index_select(0, tile) - scenes.light_position[scene, light][:, None]
            direction = (unit_from_world[scene, slot] @ ray.transpose(1, 2)).unbind(1)
            origin = origins[scene, light, slot][..., None].unbind(1)
            hit = hit_pairs(shape, scenes, scene * p + slot, origin, direction)
            row = (tile * LIGHTS + light)[:, None].expand_as(hit)
            blocked.scatter_reduce_(0, row, (hit < 1).float(), "amax")
    return 1 - blocked.reshape(t, LIGHTS, r).transpose(0, 1)


def _material(scenes: Scenes, hit: Surface) -> Float[Tensor, "15 n"]:
    """The material at every hit; the room's faces are told apart by their inward normals."""
    flat = hit.scene * scenes.shape.shape[1] + hit.slot
    row = _rows(scenes.material[..., None], flat)[0]
    axis = main_axis(hit.normal)
    face = 2 * axis + (hit.normal.gather(0, axis[None])[0] < 0)
    row = torch.where(hit.slot == 0, face, row)
    return _rows(scenes.materials, hit.scene * scenes.materials.shape[1] + row)


def shade(
    scenes: Scenes, hit: Surface, visible: Float[Tensor, "lights n"], atlas: Atlas | None
) -> Float[Tensor, "3 n"]:
    """Linear radiance: ambient darkened in corners, diffuse and glossy point lights, glow."""

    def of_room(table: Float[Tensor, "b 3"]) -> Float[Tensor, "3 n"]:
        return table.T.index_select(1, hit.scene)

    material = _material(scenes, hit)
    base = albedo(material, hit.local_point, hit.local_normal, hit.local_view, hit.footprint, atlas)
    gloss, emission = material[8], material[9]
    room, middle = of_room(scenes.half[:, 0]), of_room(scenes.centre[:, 0])
    gap = room - (hit.point - middle).abs()
    corner = (0.35 * torch.exp(gap / -0.12) * (1 - hit.normal.abs())).sum(0)
    sky = (0.8 + 0.2 * hit.normal[2]) * (1 - corner.clamp(max=0.6))
    light = of_room(scenes.ambient) * sky
    shine = torch.zeros_like(light)
    reflected = hit.view - 2 * (hit.view * hit.normal).sum(0) * hit.normal
    for k in range(LIGHTS):
        ray = of_room(scenes.light_position[:, k]) - hit.point
        squared = (ray * ray).sum(0)
        ray = ray * squared.rsqrt()
        fall = of_room(scenes.light_colour[:, k]) * (visible[k] / (squared + 0.3))
        cosine = (ray * hit.normal).sum(0)
        light = light + fall * (0.85 * cosine + 0.15).clamp(min=0)
        aligned = (ray * reflected).sum(0).clamp(min=0)
        shine = shine + fall * (gloss * aligned ** (8 + 60 * gloss) * (cosine > 0))
    return base * (light + emission) + 0.6 * shine
