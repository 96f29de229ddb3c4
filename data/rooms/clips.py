"""Rooms as clips, the type that shards hold."""

from collections.abc import Iterator, Set

import numpy as np

from data.clip import Clip
from data.rooms.pool import pool_tensors
from data.rooms.render import RoomBatch, render_rooms
from data.rooms.splits import split_seeds
from data.rooms.textures import Atlas

SOURCE = "rooms"


def room_key(seed: int) -> str:
    """What the clip of a room is called."""
    return f"room-{seed:010d}"


def room_clips(
    split: str,
    first: int,
    count: int,
    views: int,
    size: int,
    atlas: Atlas | None = None,
    device: str = "cpu",
    batch: int = 1,
    without: Set[str] = frozenset(),
) -> Iterator[Clip]:
    """Render `count` rooms of a split from offset `first`, `batch` at once, in square views.

    Rooms whose keys are in `without` are not made. Raises ValueError if the seeds leave the split.
    """
    seeds = [s for s in split_seeds(split, first, count) if room_key(s) not in without]
    for start in range(0, len(seeds), batch):
        mine = seeds[start : start + batch]
        rooms = render_rooms(mine, views, size, size, atlas, device)
        for row, seed in enumerate(mine):
            yield _clip(rooms, row, seed)


def _clip(rooms: RoomBatch, row: int, seed: int) -> Clip:
    """One room; as in a pool, but depth in full precision."""
    arrays = {name: tensor[row].cpu().numpy() for name, tensor in pool_tensors(rooms).items()}
    whole, part, instance = (
        arrays[name].astype(np.int16) for name in ("whole", "part", "instance")
    )
    return Clip(
        key=room_key(seed),
        source=SOURCE,
        metric=True,
        images=arrays["image"],
        intrinsics=arrays["intrinsics"].astype(np.float32),
        world_from_camera=arrays["world_from_camera"].astype(np.float32),
        depth=rooms.depth[row].cpu().numpy().astype(np.float32),
        whole=whole,
        part=part,
        instance=instance,
    )
