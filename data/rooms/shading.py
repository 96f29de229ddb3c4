"""From hits to linear colour: surface points, shadows and lights."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from data.rooms.caster import Cameras, Tiles, chunks, hit_pairs
from data.rooms.primitives import local_normal
from data.rooms.scene import LIGHTS, Scenes
from data.rooms.templates import BALL, BOX, FRUSTUM, ROOM
from data.rooms.textures import Atlas, albedo

SHADOW_BIAS = 0.006
"""Metres by which a surface point is lifted before its shadow rays start."""


@dataclass(frozen=True, eq=False)
class Surface:
    """What rays hit: flat rows, one per ray. Frames: `normal` and `point` in the world,
    `local` (metres) and `local_normal` in the primitive; `view` is the unit ray direction."""

    scene: Int64[Tensor, " n"]
    slot: Int64[Tensor, " n"]
    point: Float[Tensor, "n 3"]
    normal: Float[Tensor, "n 3"]
    local: Float[Tensor, "n 3"]
    local_normal: Float[Tensor, "n 3"]
    rotation: Float[Tensor, "n 3 3"]
    view: Float[Tensor, "n 3"]
    footprint: Float[Tensor, " n"]


def surface(
    scenes: Scenes, cameras: Cameras, tiles: Tiles, rows: slice, samples: slice, depth, slot
) -> Surface:
    """Surface data for some tiles (`rows`) and some of their rays (`samples`)."""
    offset = tiles.offset[samples]
    r = len(offset)
    scene = tiles.scene[rows]
    pose = cameras.world_from_camera.flatten(0, 1)[tiles.view[rows]]
    focal = cameras.focal[scene]
    middle = offset.new_tensor([cameras.width / 2, cameras.height / 2])
    xy = (tiles.corner[rows, None] + offset - middle) / focal[:, None, None]
    camera_ray = torch.cat([xy, torch.ones_like(xy[..., :1])], -1)
    ray = (camera_ray @ pose[:, :3, :3].transpose(1, 2)).reshape(-1, 3)
    t = depth[rows, samples].reshape(-1)
    point = pose[:, None, :3, 3].expand(-1, r, 3).reshape(-1, 3) + t[:, None] * ray
    scene_row = scene[:, None].expand(-1, r).reshape(-1)
    slot_row = slot[rows, samples].reshape(-1)
    flat = scene_row * scenes.shape.shape[1] + slot_row
    rotation = scenes.rotation.flatten(0, 1)[flat]
    half, shape = scenes.half.flatten(0, 1)[flat], scenes.shape.flatten()[flat]
    offset_point = point - scenes.centre.flatten(0, 1)[flat]
    local = (offset_point[:, None] @ rotation)[:, 0]
    inner = local_normal(local / half, half, shape, scenes.ends.flatten(0, 1)[flat])
    normal = (rotation @ inner[..., None])[..., 0]
    # Seen from behind (room, inside of open vessels) a surface turns its other side to the viewer.
    facing = torch.where((normal * ray).sum(1, keepdim=True) > 0, -1.0, 1.0)
    view = ray / ray.norm(dim=1, keepdim=True)
    footprint = t / focal[:, None].expand(-1, r).reshape(-1)
    return Surface(
        scene_row,
        slot_row,
        point,
        normal * facing,
        local,
        inner * facing,
        rotation,
        view,
        footprint,
    )


def _shadow_pairs(scenes: Scenes, tile_scene: Tensor, point: Tensor, casts: Tensor):
    """(tile, slot, light) triples in which the primitive may stand between light and points.

    Bounding spheres seen from the light: their cones must touch, and the primitive must not lie
    wholly behind the points.
    """
    low, high = point.amin(1), point.amax(1)
    middle, radius = (low + high) / 2, (high - low).norm(dim=1)[:, None] / 2
    light = scenes.light_position
    to_tile = middle[:, None] - light[tile_scene]
    tile_distance = to_tile.norm(dim=2)
    to_part = scenes.centre[:, None] - light[:, :, None]
    part_distance = to_part.norm(dim=3)
    part_radius = scenes.half.norm(dim=2)[:, None]
    cosine = to_tile[:, :, None] @ (to_part / part_distance[..., None])[tile_scene].transpose(2, 3)
    cosine = cosine[:, :, 0] / tile_distance[..., None]
    part_angle = torch.asin((part_radius / part_distance).clamp(max=1))
    part_angle = torch.where(part_radius > part_distance, torch.pi, part_angle)[tile_scene]
    tile_angle = torch.asin((radius / tile_distance).clamp(max=1))
    tile_angle = torch.where(radius > tile_distance, torch.pi, tile_angle)[..., None]
    touch = torch.acos(cosine.clamp(-1, 1)) <= part_angle + tile_angle
    before = (part_distance - part_radius)[tile_scene] < (tile_distance + radius)[..., None]
    lit = (scenes.light_colour.sum(2) > 0)[tile_scene][..., None]
    return (touch & before & lit & casts[tile_scene][:, None]).nonzero(as_tuple=True)


def light_visibility(
    scenes: Scenes, tiles: Tiles, point: Float[Tensor, "t r 3"], normal: Float[Tensor, "t r 3"]
) -> Float[Tensor, "t r lights"]:
    """1 where a point sees a light, 0 where something stands between."""
    p = scenes.shape.shape[1]
    casts = scenes.materials[..., 14].gather(1, scenes.material) > 0
    casts = casts & (scenes.shape >= 0) & (scenes.shape != ROOM)
    lifted = point + SHADOW_BIAS * normal
    pair_tile, pair_light, pair_slot = _shadow_pairs(scenes, tiles.scene, lifted, casts)
    pair_shape = scenes.shape[tiles.scene[pair_tile], pair_slot]
    unit = scenes.rotation.transpose(-1, -2) / scenes.half[..., None]
    shift = scenes.light_position[:, :, None] - scenes.centre[:, None]
    origins = (unit[:, None] @ shift[..., None])[..., 0]
    t, r = point.shape[:2]
    blocked = torch.zeros(t * LIGHTS, r, device=point.device)
    for shape in (BOX, BALL, FRUSTUM):
        for pair in chunks((pair_shape == shape).nonzero()[:, 0], r):
            tile, slot, light = pair_tile[pair], pair_slot[pair], pair_light[pair]
            scene = tiles.scene[tile]
            ray = lifted[tile] - scenes.light_position[scene, light][:, None]
            direction = (unit[scene, slot] @ ray.transpose(1, 2)).unbind(1)
            origin = origins[scene, light, slot][..., None].unbind(1)
            hit = hit_pairs(shape, scenes, scene * p + slot, origin, direction)
            row = (tile * LIGHTS + light)[:, None].expand_as(hit)
            blocked.scatter_reduce_(0, row, (hit < 1).float(), "amax")
    return 1 - blocked.reshape(t, LIGHTS, r).transpose(1, 2)


def shade(
    scenes: Scenes,
    hit: Surface,
    visible: Float[Tensor, "n lights"],
    atlas: Atlas | None,
) -> Float[Tensor, "n 3"]:
    """Linear radiance: ambient with darkened room corners, diffuse and glossy point lights, glow."""
    p, m = scenes.shape.shape[1], scenes.materials.shape[1]
    row = scenes.material.flatten()[hit.scene * p + hit.slot]
    # The room's faces have rows 0 to 5 in the order -x +x -y +y -z +z of the inward normal's axis.
    axis = hit.normal.abs().argmax(1)
    sign = hit.normal.gather(1, axis[:, None])[:, 0] < 0
    face = torch.where(axis < 2, axis * 2 + sign, 4 + sign)
    row = torch.where(hit.slot == 0, face, row)
    material = scenes.materials.flatten(0, 1)[hit.scene * m + row]
    local_view = (hit.view[:, None] @ hit.rotation)[:, 0]
    base = albedo(material, hit.local, hit.local_normal, local_view, hit.footprint, atlas)
    gloss, emission = material[:, 8:9], material[:, 9:10]
    room = scenes.half[hit.scene, 0]
    gap = room - (hit.point - scenes.centre[hit.scene, 0]).abs()
    corner = (0.35 * torch.exp(-gap / 0.12) * (1 - hit.normal.abs())).sum(1, keepdim=True)
    sky = 0.8 + 0.2 * hit.normal[:, 2:]
    light = scenes.ambient[hit.scene] * sky * (1 - corner.clamp(max=0.6))
    shine = torch.zeros_like(light)
    reflected = hit.view - 2 * (hit.view * hit.normal).sum(1, keepdim=True) * hit.normal
    for k in range(LIGHTS):
        ray = scenes.light_position[hit.scene, k] - hit.point
        distance = ray.norm(dim=1, keepdim=True)
        ray = ray / distance
        fall = scenes.light_colour[hit.scene, k] * visible[:, k : k + 1] / (distance**2 + 0.3)
        cosine = (ray * hit.normal).sum(1, keepdim=True)
        light = light + fall * (0.85 * cosine + 0.15).clamp(min=0)
        aligned = (ray * reflected).sum(1, keepdim=True).clamp(min=0)
        shine = shine + fall * gloss * aligned ** (8 + 60 * gloss) * (cosine > 0)
    return base * (light + emission) + 0.6 * shine
