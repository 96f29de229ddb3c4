"""Training batches drawn from rooms: a pure function of (seed, step)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from data.clip import UNKNOWN
from ffsplat.geometry import invert_rigid
from train.plan import Draw, Plan
from train.rooms import KEYS, Pool, Rooms

SHAPES = ((8, 8), (6, 8), (6, 8), (5, 8), (8, 6))
"""Height and width, in eighths of the rooms' side, that a batch may be cropped to: 1:1, 4:3, 3:4
and nearly 16:9; rounded down to whole tokens of the network."""
COUNTED = 200
"""Rooms whose labels tell how often rows occur."""
MAPS = ("images", "depth", "whole", "part", "identity")
"""Fields of a batch with one value a pixel."""


@dataclass(frozen=True, eq=False)
class Batch:
    """b view sets with their truth; poses are relative to view 0, lengths in metres or unknown.

    `depth` is 0 where it is unknown, labels UNKNOWN. `identity` numbers objects within a set; each
    structure class (wall, floor, ...) is one object. `metric` tells the sets whose unit is the
    metre. `teachers` holds dense features of other networks by name, at strides of their own.
    """

    images: Float[Tensor, "b v 3 h w"]
    depth: Float[Tensor, "b v h w"]
    whole: Int[Tensor, "b v h w"]
    part: Int[Tensor, "b v h w"]
    identity: Int[Tensor, "b v h w"]
    intrinsics: Float[Tensor, "b v 3 3"]
    world_from_camera: Float[Tensor, "b v 4 4"]
    metric: Bool[Tensor, " b"]
    teachers: Mapping[str, Float[Tensor, "b v _ _ _"]] = field(default_factory=dict)

    def views(self, which: slice) -> "Batch":
        """The same sets with some of their views; poses stay relative to the first of all."""
        return self.map(lambda tensor: tensor[:, which] if tensor.ndim > 1 else tensor)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return self.map(lambda tensor: tensor.to(device))

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Every tensor changed alike."""
        tensors = {name: change(value) for name, value in vars(self).items() if name != "teachers"}
        return Batch(**tensors, teachers={k: change(v) for k, v in self.teachers.items()})


def upload(values: np.ndarray, device: torch.device) -> Tensor:
    """An array on a device; this side does not wait until it is there."""
    tensor = torch.from_numpy(values)
    # Only from pinned memory does a copy to a GPU run beside what it still has to do.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def identities(instance: Int[Tensor, "*s"], whole: Int[Tensor, "*s"]) -> Int[Tensor, "*s"]:
    """Objects by number, structure by class below UNKNOWN; UNKNOWN where neither is known."""
    structure = torch.where(whole == UNKNOWN, UNKNOWN, UNKNOWN - 1 - whole)
    return torch.where(instance == 0, structure, instance)


def batch_from_pool(pool: Pool, scenes: np.ndarray, views: np.ndarray) -> Batch:
    """Gather sets of views: `scenes` (b,) and `views` (b, v) index the pool's first two axes.

    The batch lies where the pool does. A pool may say by `metric` which scenes are in metres, else
    all are.
    """
    tensors = {key: torch.as_tensor(pool[key]) for key in KEYS}
    device = tensors["image"].device
    rows, columns = upload(scenes[:, None], device), upload(views, device)
    taken = {key: tensor[rows, columns] for key, tensor in tensors.items()}
    world_from_camera = taken["world_from_camera"].float()
    whole = taken["whole"].long()
    if "metric" in pool:
        metric = torch.as_tensor(pool["metric"])[rows[:, 0]]
    else:
        metric = torch.ones(len(scenes), dtype=torch.bool, device=device)
    return Batch(
        images=taken["image"].movedim(-1, -3).float() / 255,
        depth=taken["depth"].float(),
        whole=whole,
        part=taken["part"].long(),
        identity=identities(taken["instance"].long(), whole),
        intrinsics=taken["intrinsics"].float(),
        world_from_camera=invert_rigid(world_from_camera[:, :1]) @ world_from_camera,
        metric=metric,
    )


def flip(batch: Batch) -> Batch:
    """The mirror image of a batch: columns reversed, the world mirrored at x = 0."""
    mirror = torch.eye(4, device=batch.images.device)
    mirror[0].neg_()
    intrinsics = batch.intrinsics.clone()
    intrinsics[..., 0, 2] = batch.images.shape[-1] - intrinsics[..., 0, 2]
    maps = {name: getattr(batch, name).flip(-1) for name in MAPS}
    return replace(
        batch,
        **maps,
        intrinsics=intrinsics,
        world_from_camera=mirror @ batch.world_from_camera @ mirror,
        teachers={name: teacher.flip(-1) for name, teacher in batch.teachers.items()},
    )


def crop(batch: Batch, height: int, width: int) -> Batch:
    """The middle of every image, half a pixel beside it where a side loses an odd number."""
    rows, columns = batch.images.shape[-2:]
    top, left = (rows - height) // 2, (columns - width) // 2
    intrinsics = batch.intrinsics.clone()
    intrinsics[..., 0, 2] -= left
    intrinsics[..., 1, 2] -= top
    cut = {
        name: getattr(batch, name)[..., top : top + height, left : left + width] for name in MAPS
    }
    teachers = {
        name: crop_teacher(
            teacher,
            height / rows,
            width / columns,
            (teacher.shape[-2] * height // rows, teacher.shape[-1] * width // columns),
        )
        for name, teacher in batch.teachers.items()
    }
    return replace(batch, **cut, intrinsics=intrinsics, teachers=teachers)


def crop_teacher(
    teacher: Shaped[Tensor, "b v c _ _"], rows: float, columns: float, size: tuple[int, int]
) -> Float[Tensor, "b v c y x"]:
    """The middle of feature maps, these shares of their rows and columns, at `size` (y, x).

    It is interpolated: a crop of an image seldom falls on the borders of cells many pixels wide.
    """
    flat = teacher.flatten(0, 1).float()
    theta = torch.diag(torch.tensor([columns, rows, 0.0], device=flat.device))[:2]
    grid = F.affine_grid(theta.expand(len(flat), 2, 3), [len(flat), 1, *size], align_corners=False)
    middle = F.grid_sample(flat, grid, align_corners=False, padding_mode="border")
    return middle.unflatten(0, teacher.shape[:2])


def crop_sizes(size: int, multiple: int = 8) -> list[tuple[int, int]]:
    """Heights and widths of batches of a source of this size, one for each of SHAPES."""

    def side(eighths: int) -> int:
        return max(multiple, size * eighths // 8 // multiple * multiple)

    return [(side(rows), side(columns)) for rows, columns in SHAPES]


Augment = Callable[[Batch, np.ndarray, int, np.random.Generator], Batch]
"""Changes a share of a step's sets at random; it is told which of how many they are."""


@runtime_checkable
class Source(Protocol):
    """Where sets of views come from."""

    size: int
    """Pixels along the longer side of a training image."""

    def batch(
        self, step: int, draw: Draw, own: np.ndarray, size: tuple[int, int],
        random: np.random.Generator,
    ) -> Batch:  # fmt: skip
        """The sets `own` of those that the step draws, cropped to one of `crop_sizes`.

        Random numbers are taken alike for any `own`.
        """
        ...

    def labels(self, level: str) -> Int[Tensor, "..."]:
        """Labels of one level as this source has them, of some thousands of pixels or more."""
        ...


class RoomSource:
    """Sets of views of rooms that are rendered already, drawn at random."""

    def __init__(self, rooms: Rooms, size: int):
        self.rooms = rooms
        self.size = size

    def batch(
        self, step: int, draw: Draw, own: np.ndarray, size: tuple[int, int],
        random: np.random.Generator,
    ) -> Batch:  # fmt: skip
        """Rooms and views at random; at most as many views as a room has."""
        pool = self.rooms.at(step)
        count, available = pool["depth"].shape[:2]
        views = np.argsort(random.random((draw.sets, available)), axis=1)[:, : draw.views]
        scenes = random.integers(count, size=draw.sets)
        return crop(batch_from_pool(pool, scenes[own], views[own]), *size)

    def labels(self, level: str) -> Int[Tensor, "..."]:
        """Those of the first rooms."""
        return torch.as_tensor(self.rooms.at(0)[level][:COUNTED])


class Batches(Dataset[Batch]):
    """Item `step` is the whole batch of that step, so a resumed run sees what it would have seen.

    The plan says which source a step draws from and how many views a set has; views of a set are
    ordered at random. Images are cropped to one of SHAPES, so that the network learns landscape
    and portrait too, and mirrored half of the time. Of the sets of a step, `rank` of `ranks` gets
    its share; `augment` is told which.
    """

    def __init__(
        self, sources: Sequence[Source], plan: Plan, *, seed: int, steps: int = 2**31 - 1,
        rank: int = 0, ranks: int = 1, multiple: int = 8, augment: Augment | None = None,
    ):  # fmt: skip
        self.sources = sources
        self.plan = plan
        self.seed = seed
        self.steps = steps
        self.rank = rank
        self.ranks = ranks
        self.multiple = multiple
        self.augment = augment

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        random = np.random.default_rng((self.seed, step))
        draw = self.plan[step]
        source = self.sources[draw.source]
        size = crop_sizes(source.size, self.multiple)[random.integers(len(SHAPES))]
        own = np.arange(self.rank, draw.sets, self.ranks)
        mirrored = random.random() < 0.5
        batch = source.batch(step, draw, own, size, random)
        if mirrored:
            batch = flip(batch)
        return self.augment(batch, own, draw.sets, random) if self.augment else batch
