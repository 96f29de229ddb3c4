"""What a network is measured against: answers that need none, and a classical method."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ffsplat.geometry import transform_points, unproject
from ffsplat.merge import WorldGaussians
from ffsplat.nn.heads import FOOTPRINT_PRIOR
from train.batches import Batch
from train.rooms import Pool

FIELD_OF_VIEW = 57.5
"""Horizontal, in degrees: the mean of the range that the rooms are photographed with."""

RATIO = 0.8
"""A match is kept if its distance is less than this times the second best's (Lowe, 2004)."""
SIFT_SIDE = 256
"""Smaller images are enlarged to this for SIFT, which then finds several times as much."""
SIFT_CONTRAST = 0.01
"""OpenCV's default of 0.04 leaves too few points on small, soft images."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What can be said about a room without looking: averages over other rooms.

    `depth` is the mean depth image over the mean depth of a set, `scale` the median of those mean
    depths in metres; `whole` and `part` are the most frequent classes.
    """

    depth: Float[Tensor, "h w"]
    scale: float
    whole: int
    part: int


def pool_statistics(pool: Pool, size: tuple[int, int]) -> Statistics:
    """Statistics of all rooms and views of a pool, the depth image resized to (h, w)."""
    depth = np.asarray(pool["depth"])
    means = depth.mean(axis=(1, 2, 3), dtype=np.float32)
    image = np.tensordot(1 / means, depth.mean(axis=1, dtype=np.float32), 1) / len(means)
    resized = F.interpolate(
        torch.from_numpy(image)[None, None], size, mode="bilinear", align_corners=False
    )
    majority = {
        level: int(np.bincount(np.asarray(pool[level]).ravel()).argmax())
        for level in ("whole", "part")
    }
    return Statistics(resized[0, 0], float(np.median(means)), **majority)


def nearest_view(
    world_from_camera: Float[Tensor, "b v 4 4"],
    target: Float[Tensor, "b 4 4"],
    unit: Float[Tensor, " b"],
) -> Int[Tensor, " b"]:
    """The view nearest to a target: least distance over `unit` plus angle between the axes."""
    away = (world_from_camera[..., :3, 3] - target[:, None, :3, 3]).norm(dim=-1) / unit[:, None]
    axes = (world_from_camera[..., :3, 2] * target[:, None, :3, 2]).sum(-1)
    return (away + axes.clamp(-1, 1).acos()).argmin(1)


def exact_gaussians(batch: Batch) -> WorldGaussians:
    """Every pixel's Gaussian at its true place, with the shape an untrained network gives it."""
    b = len(batch.depth)
    points = unproject(batch.depth, batch.intrinsics).flatten(2, 3)
    means = transform_points(batch.world_from_camera, points).reshape(b, -1, 3)
    footprint = batch.depth / batch.intrinsics[..., 0, 0, None, None]
    quaternions = torch.zeros(*means.shape[:2], 4).to(means)
    quaternions[..., 0] = 1
    return WorldGaussians(
        means,
        quaternions,
        FOOTPRINT_PRIOR * footprint.reshape(b, -1, 1).expand(-1, -1, 3),
        torch.full_like(means[..., 0], 0.9),
        batch.images.movedim(2, -1).reshape(b, -1, 3),
    )


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


def match_sift(
    first: UInt8[np.ndarray, "h w"], second: UInt8[np.ndarray, "h w"]
) -> Float[np.ndarray, "n 2 2"]:
    """Matched pixels (x, y), centres at half-integers, in the first and second image.

    Source: Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", 2004; OpenCV.
    """
    factor = max(1, round(SIFT_SIDE / max(first.shape)))
    sift = cv2.SIFT.create(contrastThreshold=SIFT_CONTRAST)
    points, descriptors = [], []
    for image in (first, second):
        large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        found = sift.detectAndCompute(large, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
        points.append(found[0])
        descriptors.append(found[1])
    if any(described is None or len(described) < 2 for described in descriptors):
        return np.zeros((0, 2, 2))
    matches = cv2.BFMatcher().knnMatch(descriptors[0], descriptors[1], k=2)
    good = [best for best, other in matches if best.distance < RATIO * other.distance]
    places = [(points[0][m.queryIdx].pt, points[1][m.trainIdx].pt) for m in good]
    # OpenCV's pixel centres are integers.
    return (np.array(places, dtype=np.float64).reshape(-1, 2, 2) + 0.5) / factor


def sift_poses(batch: Batch) -> tuple[Float[Tensor, "b v 4 4"], Bool[Tensor, "b v"]]:
    """Poses by SIFT, five points and the true intrinsics, and where that failed.

    Where it fails, the pose is the identity.
    """
    grey = (batch.images.mean(2) * 255).round().byte().cpu().numpy()
    intrinsics = batch.intrinsics.double().cpu().numpy()
    poses = torch.eye(4).repeat(*grey.shape[:2], 1, 1)
    failed = torch.zeros(grey.shape[:2], dtype=torch.bool)
    for b in range(grey.shape[0]):
        for v in range(1, grey.shape[1]):
            pairs = match_sift(grey[b, 0], grey[b, v])
            pose = essential_pose(pairs, intrinsics[b, 0], intrinsics[b, v])
            failed[b, v] = pose is None
            if pose is not None:
                poses[b, v] = torch.from_numpy(pose)
    return poses.to(batch.images.device), failed
