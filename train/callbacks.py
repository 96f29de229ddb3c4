"""What a run does beside training: it stops when it is told to, and says how fast it is."""

import logging
import math
import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.flop_counter import FlopCounterMode

LAST = "last.ckpt"
logger = logging.getLogger(__name__)


PAUSED = 1 << 10
"""Stands for a signal where the time of a piece is up."""


class StopOnSignal(Callback):
    """SIGTERM or SIGINT: the step is finished, last.ckpt is written, and the run can be resumed.

    Schedulers send SIGTERM before they take a machine away. `received` is the signal's number, or
    PAUSED after so many `minutes`.
    """

    EVERY = 10
    """Steps from one agreement of several processes to the next."""

    def __init__(self, minutes: float | None = None):
        self.received = 0
        self.deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer, pl_module) -> None:
        """Listen."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends at once

    def on_train_batch_end(self, trainer, pl_module: Any, outputs, batch, batch_idx) -> None:
        """Stop between two steps; all processes of a run stop at the same one."""
        if time.monotonic() > self.deadline:
            self.received = self.received or PAUSED
        if trainer.world_size > 1:
            if batch_idx % self.EVERY:
                return
            told = torch.tensor(self.received, device=pl_module.device)
            self.received = int(trainer.strategy.reduce(told, reduce_op="max"))
        if self.received:
            trainer.should_stop = True

    def on_train_end(self, trainer, pl_module) -> None:
        """Write last.ckpt, at the end of every run; give signals back."""
        # Here it is about saving: the optimiser is kept too, so that the run can go on.
        trainer.save_checkpoint(Path(trainer.default_root_dir) / LAST, weights_only=False)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.received:
            logger.info("stopped at step %d; --ckpt_path last goes on", trainer.global_step)


class Throughput(Callback):
    """Samples a second, TFLOP/s and their share of the rate of a large matrix product.

    The operations of a step are those of one forward pass, counted once for each shape of batch,
    times three: a backward pass costs two forward ones.
    """

    def __init__(self):
        self.flops: dict[tuple[int, ...], float] = {}
        self.limit = 0.0
        self.images = 0
        self.work = 0.0
        self.since = 0.0

    @torch.no_grad()
    def on_train_start(self, trainer, pl_module) -> None:
        """Measure the limit, in the precision that the run uses."""
        half = "bf16" in str(trainer.precision) or "16" in str(trainer.precision)
        dtype = torch.bfloat16 if half else torch.float32
        self.limit = matmul_rate(pl_module.device, dtype)

    @torch.no_grad()
    def on_train_batch_start(self, trainer, pl_module: Any, batch, batch_idx) -> None:
        """Count the operations of a shape that was not met before."""
        shape = tuple(batch.images.shape)
        if shape not in self.flops:
            with (
                FlopCounterMode(display=False) as counter,
                trainer.precision_plugin.forward_context(),
            ):
                pl_module.average(batch.images)
            self.flops[shape] = 3.0 * counter.get_total_flops()
            self.images, self.work, self.since = 0, 0.0, 0.0

    def on_train_batch_end(self, trainer, pl_module: Any, outputs, batch, batch_idx) -> None:
        """Log the mean rates since the last line of the log."""
        if not self.since:
            self.since = time.perf_counter()
            return
        self.images += batch.images.shape[0] * batch.images.shape[1] * trainer.world_size
        self.work += self.flops[tuple(batch.images.shape)]
        if pl_module.logs_at(trainer.global_step):
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - self.since
            rates = {
                "images_per_second": self.images / seconds,
                "tflops": self.work / seconds / 1e12,
                "share_of_matmul": self.work / seconds / self.limit,
            }
            pl_module.log_dict(rates)
            loss = trainer.callback_metrics.get("loss", torch.nan)
            logger.info(
                "step %d: loss %.4g, %.3g images/s, %.3g TFLOP/s, %.0f %% of a matrix product",
                trainer.global_step, loss, *list(rates.values())[:2],
                100 * rates["share_of_matmul"],
            )  # fmt: skip
            self.images, self.work, self.since = 0, 0.0, time.perf_counter()


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int | None = None) -> float:
    """FLOP/s of the product of two square matrices, the best of a few tries."""
    side = side or (8192 if device.type == "cuda" else 1024)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2.0 * side**3 / best
