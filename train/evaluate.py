"""How good a network is on held-out rooms, beside what needs no network."""

from collections.abc import Iterator

import numpy as np
import torch

from ffsplat.model import FFSplat
from ffsplat.prediction import Prediction
from train import metrics
from train.batches import Batch, batch_from_pool

SETS_AT_ONCE = 8


def batches(
    pool: dict[str, np.ndarray], sets: int, views: int, device: torch.device
) -> Iterator[Batch]:
    """The first `views` views of the first `sets` rooms of a pool, a few sets at a time."""
    count = min(sets, len(pool["depth"]))
    for start in range(0, count, SETS_AT_ONCE):
        scenes = np.arange(start, min(start + SETS_AT_ONCE, count))
        batch = batch_from_pool(pool, scenes, np.arange(views)[None].repeat(len(scenes), 0))
        yield Batch(**{name: tensor.to(device) for name, tensor in vars(batch).items()})


@torch.inference_mode()
def quick_validation(
    network: FFSplat, pool: dict[str, np.ndarray], sets: int = 64
) -> dict[str, float]:
    """A few metrics on pairs of views of the first rooms of a pool, in seconds, by name.

    Depth is aligned by its median; the rotation is the regressed one, in degrees.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    values = {"absrel": [], "delta1": [], "rotation": []}
    rows = network.config.whole_rows
    counts = torch.zeros(rows, rows, dtype=torch.long, device=device)
    for batch in batches(pool, sets, 2, device):
        prediction: Prediction = network(batch.images)
        mask = batch.depth > 0
        scale = metrics.median_scale(prediction.depth, batch.depth, mask)
        depth = prediction.depth * scale[:, None, None, None]
        values["absrel"].append(metrics.absolute_relative(depth, batch.depth, mask))
        values["delta1"].append(metrics.delta1(depth, batch.depth, mask))
        values["rotation"].append(
            metrics.rotation_error(
                prediction.world_from_camera[:, 1], batch.world_from_camera[:, 1]
            )
        )
        guess = prediction.whole_logits.argmax(-1)
        counts += metrics.confusion(guess, batch.whole, rows)
    network.train(was_training)
    means = {name: torch.cat(parts).mean().item() for name, parts in values.items()}
    return means | {
        "whole_accuracy": metrics.accuracy(counts),
        "whole_miou": metrics.mean_iou(counts),
    }
