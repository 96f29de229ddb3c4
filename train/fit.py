"""One run: from a recipe and a pool to checkpoints that can be resumed and exported."""

import logging
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from timm.layers.config import set_fused_attn
from torch.utils.data import DataLoader, SequentialSampler

from ffsplat.config import ModelConfig
from ffsplat.errors import UsageError
from ffsplat.model import FFSplat
from train.batches import PoolBatches, read_pool
from train.module import TrainingModule
from train.recipe import Recipe

LAST = "last.ckpt"
logger = logging.getLogger(__name__)


def class_weights(labels: np.ndarray, rows: int) -> torch.Tensor:
    """Cross-entropy weights 1 / sqrt(frequency), at most 30 times apart, mean 1 over pixels.

    Source: the square-root rule of Mikolov et al. (2013), which keeps rare classes alive without
    letting a few pixels rule the loss.
    """
    frequency = np.bincount(labels.ravel(), minlength=rows)[:rows] / labels.size
    weights = np.clip(frequency, 1e-6, None) ** -0.5
    weights = np.minimum(weights, 30 * weights.min())
    return torch.from_numpy((weights / (weights * frequency).sum()).astype(np.float32))


class FromStep(SequentialSampler):
    """Indices from the step that a run stands at, so that resuming goes on where it stopped."""

    def __init__(self, dataset: PoolBatches, trainer: lightning.Trainer):
        super().__init__(dataset)
        self.trainer = trainer

    def __iter__(self):
        return iter(range(self.trainer.global_step, len(self.data_source)))


class Validation(Callback):
    """Every so many steps, the quick metrics of the moving average go to the log."""

    def __init__(self, pool: dict[str, np.ndarray], every: int):
        self.pool = pool
        self.every = every

    def on_train_batch_end(self, trainer, pl_module: Any, outputs, batch, batch_idx) -> None:
        """Validate when it is time."""
        if trainer.global_step % self.every == 0:
            from train.evaluate import quick_validation

            network = pl_module.average.module
            metrics = quick_validation(network, self.pool, 64)
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
    _same_shape(network.config, recipe.model)
    return network.train()


def _same_shape(found: ModelConfig, wanted: ModelConfig) -> None:
    free = {"name", "resolution", "license"}
    for key, value in vars(wanted).items():
        if key not in free and getattr(found, key) != value:
            raise UsageError(f"the checkpoint has {key} {getattr(found, key)}, the recipe {value}")


def fit(
    recipe: Recipe,
    *,
    pool: Path,
    validation: Path | None,
    out: Path,
    initial: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    save_every: int = 500,
    validate_every: int = 2000,
) -> None:
    """Train to the recipe's last step; `out` gets last.ckpt, metrics.csv and nothing else."""
    if not resume and (out / LAST).exists():
        raise UsageError(f"{out / LAST} already exists", hint="--resume, or another --out")
    # On CPUs the backward pass of the fused kernel costs four times the explicit one.
    set_fused_attn(torch.cuda.is_available() and device != "cpu")
    arrays = read_pool(pool)
    module = TrainingModule(
        build_network(recipe, initial),
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        warmup=recipe.warmup,
        decay=recipe.decay,
        average_decay=recipe.average_decay,
        render_every=recipe.render_every,
        loss_weights=recipe.losses,
        class_weights={
            "whole": class_weights(arrays["whole"][:200], recipe.model.whole_rows),
            "part": class_weights(arrays["part"][:200], recipe.model.part_rows),
        },
    )
    callbacks: list[Callback] = [
        ModelCheckpoint(
            dirpath=out, filename="last", every_n_train_steps=save_every,
            enable_version_counter=False,
        )
    ]  # fmt: skip
    if validation is not None:
        callbacks.append(Validation(read_pool(validation), validate_every))
    trainer = lightning.Trainer(
        max_steps=recipe.steps,
        accelerator=device,
        devices=1,
        precision=recipe.precision,  # pyright: ignore[reportArgumentType]
        gradient_clip_val=1.0,
        callbacks=callbacks,
        logger=CSVLogger(out, name="", version="", flush_logs_every_n_steps=50),
        log_every_n_steps=50,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    dataset = PoolBatches(
        arrays, images=recipe.images, view_counts=recipe.view_counts, steps=recipe.steps,
        seed=recipe.seed,
    )  # fmt: skip
    loader = DataLoader(dataset, batch_size=None, sampler=FromStep(dataset, trainer))
    path = out / LAST if resume and (out / LAST).exists() else None
    trainer.fit(module, loader, ckpt_path=path)
    trainer.save_checkpoint(out / LAST)
