"""Rooms rendered as a batch of clips with exact ground truth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.rooms.cameras import choose_cameras
from data.rooms.caster import Cameras, cast, make_tiles, untile
from data.rooms.labels import WHOLE_INDEX
from data.rooms.scene import Scenes, build_scenes
from data.rooms.sensor import develop
from data.rooms.shading import light_visibility, shade, surface
from data.rooms.styles import NO_SHARES
from data.rooms.textures import Atlas

SAMPLES = torch.tensor([[0.5, 0.5], [0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
"""Rays of a pixel: the truth goes through its centre, the colour is the mean of the other four."""


@dataclass(frozen=True, eq=False)
class RoomBatch:
    """b clips of v views of one room each.

    `image` is sRGB in [0, 1]; `depth` is z-depth in metres and `normals` are unit vectors in the
    camera frame, both at pixel centres. `whole` and `part` index the lexicon's rows of that level;
    `instance` is 0 for the structure (wall, floor, ceiling) and one number an object, the same in
    all views. `intrinsics` are in pixels (centres at half-integers); the world is in metres with
    z up, camera axes are OpenCV's.
    """

    image: Float[Tensor, "b v h w 3"]
    depth: Float[Tensor, "b v h w"]
    normals: Float[Tensor, "b v h w 3"]
    whole: UInt8[Tensor, "b v h w"]
    part: UInt8[Tensor, "b v h w"]
    instance: UInt8[Tensor, "b v h w"]
    intrinsics: Float[Tensor, "b v 3 3"]
    world_from_camera: Float[Tensor, "b v 4 4"]

    @staticmethod
    def concatenate(batches: Sequence["RoomBatch"]) -> "RoomBatch":
        """One batch of many."""
        names = [field.name for field in fields(RoomBatch)]
        return RoomBatch(**{n: torch.cat([getattr(batch, n) for batch in batches]) for n in names})


def _labels(scenes: Scenes, scene: Tensor, slot: Tensor, normal: Tensor) -> tuple[Tensor, ...]:
    """whole, part and instance of hits; the room's faces are told apart by their normals."""
    flat = scene * scenes.shape.shape[1] + slot
    whole, part, instance = (
        table.flatten()[flat] for table in (scenes.whole, scenes.part, scenes.instance)
    )
    room = slot == 0
    whole = torch.where(room & (normal[2] > 0.5), WHOLE_INDEX["floor"], whole)
    whole = torch.where(room & (normal[2] < -0.5), WHOLE_INDEX["ceiling"], whole)
    return tuple(label.to(torch.uint8) for label in (whole, part, instance))


def render_views(
    scenes: Scenes,
    cameras: Cameras,
    seeds: list[int],
    atlas: Atlas | None,
    develop: Callable[[Tensor, list[int]], Tensor] = develop,
) -> RoomBatch:
    """Render given cameras in given rooms, see `render_rooms`; `develop` makes the pictures."""
    samples = SAMPLES.to(scenes.centre.device)
    tiles = make_tiles(cameras, samples)
    depth, slot = cast(scenes, cameras, tiles)
    pixels = len(tiles.offset) // len(samples)
    everything, centre, around = slice(None), slice(0, pixels), slice(pixels, None)
    truth = surface(scenes, cameras, tiles, everything, centre, depth, slot)
    shape = (len(tiles.scene), pixels)
    point, normal = (part.T.reshape(*shape, 3) for part in (truth.point, truth.normal))
    visible = light_visibility(scenes, tiles, point, normal)
    step = 1 << 20 if depth.is_cuda else 64
    colour = []
    for start in range(0, len(depth), step):
        rows = slice(start, start + step)
        hit = surface(scenes, cameras, tiles, rows, around, depth, slot)
        seen = visible[:, rows].repeat(1, 1, len(samples) - 1).flatten(1)
        shaded = shade(scenes, hit, seen, atlas).clamp(max=1.5)
        colour.append(shaded.unflatten(1, (-1, len(samples) - 1, pixels)).mean(2))
    rotation = cameras.world_from_camera.flatten(0, 1)[tiles.view, :3, :3]
    normals = normal @ rotation
    labels = _labels(scenes, truth.scene, truth.slot, truth.normal)

    def image(values: Tensor) -> Tensor:
        return untile(values, tiles, 1, cameras.height, cameras.width)[:, :, 0].contiguous()

    whole, part, instance = (image(label.view(shape)) for label in labels)
    return RoomBatch(
        develop(image(torch.cat(colour, 1).permute(1, 2, 0)), seeds),
        image(depth[:, centre]),
        image(normals),
        whole,
        part,
        instance,
        cameras.intrinsics,
        cameras.world_from_camera,
    )


@torch.inference_mode()
def render_rooms(
    seeds: Sequence[int],
    views: int = 4,
    height: int = 64,
    width: int = 64,
    atlas: Atlas | None = None,
    device: torch.device | str = "cpu",
) -> RoomBatch:
    """Furnish, photograph and label one room a seed; the same seed gives the same clip.

    On a CPU a few rooms at a time are fastest: temporaries then stay in cache.
    """
    seeds = [int(seed) for seed in seeds]
    scenes, cameras = furnish_rooms(seeds, views, height, width, atlas, device)
    return render_views(scenes, cameras, seeds, atlas)


def furnish_rooms(
    seeds: list[int],
    views: int,
    height: int,
    width: int,
    atlas: Atlas | None,
    device: torch.device | str = "cpu",
    shares: Mapping[str, float] = NO_SHARES,
) -> tuple[Scenes, Cameras]:
    """What is in the rooms of these seeds and where their cameras stand: all but the pictures.

    `shares` are those of all rooms that are photographed in a style of STYLES.
    """
    scenes, layouts = build_scenes(seeds, atlas.categories if atlas else None)
    scenes = scenes.to(device)
    return scenes, choose_cameras(scenes, layouts, seeds, views, height, width, shares)
