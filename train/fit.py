"""One run: from a recipe and rooms to checkpoints that can be resumed and exported."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from lightning.pytorch.loggers import CSVLogger
from torch.fx.experimental import _config as fx_config
from torch.utils.data import DataLoader, SequentialSampler

from data.rooms import load_atlas
from ffsplat.config import ModelConfig
from ffsplat.errors import UsageError
from ffsplat.model import FFSplat
from train.batches import RoomBatches
from train.module import LOG_EVERY, TrainingModule
from train.recipe import Recipe
from train.rooms import EndlessRooms, FixedRooms, Pool, Rooms, read_pool

LAST = "last.ckpt"
logger = logging.getLogger(__name__)


def class_weights(labels: np.ndarray | torch.Tensor, rows: int) -> torch.Tensor:
    """Cross-entropy weights 1 / sqrt(frequency), at most 30 times apart, mean 1 over pixels.

    Source: the square-root rule of Mikolov et al. (2013), which keeps rare classes alive without
    letting a few pixels rule the loss.
    """
    flat = torch.as_tensor(labels).flatten()
    frequency = torch.bincount(flat.int(), minlength=rows)[:rows].cpu() / len(flat)
    weights = frequency.clamp(min=1e-6) ** -0.5
    weights = torch.minimum(weights, 30 * weights.min())
    return weights / (weights * frequency).sum()


class FromStep(SequentialSampler):
    """Indices from the step that a run stands at, so that resuming goes on where it stopped."""

    def __init__(self, dataset: RoomBatches, trainer: lightning.Trainer):
        super().__init__(dataset)
        self.trainer = trainer

    def __iter__(self):
        return iter(range(self.trainer.global_step, len(self.data_source)))


class Validation(Callback):
    """Every so many steps, the quick metrics of the moving average go to the log."""

    def __init__(self, pool: Pool, every: int):
        self.pool = pool
        self.every = every

    def on_train_batch_end(self, trainer, pl_module: Any, outputs, batch, batch_idx) -> None:
        """Validate when it is time."""
        if trainer.global_step % self.every == 0:
            from train.evaluate import quick_validation

            metrics = quick_validation(pl_module.average, self.pool, 64)
            pl_module.log_dict(metrics)
            logger.info("step %d: %s", trainer.global_step, _line(metrics))


def _line(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def build_network(recipe: Recipe, initial: Path | None) -> FFSplat:
    """A fresh network by the recipe's seed, or one that starts from a checkpoint folder."""
    if initial is None:
        lightning.seed_everything(recipe.seed, verbose=False)
        return FFSplat(recipe.model)
    from ffsplat.hub import load_checkpoint

    network, _ = load_checkpoint(initial)
    check_shape(network.config, recipe.model)
    return network.train()


def check_shape(found: ModelConfig, wanted: ModelConfig) -> None:
    """Raise UsageError if a checkpoint's network is not the one that is wanted."""
    free = {"name", "resolution", "license"}
    for key, value in vars(wanted).items():
        if key not in free and getattr(found, key) != value:
            raise UsageError(f"the checkpoint has {key} {getattr(found, key)}, not {value}")


def find_rooms(
    recipe: Recipe, pool: Path | None, textures: Path | None, device: torch.device, workers: int
) -> Rooms:
    """The rooms of the folder `pool`, or, without one, endless new ones on `device`."""
    if pool is not None:
        return FixedRooms(read_pool(pool))
    atlas = load_atlas(textures) if textures else None
    return EndlessRooms(recipe.rooms, atlas, device, workers)


def build_module(recipe: Recipe, network: FFSplat, pool: Pool, minutes: float | None):
    """The training module of a recipe; classes are weighted by how often they occur in `pool`."""
    return TrainingModule(
        network,
        steps=recipe.steps,
        minutes=minutes,
        learning_rate=recipe.learning_rate,
        warmup=recipe.warmup,
        decay=recipe.decay,
        average_decay=recipe.average_decay,
        render_every=recipe.render_every,
        loss_weights=recipe.losses,
        class_weights={
            "whole": class_weights(pool["whole"][:200], recipe.model.whole_rows),
            "part": class_weights(pool["part"][:200], recipe.model.part_rows),
        },
    )


def build_trainer(
    recipe: Recipe, out: Path, device: str, save_every: int, callbacks: list[Callback]
) -> lightning.Trainer:
    """A trainer that writes last.ckpt and metrics.csv to `out`, and is quiet otherwise."""
    checkpoint = ModelCheckpoint(
        dirpath=out, filename="last", every_n_train_steps=save_every, enable_version_counter=False
    )
    return lightning.Trainer(
        max_steps=recipe.steps,
        accelerator=device,
        devices=1,
        precision=recipe.precision,  # pyright: ignore[reportArgumentType]
        gradient_clip_val=1.0,
        callbacks=[checkpoint, *callbacks],
        logger=CSVLogger(out, name="", version="", flush_logs_every_n_steps=LOG_EVERY),
        log_every_n_steps=LOG_EVERY,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def compile_network(network: FFSplat) -> None:
    """Fuse the kernels of the decoder and the blocks, once for all sizes.

    The stem is left out: torch 2.11 cannot compile it for a GPU with sizes left open.
    """
    # Or two sides that happen to be equal are taken to be one, and other images compile anew.
    fx_config.use_duck_shape = False
    for part in (network.decoder, *network.blocks):
        part.compile(dynamic=True)


def fit(
    recipe: Recipe,
    *,
    out: Path,
    pool: Path | None = None,
    textures: Path | None = None,
    workers: int = 0,
    validation: Path | None = None,
    initial: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    minutes: float | None = None,
    compile_parts: bool = False,
    save_every: int = 500,
    validate_every: int = 2000,
) -> None:
    """Train to the recipe's last step; `out` gets last.ckpt, metrics.csv and nothing else.

    Rooms come from `pool`, or are made by `workers` processes with photo `textures` as training
    goes on. With `minutes` the run ends at that time at the latest, its learning rate at zero.
    `compile_parts` costs a minute at first; on a GPU a step is then a third quicker.
    """
    if not resume and (out / LAST).exists():
        raise UsageError(f"{out / LAST} already exists", hint="--resume, or another --out")
    on_gpu = torch.cuda.is_available() and device != "cpu"
    rooms = find_rooms(recipe, pool, textures, torch.device("cuda" if on_gpu else "cpu"), workers)
    module = build_module(recipe, build_network(recipe, initial), rooms.at(0), minutes)
    if compile_parts:
        compile_network(module.network)
    callbacks: list[Callback] = []
    if minutes is not None:
        callbacks.append(Timer(timedelta(minutes=minutes)))
    if validation is not None:
        callbacks.append(Validation(read_pool(validation), validate_every))
    trainer = build_trainer(recipe, out, device, save_every, callbacks)
    batches = RoomBatches(
        rooms, images=recipe.images, view_counts=recipe.view_counts, steps=recipe.steps,
        seed=recipe.seed,
    )  # fmt: skip
    loader = DataLoader(batches, batch_size=None, sampler=FromStep(batches, trainer))
    path = out / LAST if resume and (out / LAST).exists() else None
    trainer.fit(module, loader, ckpt_path=path, weights_only=True)
    trainer.save_checkpoint(out / LAST)
