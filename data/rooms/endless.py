"""Rooms without end: worker processes furnish them, the device that trains draws them."""

from collections.abc import Iterator, Mapping
from itertools import count

import torch
from torch.utils.data import DataLoader, Dataset

from data.rooms.caster import Cameras
from data.rooms.pool import pool_tensors
from data.rooms.render import furnish_rooms, render_views
from data.rooms.scene import Scenes
from data.rooms.splits import SPLITS
from data.rooms.styles import NO_SHARES
from data.rooms.textures import Atlas

Furnished = tuple[Scenes, Cameras, list[int]]


class _Furnished(Dataset[Furnished]):
    """Item i holds the i-th group of rooms of the training split; after its end it starts anew."""

    def __init__(self, group: int, views: int, size: int, atlas: Atlas | None,
                 shares: Mapping[str, float]):  # fmt: skip
        self.group = group
        self.views = views
        self.size = size
        self.atlas = atlas
        self.shares = shares

    def __getitem__(self, index: int) -> Furnished:
        seeds = SPLITS["train"]
        mine = [seeds[(index * self.group + i) % len(seeds)] for i in range(self.group)]
        scenes, cameras = furnish_rooms(
            mine, self.views, self.size, self.size, self.atlas, shares=self.shares
        )
        return scenes, cameras, mine


def _as_it_is(item: Furnished) -> Furnished:
    return item


@torch.no_grad()
def endless_rooms(
    *,
    first: int,
    group: int,
    views: int,
    size: int,
    atlas: Atlas | None,
    device: torch.device,
    workers: int,
    step: int = 1,
    shares: Mapping[str, float] = NO_SHARES,
) -> Iterator[dict[str, torch.Tensor]]:
    """Every `step`-th group of rooms of the training split from group `first` on, as in a pool.

    Tensors lie on `device`, with `group` rooms of `views` square views of `size` pixels each;
    `shares` are those of the rooms in each of STYLES. What they show depends on nothing but that
    and their number. With 0 workers all is done in this process.
    """
    loader = DataLoader(
        _Furnished(group, views, size, atlas, shares),
        batch_size=None,
        sampler=count(first, step),
        num_workers=workers,
        collate_fn=_as_it_is,  # pyright: ignore[reportArgumentType]
    )
    drawn_with = None if atlas is None else atlas.to(device)
    for scenes, cameras, seeds in loader:
        yield pool_tensors(render_views(scenes.to(device), cameras.to(device), seeds, drawn_with))
