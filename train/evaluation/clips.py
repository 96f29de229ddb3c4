"""What a network is measured on: rooms or other clips, which views of them, in which unit."""

from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data.clip import UNKNOWN, Clip
from data.rooms import Atlas, render_rooms
from ffsplat.errors import UsageError
from ffsplat.types import Cameras, Views, ViewSource
from train.batches import Batch

NOVEL_VIEWS = 2
"""Views that are looked at beside those that a network is given, at most."""


@runtime_checkable
class Clips(Protocol):
    """Clips by number: rooms, a set of shards, or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Clip:
        """Make or read a clip, each time anew."""
        ...


class RoomClips:
    """Rooms of consecutive seeds, rendered whenever one is asked for; the same on every machine."""

    def __init__(
        self, seeds: range, views: int, size: int, atlas: Atlas | None, device: torch.device
    ):
        self.seeds = seeds
        self.views = views
        self.size = size
        self.atlas = None if atlas is None else atlas.to(device)
        self.device = device

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> Clip:
        seed = self.seeds[index]
        size = (self.size, self.size)
        room = render_rooms([seed], self.views, *size, self.atlas, self.device)
        labels = {
            name: getattr(room, name)[0].short().cpu().numpy()
            for name in ("whole", "part", "instance")
        }
        return Clip(
            key=f"room-{seed}",
            source="rooms",
            metric=True,
            images=(room.image[0] * 255).round().byte().cpu().numpy(),
            intrinsics=room.intrinsics[0].cpu().numpy(),
            world_from_camera=room.world_from_camera[0].cpu().numpy(),
            depth=room.depth[0].cpu().numpy(),
            **labels,
        )


def choose_views(available: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Input views spread over a clip from its first to its last, and up to NOVEL_VIEWS others.

    Raises UsageError if the clip is too short.
    """
    if not 2 <= count <= available:
        raise UsageError(f"{count} views were asked for of clips of {available}")
    given = np.linspace(0, available - 1, count).round().astype(int)
    others = np.setdiff1d(np.arange(available), given)
    kept = np.linspace(0, len(others) - 1, min(NOVEL_VIEWS, len(others))).round().astype(int)
    return given, others[kept]


def view_size(clip: Clip, longer: int | None, patch: int) -> tuple[int, int]:
    """Height and width that a clip is looked at: multiples of the patch, about its own shape.

    The longer side is at most `longer` pixels; smaller images are not enlarged beyond a patch.
    """
    sides = clip.images.shape[1:3]
    factor = min(1.0, (longer or max(sides)) / max(sides))
    height, width = (max(patch, round(side * factor) // patch * patch) for side in sides)
    return height, width


def set_unit(batch: Batch) -> Float[Tensor, " b"]:
    """A length to measure a set by: its mean depth, or without depth its longest way from view 0.

    A set without depth whose cameras stay in one place has no length, so that any would do: 1.
    """
    known = batch.depth > 0
    mean = batch.depth.sum((1, 2, 3)) / known.sum((1, 2, 3))
    reach = batch.world_from_camera[..., :3, 3].norm(dim=-1).amax(1)
    reach = torch.where(reach > 0, reach, 1)
    return torch.where(known.any(dim=(1, 2, 3)), mean, reach)


def normalize(batch: Batch) -> Batch:
    """Sets in an unknown unit, in units of `set_unit`; others stay in metres."""
    factor = torch.where(batch.metric, 1, 1 / set_unit(batch))
    poses = batch.world_from_camera.clone()
    poses[..., :3, 3] *= factor[:, None, None]
    return replace(batch, depth=batch.depth * factor[:, None, None, None], world_from_camera=poses)


def unlabelled(batch: Batch) -> Batch:
    """The same sets, as if nobody had labelled them."""
    unknown = torch.full_like(batch.whole, UNKNOWN)
    return replace(batch, whole=unknown, part=unknown, identity=unknown)


def cameras_of(batch: Batch) -> Cameras:
    """The cameras of a batch of one set."""
    count, _, height, width = batch.images.shape[1:]
    return Cameras(
        batch.world_from_camera[0].cpu().numpy(),
        batch.intrinsics[0].cpu().numpy(),
        np.tile(np.array([width, height], np.int32), (count, 1)),
        tuple(str(view) for view in range(count)),
    )


def views_of(batch: Batch) -> Views:
    """The views of a batch of one set, as if they had been loaded from photos of their size."""
    pixels = batch.images[0].movedim(1, -1).cpu().numpy()
    count, height, width, _ = pixels.shape
    return Views(
        pixels,
        np.ones((count, height, width), bool),
        np.full((count, 3, 3), np.nan, np.float32),
        tuple(ViewSource(str(view), width, height, np.eye(3)) for view in range(count)),
    )
