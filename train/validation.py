"""A quick look at a network while it trains: a few metrics, and pictures of what it predicts."""

from collections.abc import Callable
from pathlib import Path

import lightning
import numpy as np
import torch
from jaxtyping import UInt8
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor

from data.clip import UNKNOWN
from ffsplat.io.atomic import atomic_output
from ffsplat.prediction import Prediction
from ffsplat.render.colors import depth_colors, label_colors, paint_labels, to_bytes
from train import metrics
from train.batches import Batch

DRAWN = 4
"""Sets that are drawn, with all their views."""


class Validation:
    """What is known of a network after the batches so far."""

    def __init__(self):
        self.values: dict[str, list[Tensor]] = {}
        self.counts: dict[str, Tensor] = {}
        self.sheet: UInt8[np.ndarray, "h w 3"] | None = None

    def add(self, prediction: Prediction, batch: Batch) -> None:
        """Measure one batch; depth is aligned by its median, rotations are the regressed ones."""
        mask = batch.depth > 0
        factor = metrics.median_scale(prediction.depth, batch.depth, mask)
        aligned = prediction.depth * factor[:, None, None, None]
        guess, truth = prediction.world_from_camera[:, 1:], batch.world_from_camera[:, 1:]
        for name, values in {
            "abs_rel": metrics.absolute_relative(aligned, batch.depth, mask),
            "delta1": metrics.delta1(aligned, batch.depth, mask),
            "rotation_deg": metrics.rotation_error(guess, truth),
            "translation_deg": metrics.direction_error(guess, truth),
        }.items():
            self.values.setdefault(name, []).append(values.flatten())
        for level in ("whole", "part"):
            logits, labels = getattr(prediction, f"{level}_logits"), getattr(batch, level)
            known = labels != UNKNOWN
            counts = metrics.confusion(logits.argmax(-1)[known], labels[known], logits.shape[-1])
            self.counts[level] = self.counts.get(level, torch.zeros_like(counts)) + counts
        if self.sheet is None:
            self.sheet = sheet(prediction, batch)

    def metrics(self, gather: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
        """Means by name; `gather` stacks a tensor over all processes."""
        sums = {
            name: torch.stack([(v := torch.cat(values)).nansum(), (~v.isnan()).sum()])
            for name, values in self.values.items()
        }
        counts = self.counts
        if gather is not None:
            sums = {name: gather(pair).sum(0) for name, pair in sums.items()}
            counts = {level: gather(count).sum(0) for level, count in counts.items()}
        means = {name: (total / count).item() for name, (total, count) in sums.items()}
        return means | {
            f"{title}_{level}": measure(count)
            for level, count in counts.items()
            for title, measure in (("accuracy", metrics.accuracy), ("miou", metrics.mean_iou))
        }

    def draw(self, trainer: lightning.Trainer, step: int) -> None:
        """Write the pictures of the first batch beside the run and to TensorBoard."""
        if self.sheet is None:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("views", self.sheet, step, dataformats="HWC")
        folder = Path(trainer.default_root_dir) / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_output(folder / f"step-{step:08d}.png", overwrite=True) as file:
            Image.fromarray(self.sheet).save(file, format="PNG")


def sheet(prediction: Prediction, batch: Batch) -> UInt8[np.ndarray, "h w 3"]:
    """A column a view: photo, true and predicted depth, true and predicted code and expected error.

    Depths of a column share their colours: the two are drawn as one picture, one above the other.
    """
    colors = label_colors(prediction.whole_logits.shape[-1])
    columns = []
    for one in range(min(DRAWN, len(batch.images))):
        factor = metrics.median_scale(prediction.depth, batch.depth, batch.depth > 0)[one]
        for view in range(batch.images.shape[1]):
            truth, guess = batch.depth[one, view], factor * prediction.depth[one, view]
            codes = prediction.whole_logits[one, view].argmax(-1)
            error = prediction.depth_error[one, view]
            pictures = [
                batch.images[one, view].movedim(0, -1).cpu().numpy(),
                depth_colors(torch.cat([truth, guess]).float().cpu().numpy()),
                paint_labels(torch.cat([batch.whole[one, view], codes]).cpu().numpy(), colors),
                depth_colors(error.float().cpu().numpy()),
            ]
            columns.append(np.concatenate(pictures))
    return to_bytes(np.concatenate(columns, axis=1))
