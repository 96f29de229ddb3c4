"""Depth, cameras and scale of a prediction, beside what needs no network."""

from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ffsplat.geometry import invert_rigid
from ffsplat.prediction import Prediction
from train import metrics
from train.batches import Batch
from train.evaluation import baselines
from train.evaluation.clips import set_unit
from train.evaluation.tally import Tally

MIN_BASELINE = 0.02
"""A translation shorter than this part of the mean depth has no direction worth measuring."""


def alignment(prediction: Prediction, given: Batch) -> Float[Tensor, " b"]:
    """The factor that brings a prediction to the unit of the truth.

    That of the median depths, or, where no depth is known, of the ways from view 0 to all others;
    1 where there is neither.
    """
    known = given.depth > 0
    by_depth = metrics.median_scale(prediction.depth, given.depth, known)
    way, truth = (
        poses[..., :3, 3].norm(dim=-1).sum(1)
        for poses in (prediction.world_from_camera, given.world_from_camera)
    )
    by_way = torch.where((truth > 0) & (way > 0), truth / way, 1)
    return torch.where(known.any(dim=(1, 2, 3)), by_depth, by_way)


def add_depth(
    tally: Tally, prediction: Prediction, given: Batch, usual: Float[Tensor, "y x"] | None
) -> None:
    """Add AbsRel and delta1, aligned by one median a set; `usual` is the mean depth image."""
    mask = given.depth > 0
    guesses = {"network": prediction.depth, "constant depth": torch.ones_like(given.depth)}
    if usual is not None:
        size = given.depth.shape[-2:]
        resized = F.interpolate(usual[None, None], size, mode="bilinear")
        guesses["mean depth image"] = resized.to(given.depth).expand_as(given.depth)
    for name, depth in guesses.items():
        factor = metrics.median_scale(depth, given.depth, mask)
        aligned = depth * factor[:, None, None, None]
        tally.add("abs_rel", {name: metrics.absolute_relative(aligned, given.depth, mask)})
        tally.add("delta1", {name: metrics.delta1(aligned, given.depth, mask)})


def add_cameras(tally: Tally, prediction: Prediction, refined: Prediction, given: Batch) -> None:
    """Add the errors of all pairs of views, and of every field of view."""
    pairs = list(combinations(range(given.images.shape[1]), 2))
    truth = relative_poses(given.world_from_camera, pairs)
    sift, failed = baselines.sift_poses(given, pairs)
    guesses = {
        "network": relative_poses(refined.world_from_camera, pairs),
        "regressed cameras": relative_poses(prediction.world_from_camera, pairs),
        "SIFT + five points": sift,
        "identity": torch.eye(4, device=truth.device).expand_as(truth),
    }
    moved = truth[..., :3, 3].norm(dim=-1) > MIN_BASELINE * set_unit(given)[:, None]
    for name, poses in guesses.items():
        rotation = metrics.rotation_error(poses, truth)
        direction = metrics.direction_error(poses, truth)
        tally.add("rotation", {name: rotation})
        tally.add("direction", {name: torch.where(moved, direction, torch.nan)})
        both = torch.where(moved, torch.maximum(rotation, direction), rotation)
        tally.add("pose", {name: both})
    tally.add("sift", {"failed": failed.float()})
    width = given.images.shape[-1]
    true = metrics.field_of_view(given.intrinsics, width)
    views = {
        "network": metrics.field_of_view(refined.intrinsics, width),
        "regressed cameras": metrics.field_of_view(prediction.intrinsics, width),
        "mean of the range": torch.full_like(true, baselines.FIELD_OF_VIEW),
    }
    tally.add("fov", {name: (guess - true).abs() for name, guess in views.items()})


def relative_poses(
    world_from_camera: Float[Tensor, "b v 4 4"], pairs: list[tuple[int, int]]
) -> Float[Tensor, "b p 4 4"]:
    """Pose of the second view of each pair in the first's frame."""
    first, second = (list(views) for views in zip(*pairs, strict=True))
    return invert_rigid(world_from_camera[:, first]) @ world_from_camera[:, second]


def add_scale(tally: Tally, prediction: Prediction, given: Batch, usual: float | None) -> None:
    """Add the error of the scale where it is metric, and whether confidence keeps its word."""
    mask = given.depth > 0
    mean = metrics.set_mean(given.depth, mask)
    guesses = {"network": prediction.scale}
    if usual is not None:
        guesses["usual scale"] = torch.full_like(mean, usual)
    for name, scale in guesses.items():
        error = (scale / mean).log().abs()
        tally.add("scale", {name: torch.where(given.metric, error, torch.nan)})
    actual = metrics.log_depth_error(prediction.depth, prediction.scale, given.depth, mask)
    tally.add(
        "depth_error",
        {
            "actual": metrics.set_mean(actual, mask),
            "expected": metrics.set_mean(prediction.depth_error, mask),
        },
    )
