"""The Lightning module: one network, its losses, its optimiser and its moving average."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.distributed.tensor import DTensor

from ffsplat.config import ModelConfig
from ffsplat.errors import FFSplatError, UsageError
from train.batches import Batch
from train.dictionary import farthest_points
from train.export import STATE
from train.losses import FeatureNetwork
from train.network import build_network, compile_network, shard_network
from train.schedule import Clock, Schedule
from train.terms import TERMS, Step
from train.validation import Validation


@dataclass(frozen=True)
class Optimizer:
    """AdamW and what keeps it stable."""

    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    """Largest norm of the gradient."""
    bad_steps: int = 20
    """Steps with a gradient that is not finite are left out; so many in a row end the run."""
    average: float = 0.999
    """Decay of the moving average of the weights, which is what is measured and exported."""


@dataclass(frozen=True)
class Teacher:
    """Another network whose dense features the rows of level `whole` are learnt from."""

    name: str
    """What the clips call it."""
    width: int
    """Channels of its features."""
    space: str
    """The text space that they lie in, as the codebook names it: `open_clip:<arch>/<tag>`."""


@dataclass(frozen=True)
class Perceptual:
    """The network of the perceptual loss: timm's name, and a safetensors file or "random"."""

    name: str
    weights: str

    def network(self, seed: int) -> FeatureNetwork:
        """Build it; random weights are drawn by `seed`."""
        weights = "random" if self.weights == "random" else Path(self.weights)
        return FeatureNetwork(self.name, weights, seed=seed)


class TrainingModule(lightning.LightningModule):
    """Trains `network` by the sum of the `losses`, each a term of `train.terms` by its weight."""

    def __init__(
        self,
        network: ModelConfig,
        losses: dict[str, float],
        optimizer: Optimizer = Optimizer(),
        schedule: Schedule = Schedule(),  # noqa: B008 - frozen
        initial: Path | None = None,
        balance: float = 0.5,
        render_every: int = 1,
        code_stride: int = 2,
        teacher: Teacher | None = None,
        perceptual: Perceptual | None = None,
        compile: bool = False,
        seed: int = 0,
    ):
        """`initial` is a checkpoint folder to start from, else weights are drawn by `seed`.

        Rows are weighted by frequency ** -`balance`. Every `render_every` steps sets of three views
        or more keep their last one back, to be rendered from the others' Gaussians; 0 is never.
        Labels are alike in neighbouring pixels: one of `code_stride` x `code_stride` is scored,
        each in its turn. Raises UsageError for unknown losses or an `initial` of another shape.
        """
        super().__init__()
        check_losses(losses, teacher is not None, perceptual is not None, code_stride)
        self.network = build_network(network, initial, seed)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        if compile:
            compile_network(self.network)
        self.loss_weights = losses
        self.settings = optimizer
        self.schedule = schedule
        self.clock = Clock(schedule.clock)
        self.seconds_before = 0.0
        self.balance = balance
        self.render_every = render_every
        self.code_stride = code_stride
        # Tensors, so that no step waits for the one before: now in a row, most in a row, in all.
        self.bad_steps = torch.zeros(3)
        self.class_weights: Mapping[str, Tensor] | None = None
        self.validation = Validation()
        self.teacher = teacher
        self.dictionary: torch.nn.Parameter | None = None
        if teacher is not None:
            self.dictionary = torch.nn.Parameter(torch.zeros(network.whole_rows, teacher.width))
        # In a tuple, so that its frozen weights are no part of the module's checkpoints.
        self.features = () if perceptual is None else (perceptual.network(seed),)

    # Training

    def configure_model(self) -> None:
        """Shard the weights where the strategy shards (FSDP2), block by block."""
        if self.device_mesh is not None:
            for network in (self.network, self.average):
                shard_network(network, self.device_mesh["data_parallel"])

    def training_step(self, batch: Batch, index: int) -> Float[Tensor, ""]:
        """Forward, and the weighted sum of the losses."""
        stride = self.code_stride
        turn = self.global_step % stride**2
        pixels = (slice(turn // stride, None, stride), slice(turn % stride, None, stride))
        renders = self.render_every and self.global_step % self.render_every == 0
        keeps_back = renders and batch.images.shape[1] > 2
        target = batch.views(slice(-1, None)) if keeps_back else None
        given = batch if target is None else batch.views(slice(0, -1))
        prediction = self.network(given.images, code_pixels=pixels)
        # Geometry in half precision would move the true matches by a good part of a pixel.
        with torch.autocast(self.device.type, enabled=False):
            step = Step(
                prediction, given, self.global_step, pixels, target, self.class_weights,
                next(iter(self.features), None), self.dictionary,
                self.teacher.name if self.teacher else "",
            )  # fmt: skip
            terms = {name: TERMS[name](step) for name in self.loss_weights}
            total = torch.stack([self.loss_weights[name] * terms[name] for name in terms]).sum()
        if self.logs_at(self.global_step + 1):
            values = {f"loss/{name}": value.detach() for name, value in terms.items()}
            self.log_dict(values | {"loss": total.detach()}, sync_dist=True)
        return total

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Lightning does not move frozen dataclasses by itself."""
        return batch.to(device)

    def on_train_start(self) -> None:
        """Go on with the clock; weigh the rows by how often they occur in what is trained on."""
        self.clock.start(self.seconds_before)
        if self.teacher is not None:
            self.trainer.datamodule.check_teacher(**vars(self.teacher))  # pyright: ignore[reportAttributeAccessIssue]
        for network in self.features:
            network.to(self.device)
        if self.class_weights is None:
            data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
            self.class_weights = {
                level: row_weights(frequency, self.balance)
                for level, frequency in data.label_frequencies(self.network.config).items()
            }
        self.class_weights = {k: v.to(self.device) for k, v in self.class_weights.items()}
        if self.dictionary is not None and not self.dictionary.any():
            self.dictionary.data = self._first_rows(self.dictionary.shape[0]).to(self.device)

    def _first_rows(self, count: int) -> Float[Tensor, "rows d"]:
        """Features of the teacher that differ most, from the first clips; the same at every rank.

        Raises UsageError if the clips do not have the teacher.
        """
        assert self.teacher is not None
        teachers = self.trainer.datamodule.first_batch().teachers  # pyright: ignore[reportAttributeAccessIssue]
        if self.teacher.name not in teachers:
            raise UsageError(f"the clips have no teacher {self.teacher.name!r}")
        return farthest_points(teachers[self.teacher.name].movedim(2, -1).flatten(0, 3), count)

    def configure_gradient_clipping(
        self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
    ) -> None:
        """Clip the gradient by its norm; without a finite norm the step leaves all as it is.

        The fused optimiser sees to that itself: to ask here would let a GPU run dry in every step.
        Raises FFSplatError after too many such steps in a row, at most as many steps later.
        """
        norm = torch.nn.utils.clip_grad_norm_(self._learnt(), self.settings.clip)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        bad = (~norm.isfinite()).float()
        optimizer.found_inf = bad  # pyright: ignore[reportAttributeAccessIssue]
        row, most, total = self.bad_steps.to(bad.device)
        row = (row + 1) * bad
        self.bad_steps = torch.stack([row, torch.maximum(most, row), total + bad])
        patience = self.settings.bad_steps
        if self.global_step % patience == 0 and self.bad_steps[1] >= patience:
            raise FFSplatError(
                f"the gradient was not finite in {patience} steps in a row",
                hint="lower the learning rate or train in float32",
            )

    @torch.no_grad()
    def on_train_batch_end(self, outputs, batch: Batch, batch_idx: int) -> None:
        """Move the average along; its window grows with the run, so that it forgets the start."""
        step = self.global_step
        share = 1 - min(self.settings.average, (1 + step) / (10 + step))
        mean, newest = tuple(self.average.parameters()), tuple(self.network.parameters())
        torch._foreach_lerp_(mean, newest, share)  # pyright: ignore[reportPrivateImportUsage]
        if self.logs_at(step):
            self.log("bad_steps", self.bad_steps[2])
        if self.done >= 1:
            self.trainer.should_stop = True

    def _learnt(self) -> list[torch.nn.Parameter]:
        own = [] if self.dictionary is None else [self.dictionary]
        return [*self.network.parameters(), *own]

    def logs_at(self, step: int) -> bool:
        """Whether the trainer logs after this many steps."""
        return step % self.trainer.log_every_n_steps == 0  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def done(self) -> float:
        """Share of the run that lies behind."""
        return self.schedule.done(self.global_step, self.trainer.max_steps, self.clock.seconds)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW without decay on vectors and the dictionary's rows, and the schedule."""
        settings = self.settings
        matrices = [p for p in self.network.parameters() if p.ndim > 1]
        vectors = [p for p in self._learnt() if p.ndim <= 1 or p is self.dictionary]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=settings.betas,
            fused=True,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.schedule.rate(step, self.done)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is neither a weight nor the optimiser's."""
        checkpoint[STATE] = {
            "config": self.network.config.to_json(),
            "seconds": self.clock.seconds,
            "bad_steps": int(self.bad_steps[2]),
            "class_weights": self.class_weights,
            "space": self.teacher.space if self.teacher else "",
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        state = checkpoint[STATE]
        self.seconds_before = state["seconds"]
        self.bad_steps = torch.tensor([0.0, 0.0, state["bad_steps"]])
        self.class_weights = state["class_weights"]

    # Validation

    def validation_step(self, batch: Batch, index: int) -> None:
        """Measure the moving average."""
        self.validation.add(self.average(batch.images), batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics; the first rank draws what was predicted."""
        gather = self.trainer.strategy.all_gather if self.trainer.world_size > 1 else None
        self.log_dict(self.validation.metrics(gather), rank_zero_only=True)
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            self.validation.draw(self.trainer, self.global_step)
        self.validation = Validation()

    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end


TAUGHT = {"teacher_cosine", "teacher_l1", "teacher_code", "dictionary", "load_balance", "affinity"}
"""Losses that need a teacher."""
DENSE = {"render_code", "view_agreement"}
"""Losses that need a code at every pixel."""


def check_losses(
    losses: Mapping[str, float], teacher: bool, perceptual: bool, code_stride: int
) -> None:
    """Raise UsageError for losses that do not exist or lack what they need."""
    if unknown := sorted(set(losses) - set(TERMS)):
        raise UsageError(
            f"unknown losses: {', '.join(unknown)}", hint=f"known: {', '.join(sorted(TERMS))}"
        )
    lacking = {
        "set model.teacher": set() if teacher else TAUGHT & set(losses),
        "set model.perceptual": set() if perceptual else {"render_perceptual"} & set(losses),
        "set model.code_stride to 1": DENSE & set(losses) if code_stride > 1 else set(),
    }
    for hint, names in lacking.items():
        if names:
            raise UsageError(f"the recipe lacks what {', '.join(sorted(names))} needs", hint=hint)


def row_weights(frequency: Float[Tensor, " rows"], balance: float) -> Float[Tensor, " rows"]:
    """Cross-entropy weights frequency ** -balance, at most 30 times apart, mean 1 over pixels.

    At 1/2 it is the square-root rule of Mikolov et al. (2013), which keeps rare classes alive
    without letting a few pixels rule the loss.
    """
    if not len(frequency):  # a codebook without rows of this level
        return frequency
    weights = frequency.clamp(min=1e-6) ** -balance
    weights = torch.minimum(weights, 30 * weights.min())
    return weights / (weights * frequency).sum().clamp(min=1e-6)
