"""The data of a run: training batches from any mix of sources, and rooms to validate on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from data.clip import UNKNOWN
from data.rooms import SPLITS, load_atlas
from data.shards import ShardDataset
from data.teachers.record import read_records
from ffsplat.config import ModelConfig
from ffsplat.errors import UsageError
from train.batches import Batch, Batches, RoomSource, Source, batch_from_pool
from train.clips import ClipSource, ResidentSource
from train.jitter import Jitter
from train.occlude import occlude
from train.plan import Plan
from train.rooms import EndlessRooms, FixedRooms, RoomSettings, read_pool, render_pool

CLIP = 4
"""Views of a held-out clip, at least; those that are looked at are spread over it."""


@dataclass(frozen=True)
class SourceSettings:
    """One source; exactly one of `rooms`, `pool` and `shards` is set."""

    rooms: RoomSettings | None = None
    """Rooms made while the network trains, on the device that trains."""
    pool: Path | None = None
    """Rooms rendered before (`python -m data pool`)."""
    shards: str | None = None
    """Clips of any origin: a folder or address with an index (`python -m data convert`)."""
    size: int = 128
    """Pixels along the longer side that clips of shards are resized to."""
    resident: bool = False
    """Read all clips of the shards at the start and keep them on the device that trains, without
    teachers: steps see the same sets as without it, but none reads a file."""
    share: float = 1.0
    """How often steps draw from it, beside the other sources."""

    def __post_init__(self):
        if sum(value is not None for value in (self.rooms, self.pool, self.shards)) != 1:
            raise UsageError("a source is one of: rooms, pool, shards")
        if self.resident and self.shards is None:
            raise UsageError("only shards can be resident", hint="rooms and pools always are")


@dataclass(frozen=True)
class HeldOut:
    """What a run is validated and tested on: rooms of splits that are not trained on."""

    rooms: int = 64
    views: int = 2
    size: int = 64
    sets: int = 8
    """Sets at once."""


class TrainingData(lightning.LightningDataModule):
    """Batches that depend on nothing but the seed and the step.

    `workers` processes furnish rooms, `readers` processes read shards. `textures` holds photo tiles
    for the rooms.
    """

    def __init__(
        self,
        sources: list[SourceSettings],
        images: int = 32,
        view_counts: list[int] = [2, 2, 3, 4],  # noqa: B006 - never written to
        jitter: Jitter = Jitter(),
        occluded: float = 0.0,
        held_out: HeldOut = HeldOut(),
        textures: Path | None = None,
        workers: int = 0,
        readers: int = 0,
        seed: int = 0,
    ):
        """A step has `images` images; divided by its view count this is its number of sets.

        A share `occluded` of the sets gets near things in front of it that move with the camera.
        """
        super().__init__()
        if any(source.rooms for source in sources) and readers:
            raise UsageError("rooms are made where the network trains: set readers to 0")
        if any(source.resident for source in sources) and readers:
            raise UsageError("resident clips lie where the network trains: set readers to 0")
        self.settings = sources
        self.images = images
        self.view_counts = view_counts
        self.jitter = jitter
        self.occluded = occluded
        self.held_out = held_out
        self.textures = textures
        self.workers = workers
        self.readers = readers
        self.seed = seed
        self.batches: Batches | None = None

    def setup(self, stage: str) -> None:
        """Open the sources."""
        self.atlas = load_atlas(self.textures) if self.textures else None
        if stage != "fit":
            return
        assert self.trainer is not None
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        shares = [settings.share for settings in self.settings]
        self.plan = Plan(shares, self.images, self.view_counts, self.seed, ranks)
        # A patch is a power of two: crops are whole tokens, and of pixels that labels can skip.
        module: Any = self.trainer.lightning_module
        self.multiple = max(8, module.network.config.patch)
        sources = [self._open(settings, rank, ranks) for settings in self.settings]
        self.batches = Batches(
            sources, self.plan, seed=self.seed, rank=rank, ranks=ranks, multiple=self.multiple,
            augment=self._augment,
        )  # fmt: skip

    def _augment(
        self, batch: Batch, own: np.ndarray, sets: int, random: np.random.Generator
    ) -> Batch:
        batch = occlude(batch, self.occluded, own, sets, random)
        return replace(batch, images=self.jitter(batch.images, own, sets, random))

    def _open(self, settings: SourceSettings, rank: int, ranks: int) -> Source:
        if settings.pool is not None:
            pool = read_pool(settings.pool)
            return RoomSource(FixedRooms(pool), pool["depth"].shape[-1])
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        if settings.rooms is not None:
            rooms = EndlessRooms(settings.rooms, self.atlas, device, self.workers, rank, ranks)
            return RoomSource(rooms, settings.rooms.size)
        assert settings.shards is not None
        clips = ShardDataset(settings.shards)
        if settings.resident:
            return ResidentSource(clips, settings.size, self.seed, device, self.multiple)
        return ClipSource(clips, settings.size, self.seed)

    def label_frequencies(self, config: ModelConfig) -> dict[str, Float[Tensor, " rows"]]:
        """How often each row is met by its level, by the shares of the sources; they sum to 1."""
        assert self.batches is not None
        rows = {"whole": config.whole_rows, "part": config.part_rows}
        return {
            level: sum_frequencies(
                [source.labels(level) for source in self.batches.sources], count, self.plan.shares
            )
            for level, count in rows.items()
        }

    def check_teacher(self, name: str, width: int, space: str) -> None:
        """Raise UsageError if shards at hand say that this teacher is another one."""
        for settings in self.settings:
            records = read_records(Path(settings.shards)) if settings.shards else {}
            if name in records and (records[name].width, records[name].space) != (width, space):
                raise UsageError(
                    f"the teacher {name} of {settings.shards} has {records[name].width} channels "
                    f"in the space {records[name].space}, the recipe says {width} in {space}",
                    hint="set model.teacher as teachers.json has it",
                )

    def first_batch(self) -> Batch:
        """The first step as one process would see it, without jitter: the same at every rank."""
        assert self.batches is not None
        batches = Batches(self.batches.sources, self.plan, seed=self.seed, multiple=self.multiple)
        return batches[0]

    def train_dataloader(self) -> DataLoader:
        """Batches from the step that the run stands at."""
        assert self.batches is not None
        return DataLoader(
            self.batches,
            batch_size=None,
            sampler=_FromStep(self.batches, self.trainer),
            num_workers=self.readers,
            persistent_workers=self.readers > 0,
        )

    def val_dataloader(self) -> DataLoader:
        """Rooms of the split `preview`."""
        return self._held_out("preview")

    def test_dataloader(self) -> DataLoader:
        """Rooms of the newest held-out split."""
        return self._held_out(max(name for name in SPLITS if name.startswith("heldout")))

    def _held_out(self, split: str) -> DataLoader:
        assert self.trainer is not None
        held = self.held_out
        clip = max(CLIP, held.views)
        pool = render_pool(SPLITS[split][: held.rooms], clip, held.size, self.atlas)
        views = np.linspace(0, clip - 1, held.views).round().astype(int)
        starts = np.arange(self.trainer.global_rank, held.rooms, self.trainer.world_size)
        sets = [
            batch_from_pool(pool, rows, np.tile(views, (len(rows), 1)))
            for rows in np.split(starts, range(held.sets, len(starts), held.sets))
        ]
        return DataLoader(_Listed(sets), batch_size=None)


def sum_frequencies(
    labels: Sequence[Int[Tensor, "..."]], rows: int, shares: Float[np.ndarray, " n"]
) -> Float[Tensor, " rows"]:
    """Frequencies of rows over n sources of these shares; unknown labels count nowhere."""
    total = torch.zeros(rows, dtype=torch.float64)
    for found, share in zip(labels, shares, strict=True):
        known = found[found != UNKNOWN].flatten().cpu().int()
        counts = torch.bincount(known, minlength=rows)[:rows].double()
        total += share * counts / counts.sum().clamp(min=1)
    return (total / total.sum().clamp(min=1e-12)).float()


class _Listed(Dataset[Batch]):
    """Batches that are made already."""

    def __init__(self, batches: Sequence[Batch]):
        self.made = batches

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, index: int) -> Batch:
        return self.made[index]


class _FromStep(SequentialSampler):
    """Indices from the step that a run stands at, so that resuming goes on where it stopped."""

    def __init__(self, dataset: Batches, trainer: lightning.Trainer | None):
        super().__init__(dataset)
        self.trainer = trainer

    def __iter__(self):
        assert self.trainer is not None
        first = self.trainer.global_step * self.trainer.accumulate_grad_batches
        return iter(range(first, len(self.data_source)))
