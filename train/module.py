"""The Lightning module: one network, its losses, its optimiser and its moving average."""

import copy
import time
from collections.abc import Mapping
from dataclasses import replace

import lightning
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from ffsplat.geometry import vector_from_rotation
from ffsplat.merge import gaussians_from_prediction
from ffsplat.model import ALL_PIXELS, FFSplat
from ffsplat.prediction import Prediction
from train import losses
from train.batches import Batch
from train.novel_view import rescale, splat

LOG_EVERY = 50
"""Steps from one line of the log to the next."""
SAMPLED_CELLS = 256
"""Cells of a view whose matches are learnt in one step."""
SAMPLED_PIXELS = 192
"""Pixels of a set that the instance loss compares with each other."""


def mean_depth(batch: Batch) -> Float[Tensor, " b"]:
    """Mean z-depth of each set, in metres, over the pixels that have one."""
    known = batch.depth > 0
    return (batch.depth * known).sum((1, 2, 3)) / known.sum((1, 2, 3))


class TrainingModule(lightning.LightningModule):
    """Direct supervision of `network`; `average` is what is evaluated and exported."""

    def __init__(
        self,
        network: FFSplat,
        *,
        steps: int,
        minutes: float | None = None,
        learning_rate: float = 1.5e-3,
        warmup: int = 150,
        decay: float = 0.2,
        weight_decay: float = 0.05,
        average_decay: float = 0.999,
        render_every: int = 0,
        loss_weights: Mapping[str, float],
        class_weights: Mapping[str, Tensor],
    ):
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.average_decay = average_decay
        self.steps = steps
        self.minutes = minutes
        self.began = time.monotonic()
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.decay = decay
        self.weight_decay = weight_decay
        self.render_every = render_every
        self.loss_weights = dict(loss_weights)
        self.whole_weights: Tensor
        self.part_weights: Tensor
        self.register_buffer("whole_weights", class_weights["whole"])
        self.register_buffer("part_weights", class_weights["part"])

    def training_step(self, batch: Batch, step: int) -> Float[Tensor, ""]:
        """Forward, and the weighted sum of the losses.

        Every `render_every` steps, sets of three views or more keep their last one back: it is
        rendered from the others' Gaussians.
        """
        # Labels are alike in 2x2 pixels: one of the four, each in its turn, teaches nearly as much.
        turn = self.global_step % 4
        pixels = (slice(turn // 2, None, 2), slice(turn % 2, None, 2))
        renders = self.render_every and self.global_step % self.render_every == 0
        target = batch.views(slice(-1, None)) if renders and batch.images.shape[1] > 2 else None
        given = batch if target is None else batch.views(slice(0, -1))
        prediction = self.network(given.images, code_pixels=pixels)
        # Geometry in half precision would move the true matches by a good part of a pixel.
        with torch.autocast(self.device.type, enabled=False):
            terms = self.losses(prediction, given, pixels)
            if target is not None:
                terms["render"] = self._render_loss(prediction, given, target)
            total = torch.stack([self.loss_weights[name] * terms[name] for name in terms]).sum()
        if (self.global_step + 1) % LOG_EVERY == 0:
            self.log_dict({**terms, "total": total})
        return total

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Lightning does not move frozen dataclasses by itself."""
        return batch.to(device)

    def on_train_start(self) -> None:
        """Start the clock of a run that is bounded by time."""
        self.began = time.monotonic()

    @torch.no_grad()
    def on_train_batch_end(self, outputs, batch: Batch, batch_idx: int) -> None:
        """Move the average along; its window grows with the run, so that it forgets the start."""
        step = self.global_step
        share = 1 - min(self.average_decay, (1 + step) / (10 + step))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for mean, newest in pairs:
            mean.lerp_(newest, share)

    def losses(
        self, prediction: Prediction, batch: Batch, pixels: tuple[slice, slice] = ALL_PIXELS
    ) -> dict[str, Float[Tensor, ""]]:
        """Every loss by name, unweighted; lengths are compared in units of the set's mean depth."""
        mask = batch.depth > 0
        depth = torch.where(mask, batch.depth, 1.0)
        mean = mean_depth(batch)
        log_truth = (depth / mean[:, None, None, None]).log()
        log_depth = (prediction.depth / prediction.scale[:, None, None, None]).log()
        actual = (log_depth - log_truth).abs()
        whole, part = (label[:, :, *pixels] for label in (batch.whole, batch.part))
        truth, guess = batch.world_from_camera, prediction.world_from_camera
        moving = slice(1, None)
        focal = (prediction.intrinsics[..., 0, 0] / batch.intrinsics[..., 0, 0]).log().abs().mean()
        return {
            "depth": losses.depth_loss(log_depth, log_truth, mask),
            "gradient": losses.gradient_loss(log_depth, log_truth, mask),
            "error": losses.error_loss(prediction.depth_error, actual, mask),
            "scale": (prediction.scale / mean).log().abs().mean(),
            "rotation": losses.pose_loss(
                vector_from_rotation(guess[:, moving, :3, :3]),
                vector_from_rotation(truth[:, moving, :3, :3]),
            ),
            "translation": losses.pose_loss(
                guess[:, moving, :3, 3] / prediction.scale[:, None, None],
                truth[:, moving, :3, 3] / mean[:, None, None],
            ),
            "focal": focal,
            "whole": losses.code_loss(prediction.whole_logits, whole, self.whole_weights),
            "part": losses.code_loss(prediction.part_logits, part, self.part_weights),
            "instance": self._instance_loss(prediction, batch),
            **self._match_losses(prediction, batch),
        }

    def _render_loss(self, prediction: Prediction, given: Batch, target: Batch) -> Tensor:
        """L1 of an unseen view, splatted in metres and with the true cameras.

        True poses keep an early rendering loss from fighting over the frame (YoNoSplat, 2025).
        """
        framed = replace(
            rescale(prediction, mean_depth(given) / prediction.scale),
            world_from_camera=given.world_from_camera,
            intrinsics=given.intrinsics,
        )
        truth = target.images[:, 0]
        image = splat(
            gaussians_from_prediction(framed), target.world_from_camera[:, 0],
            target.intrinsics[:, 0], (truth.shape[-2], truth.shape[-1]),
            given.images.mean((1, 3, 4)),
        )  # fmt: skip
        return (image - truth).abs().mean()

    def _instance_loss(self, prediction: Prediction, batch: Batch) -> Float[Tensor, ""]:
        embeddings = prediction.instances.flatten(1, 3)
        random = torch.Generator().manual_seed(self.global_step)
        sample = torch.randint(embeddings.shape[1], (SAMPLED_PIXELS,), generator=random)
        sample = sample.to(embeddings.device)
        return losses.instance_loss(embeddings[:, sample], batch.identity.flatten(1)[:, sample])

    def _match_losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        # Indices stay on the CPU: to filter them on a GPU would wait for all that it has to do.
        index = torch.arange(batch.images.shape[1])
        source, target = torch.cartesian_prod(index, index).T
        source, target = source[source != target], target[source != target]
        to_reference = target == 0
        return {
            "match": self._match_loss(prediction.descriptors, batch, source, target),
            "token_match": self._match_loss(
                prediction.token_descriptors, batch, source[to_reference], target[to_reference]
            ),
        }

    def _match_loss(self, descriptors, batch: Batch, source, target) -> Tensor:
        stride = batch.images.shape[-1] // descriptors.shape[-2]
        places, visible = losses.correspondences(
            batch.depth, batch.intrinsics, batch.world_from_camera, source, target, stride
        )
        cells = torch.arange(places.shape[2])
        if len(cells) > SAMPLED_CELLS:
            random = torch.Generator().manual_seed(self.global_step)
            cells = torch.randperm(len(cells), generator=random)[:SAMPLED_CELLS]
        return losses.match_loss(
            descriptors, places[:, :, cells], visible[:, :, cells], source, target, stride, cells
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; constant rate after a warm-up, then a linear decay to zero over the last part.

        A run without its decay can be resumed and lengthened at any time.
        Source: Haegele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed
        Training Durations", 2024.
        """
        matrices = [p for p in self.network.parameters() if p.ndim > 1]
        vectors = [p for p in self.network.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=self.learning_rate,
            betas=(0.9, 0.99),
        )

        def rate(step: int) -> float:
            done = step / self.steps
            if self.minutes:
                done = max(done, (time.monotonic() - self.began) / (60 * self.minutes))
            left = (1 - done) / self.decay if self.decay else 1.0
            return min(1.0, (step + 1) / self.warmup, max(0.0, left))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
