"""What a network is measured against: answers that need none, and a classical method."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from data.clip import UNKNOWN, Clip
from ffsplat.geometric import geometric_gaussians
from ffsplat.merge import WorldGaussians, gaussians_from_prediction
from ffsplat.prediction import Prediction
from train.batches import Batch

FIELD_OF_VIEW = 57.5
"""Horizontal, in degrees: the mean of the range that the rooms are photographed with."""

DEPTH_SIDE = 64
"""Pixels along a side of the mean depth image."""

RATIO = 0.8
"""A match is kept if its distance is less than this times the second best's (Lowe, 2004)."""
SIFT_SIDE = 256
"""Smaller images are enlarged to this for SIFT, which then finds several times as much."""
SIFT_CONTRAST = 0.01
"""OpenCV's default of 0.04 leaves too few points on small, soft images."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What can be said about a clip without looking: averages over other clips.

    `depth` is the mean depth image over the mean depth of a clip, `scale` the median of those mean
    depths in metres; `whole` and `part` are the most frequent classes. None is not known.
    """

    depth: Float[Tensor, "h w"] | None
    scale: float | None
    whole: int | None
    part: int | None


def clip_statistics(clips: Iterable[Clip]) -> Statistics:
    """Statistics of all views of some clips."""
    total = torch.zeros(2, DEPTH_SIDE, DEPTH_SIDE)
    scales: list[float] = []
    labels = {level: np.zeros(0, np.int64) for level in ("whole", "part")}
    for clip in clips:
        for level in labels:
            labels[level] = _add_counts(labels[level], getattr(clip, level))
        if clip.depth is None or not clip.depth.any():
            continue
        depth = torch.from_numpy(clip.depth)[:, None]
        known = (depth > 0).float()
        mean = (depth.sum() / known.sum()).item()
        maps = torch.cat([depth / mean, known], dim=1)
        total += F.interpolate(maps, (DEPTH_SIDE, DEPTH_SIDE), mode="area").sum(0)
        scales += [mean] if clip.metric else []
    image = torch.where(total[1] > 0, total[0] / total[1].clamp(min=1e-9), 1)
    most = {
        level: int(counts.argmax()) if counts.any() else None for level, counts in labels.items()
    }
    return Statistics(
        image if total[1].any() else None, float(np.median(scales)) if scales else None, **most
    )


def _add_counts(
    counts: Int[np.ndarray, " n"], labels: Int[np.ndarray, "v h w"] | None
) -> Int[np.ndarray, " m"]:
    if labels is None:
        return counts
    more = np.bincount(labels[labels != UNKNOWN], minlength=len(counts))
    return np.pad(counts, (0, len(more) - len(counts))) + more


def nearest_view(
    world_from_camera: Float[Tensor, "b v 4 4"],
    target: Float[Tensor, "b 4 4"],
    unit: Float[Tensor, " b"],
) -> Int[Tensor, " b"]:
    """The view nearest to a target: least distance over `unit` plus angle between the axes."""
    away = (world_from_camera[..., :3, 3] - target[:, None, :3, 3]).norm(dim=-1) / unit[:, None]
    axes = (world_from_camera[..., :3, 2] * target[:, None, :3, 2]).sum(-1)
    return (away + axes.clamp(-1, 1).acos()).argmin(1)


def exact_prediction(batch: Batch) -> Prediction:
    """What a network without heads for Gaussians and meaning would say, if its depth were exact.

    A pixel without depth is transparent.
    """
    b, v, h, w = batch.depth.shape
    error = torch.zeros_like(batch.depth)
    pixels = batch.images.movedim(2, -1)
    known = batch.depth > 0
    nothing = torch.zeros(b, v, h, w, 0).to(error)
    return Prediction(
        depth=batch.depth,
        depth_error=error,
        scale=batch.depth.sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1),
        world_from_camera=batch.world_from_camera,
        intrinsics=batch.intrinsics,
        **geometric_gaussians(batch.depth, error, batch.intrinsics, pixels, known),
        whole_logits=nothing,
        part_logits=nothing,
        instances=nothing,
        descriptors=nothing,
        token_descriptors=nothing,
    )


def exact_gaussians(batch: Batch) -> WorldGaussians:
    """Every pixel's geometric Gaussian at its true place; without depth it is transparent."""
    return gaussians_from_prediction(exact_prediction(batch))


def essential_pose(
    pairs: Float[np.ndarray, "n 2 2"],
    first_intrinsics: Float[np.ndarray, "3 3"],
    second_intrinsics: Float[np.ndarray, "3 3"],
) -> Float[np.ndarray, "4 4"] | None:
    """Pose of the second camera in the first's frame, its translation of unit length.

    `pairs` are matched pixels (x, y) in the first and second image. The five-point method with
    RANSAC at one pixel; None for fewer than six matches or if no point lies before both cameras.
    Source: Nister, "An Efficient Solution to the Five-Point Relative Pose Problem", 2004; OpenCV.
    """
    if len(pairs) < 6:
        return None
    rays = [
        (pairs[:, i] - intrinsics[:2, 2]) / intrinsics[(0, 1), (0, 1)]
        for i, intrinsics in enumerate((first_intrinsics, second_intrinsics))
    ]
    essential, inliers = cv2.findEssentialMat(
        *rays, method=cv2.RANSAC, prob=0.999, threshold=1 / first_intrinsics[0, 0]
    )
    if essential is None or essential.shape != (3, 3):
        return None
    count, rotation, translation, _ = cv2.recoverPose(essential, *rays, mask=inliers)
    if count == 0:
        return None
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = (-rotation.T @ translation)[:, 0]
    return pose


@dataclass(frozen=True, eq=False)
class Features:
    """Points (x, y) of an image in pixels, centres at half-integers, and what they look like."""

    points: Float[np.ndarray, "n 2"]
    descriptors: Float[np.ndarray, "n 128"]


def find_sift(image: UInt8[np.ndarray, "h w"]) -> Features:
    """SIFT features; a small image is enlarged first.

    Source: Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", 2004; OpenCV.
    """
    factor = max(1, round(SIFT_SIDE / max(image.shape)))
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    sift = cv2.SIFT.create(contrastThreshold=SIFT_CONTRAST)
    points, descriptors = sift.detectAndCompute(large, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if descriptors is None:
        return Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    places = np.array([point.pt for point in points], dtype=np.float64)
    # OpenCV's pixel centres are integers.
    return Features((places + 0.5) / factor, descriptors)


def match_sift(first: Features, second: Features) -> Float[np.ndarray, "n 2 2"]:
    """Points of the first and the second image that match, by Lowe's ratio test."""
    if len(first.points) < 2 or len(second.points) < 2:
        return np.zeros((0, 2, 2))
    matches = cv2.BFMatcher().knnMatch(first.descriptors, second.descriptors, k=2)
    good = [best for best, other in matches if best.distance < RATIO * other.distance]
    rows = np.array([(m.queryIdx, m.trainIdx) for m in good], dtype=np.int64).reshape(-1, 2)
    return np.stack([first.points[rows[:, 0]], second.points[rows[:, 1]]], axis=1)


def sift_poses(
    batch: Batch, pairs: Sequence[tuple[int, int]]
) -> tuple[Float[Tensor, "b p 4 4"], Bool[Tensor, "b p"]]:
    """Pose of the second view of a pair in the first's frame, and where that failed.

    By SIFT, five points and the true intrinsics; where it fails, the pose is the identity.
    """
    grey = (batch.images.mean(2) * 255).round().byte().cpu().numpy()
    intrinsics = batch.intrinsics.double().cpu().numpy()
    poses = torch.eye(4).repeat(len(grey), len(pairs), 1, 1)
    failed = torch.zeros(poses.shape[:2], dtype=torch.bool)
    for b, views in enumerate(grey):
        features = [find_sift(view) for view in views]
        for p, (i, j) in enumerate(pairs):
            matches = match_sift(features[i], features[j])
            pose = essential_pose(matches, intrinsics[b, i], intrinsics[b, j])
            failed[b, p] = pose is None
            if pose is not None:
                poses[b, p] = torch.from_numpy(pose)
    return poses.to(batch.images.device), failed
