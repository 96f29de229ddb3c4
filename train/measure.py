"""Every metric of a network and of what needs no network, gathered over batches of rooms."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ffsplat.errors import UsageError
from ffsplat.merge import gaussians_from_prediction
from ffsplat.model import FFSplat
from ffsplat.prediction import Prediction
from ffsplat.refine import refine_cameras
from train import baselines, metrics
from train.batches import Batch, batch_from_pool
from train.novel_view import rescale, splat
from train.rooms import Pool

SETS_AT_ONCE = 8
MIN_BASELINE = 0.02
"""A translation shorter than this part of the mean depth has no direction worth measuring."""


def choose_views(available: int, count: int) -> tuple[np.ndarray, int | None]:
    """Input views spread over a clip from its first to its last, and one of the others, or None.

    Raises UsageError if the clip is too short.
    """
    if not 2 <= count <= available:
        raise UsageError(f"{count} views were asked for of clips of {available}")
    views = np.linspace(0, available - 1, count).round().astype(int)
    others = np.setdiff1d(np.arange(available), views)
    return views, int(others[len(others) // 2]) if len(others) else None


def batches(
    pool: Pool, scenes: np.ndarray, views: np.ndarray, device: torch.device
) -> Iterator[Batch]:
    """The given views of the given rooms of a pool, a few sets at a time."""
    for start in range(0, len(scenes), SETS_AT_ONCE):
        rows = scenes[start : start + SETS_AT_ONCE]
        batch = batch_from_pool(pool, rows, views[None].repeat(len(rows), 0))
        yield Batch(**{name: tensor.to(device) for name, tensor in vars(batch).items()})


def part_of(batch: Batch, views: slice) -> Batch:
    """Some views of a batch; the poses stay relative to its first view."""
    return Batch(**{name: tensor[:, views] for name, tensor in vars(batch).items()})


class Tally:
    """Values of every metric by who earned them, and confusion counts, gathered over batches."""

    def __init__(self):
        self.values: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
        self.counts: dict[tuple[str, str], Tensor] = {}

    def add(self, metric: str, by_name: Mapping[str, Float[Tensor, "*b"]]) -> None:
        """Append values of a metric."""
        for name, values in by_name.items():
            self.values[metric, name].append(values.flatten().cpu())

    def add_labels(self, level: str, name: str, guess: Tensor, truth: Tensor, rows: int) -> None:
        """Count which class was called which."""
        counts = metrics.confusion(guess, truth, rows)
        self.counts[level, name] = self.counts.get((level, name), 0) + counts

    def mean(self, metric: str, name: str) -> float:
        """Mean of what was added, without NaN."""
        return torch.cat(self.values[metric, name]).nanmean().item()

    def median(self, metric: str, name: str) -> float:
        """Median of what was added, without NaN."""
        return torch.cat(self.values[metric, name]).nanquantile(0.5).item()


def add_depth(tally: Tally, name: str, depth: Tensor, batch: Batch) -> None:
    """Add AbsRel and delta1 of a depth, aligned by one median a set."""
    mask = batch.depth > 0
    depth = depth.expand_as(batch.depth)
    factor = metrics.median_scale(depth, batch.depth, mask)
    aligned = depth * factor[:, None, None, None]
    tally.add("absrel", {name: metrics.absolute_relative(aligned, batch.depth, mask)})
    tally.add("delta1", {name: metrics.delta1(aligned, batch.depth, mask)})


def _add_labels(tally: Tally, level: str, logits: Tensor, truth: Tensor, majority: int) -> None:
    rows = logits.shape[-1]
    tally.add_labels(level, "network", logits.argmax(-1), truth, rows)
    tally.add_labels(level, "majority class", torch.full_like(truth, majority), truth, rows)


@torch.inference_mode()
def measure(network: FFSplat, pool: Pool, *, views: int = 2, training: Pool | None = None) -> Tally:
    """Every metric over all rooms of a pool, for the network and its baselines.

    Statistics for the trivial baselines come from `training`, or, without it, for each half of
    the rooms from the other half. Raises UsageError for clips shorter than `views` or one room.
    """
    count, available = pool["depth"].shape[:2]
    if count < 2:
        raise UsageError("a table needs at least two rooms")
    size = pool["depth"].shape[2:]
    halves = np.array_split(np.arange(count), 2)
    if training is None:
        parts = [
            baselines.pool_statistics({k: v[half[0] : half[-1] + 1] for k, v in pool.items()}, size)
            for half in reversed(halves)
        ]
    else:
        parts = [baselines.pool_statistics(training, size)] * 2
    chosen, novel = choose_views(available, views)
    wanted = chosen if novel is None else np.append(chosen, novel)
    network.eval()
    device = next(network.parameters()).device
    tally = Tally()
    for half, statistics in zip(halves, parts, strict=True):
        for batch in batches(pool, half, wanted, device):
            measure_batch(tally, network, batch, views, statistics)
    return tally


def measure_batch(
    tally: Tally, network: FFSplat, batch: Batch, views: int, statistics: baselines.Statistics
) -> None:
    """Add one batch, whose first `views` views are given to the network, to a tally."""
    given = part_of(batch, slice(0, views))
    prediction = network(given.images)
    refined = refine_cameras(prediction)
    add_depth(tally, "network", prediction.depth, given)
    add_depth(tally, "constant depth", torch.ones_like(given.depth), given)
    add_depth(tally, "mean depth image", statistics.depth.to(given.depth), given)
    _add_cameras(tally, prediction, refined, given)
    _add_scale(tally, prediction, given, statistics.scale)
    _add_labels(tally, "whole", prediction.whole_logits, given.whole, statistics.whole)
    _add_labels(tally, "part", prediction.part_logits, given.part, statistics.part)
    if batch.images.shape[1] > views:
        _add_novel_view(tally, prediction, refined, given, part_of(batch, slice(views, views + 1)))


def _add_cameras(tally: Tally, prediction: Prediction, refined: Prediction, given: Batch) -> None:
    truth = given.world_from_camera[:, 1:]
    sift, failed = baselines.sift_poses(given)
    guesses = {
        "regressed": prediction.world_from_camera,
        "refined": refined.world_from_camera,
        "SIFT + five points": sift,
        "identity": torch.eye(4, device=truth.device).expand_as(given.world_from_camera),
    }
    moved = truth[..., :3, 3].norm(dim=-1) > MIN_BASELINE * given.depth.mean((1, 2, 3))[:, None]
    for name, poses in guesses.items():
        direction = metrics.direction_error(poses[:, 1:], truth)
        tally.add("rotation", {name: metrics.rotation_error(poses[:, 1:], truth)})
        tally.add("direction", {name: torch.where(moved, direction, torch.nan)})
    tally.add("sift", {"failed": failed[:, 1:].float()})
    width = given.images.shape[-1]
    true = metrics.field_of_view(given.intrinsics, width)
    views = {
        "regressed": metrics.field_of_view(prediction.intrinsics, width),
        "refined": metrics.field_of_view(refined.intrinsics, width),
        "mean of the range": torch.full_like(true, baselines.FIELD_OF_VIEW),
    }
    tally.add("fov", {name: (guess - true).abs() for name, guess in views.items()})


def _add_scale(tally: Tally, prediction: Prediction, given: Batch, usual: float) -> None:
    mask = given.depth > 0
    mean = metrics.set_mean(given.depth, mask)
    tally.add(
        "scale",
        {
            "network": (prediction.scale / mean).log().abs(),
            "usual scale": (usual / mean).log().abs(),
        },
    )
    actual = metrics.log_depth_error(prediction.depth, prediction.scale, given.depth, mask)
    tally.add(
        "error",
        {
            "actual": metrics.set_mean(actual, mask),
            "expected": metrics.set_mean(prediction.depth_error, mask),
        },
    )


def _add_novel_view(
    tally: Tally, prediction: Prediction, refined: Prediction, given: Batch, novel: Batch
) -> None:
    camera, truth = novel.world_from_camera[:, 0], novel.images[:, 0]
    size = (truth.shape[-2], truth.shape[-1])
    mean = given.images.mean((1, 3, 4))
    factor = metrics.median_scale(prediction.depth, given.depth, given.depth > 0)
    scenes = {
        "regressed": gaussians_from_prediction(rescale(prediction, factor)),
        "refined": gaussians_from_prediction(rescale(refined, factor)),
        "exact geometry": baselines.exact_gaussians(given),
    }
    images = {
        name: splat(gaussians, camera, novel.intrinsics[:, 0], size, mean)
        for name, gaussians in scenes.items()
    }
    nearest = baselines.nearest_view(given.world_from_camera, camera, given.depth.mean((1, 2, 3)))
    images["nearest view"] = given.images[torch.arange(len(nearest)), nearest]
    images["mean colour"] = mean[..., None, None].expand_as(truth)
    tally.add("psnr", {name: metrics.psnr(image, truth) for name, image in images.items()})
