"""The rooms that a training step draws from: a folder of chunks, or ever new ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from data.rooms import Atlas, endless_rooms, load_chunk, load_pool, render_rooms
from data.rooms.pool import pool_tensors
from data.rooms.styles import check_shares
from ffsplat.errors import UsageError

Pool = Mapping[str, np.ndarray | torch.Tensor]
"""Rooms as `data.rooms.pool` keeps them; the first axis of every array is the room."""

KEYS = ("image", "depth", "whole", "part", "instance", "intrinsics", "world_from_camera")


@runtime_checkable
class Rooms(Protocol):
    """Where training rooms come from."""

    def at(self, step: int) -> Pool:
        """The rooms that the batch of a step may show; steps are asked for in rising order."""
        ...


def read_pool(folder: Path) -> dict[str, np.ndarray]:
    """All complete chunks of a pool (`python -m data pool`) as one array a key.

    Raises UsageError if there are none.
    """
    chunks = [load_chunk(path) for path in load_pool(folder)]
    if not chunks:
        raise UsageError(f"no pool in {folder}", hint=f"python -m data pool --out {folder}")
    return {key: np.concatenate([chunk.pop(key) for chunk in chunks]) for key in KEYS}


def render_pool(
    seeds: Sequence[int], views: int, size: int, atlas: Atlas | None = None
) -> dict[str, np.ndarray]:
    """The rooms of some seeds as a pool, rendered now: `views` square views of `size` pixels."""
    rooms = [pool_tensors(render_rooms([seed], views, size, size, atlas)) for seed in seeds]
    return {key: torch.cat([room[key] for room in rooms]).numpy() for key in KEYS}


class FixedRooms:
    """The same rooms at every step."""

    def __init__(self, pool: Pool):
        self.pool = pool

    def at(self, step: int) -> Pool:
        """All rooms."""
        return self.pool


@dataclass(frozen=True)
class RoomSettings:
    """How many rooms are made while a network trains, and what is photographed of each."""

    size: int = 64
    """Pixels along a side."""
    views: int = 4
    skipped: int = 0
    """Rooms of the training split that come before the first one used."""
    first: int = 512
    """Rooms before the first step."""
    fresh: int = 8
    """Rooms that each step adds."""
    kept: int = 8192
    """Rooms in memory at most; the newest replace the oldest."""
    group: int = 32
    """Rooms drawn at once."""
    styles: dict[str, float] = field(default_factory=dict)
    """Shares of the rooms that are photographed from `close` by, around one thing, as arms and
    hands do, and `steady`, as a video; the others are as held-out rooms: on a walk through."""

    def __post_init__(self):
        check_shares(self.styles)
        if self.kept % self.group or self.kept < self.first or self.skipped % self.group:
            raise UsageError("rooms: kept and skipped are multiples of group, kept at least first")


class EndlessRooms:
    """A window over an endless row of rooms, on the device that trains; it moves with the steps.

    Of `ranks` processes each makes rooms of its own: every `ranks`-th group.
    """

    def __init__(
        self, settings: RoomSettings, atlas: Atlas | None, device: torch.device, workers: int,
        rank: int = 0, ranks: int = 1,
    ):  # fmt: skip
        self.settings = settings
        self.rank = rank
        self.ranks = ranks
        self.atlas = atlas
        self.device = device
        self.workers = workers
        self.made = 0
        self.source: Iterator[dict[str, torch.Tensor]] | None = None
        self.pool: dict[str, torch.Tensor] = {}

    def at(self, step: int) -> Pool:
        """The newest `kept` of `first + fresh * step` rooms, rounded up to whole groups."""
        settings = self.settings
        groups = -(-(settings.first + settings.fresh * step) // settings.group)
        if self.source is None:  # also where a run is resumed: older rooms are gone anyway
            start = max(0, groups - settings.kept // settings.group)
            first = settings.skipped // settings.group + start
            self.source = endless_rooms(
                first=first * self.ranks + self.rank, step=self.ranks, group=settings.group,
                views=settings.views, size=settings.size, atlas=self.atlas, device=self.device,
                workers=self.workers, shares=settings.styles,
            )  # fmt: skip
            self.made = start * settings.group
        while self.made < groups * settings.group:
            self._keep(next(self.source))
        return {key: tensor[: self.made] for key, tensor in self.pool.items()}

    def _keep(self, rooms: dict[str, torch.Tensor]) -> None:
        kept, group = self.settings.kept, self.settings.group
        if not self.pool:
            self.pool = {key: rooms[key].new_zeros(kept, *rooms[key].shape[1:]) for key in KEYS}
        row = self.made % kept
        for key in KEYS:
            self.pool[key][row : row + group] = rooms[key]
        self.made += group
