"""Gaussians that share a cell of the world become one."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Int32

from ffsplat import codes
from ffsplat.codebook import code_gram
from ffsplat.errors import UsageError
from ffsplat.geometry import matrix_from_quaternion, quaternion_from_matrix
from ffsplat.types import Gaussians, Scene
from ffsplat.voxels import Groups, cell_keys, group

SMALLEST_VOXEL = 2.0**-14
"""Side of the smallest cell for merging, over the mean distance to the median point.

Cells are numbered up to 2^15 from the median; with smaller ones more than outliers lie beyond.
"""


def merge_voxels(
    scene: Scene, confidence: Float32[np.ndarray, " n"], size: float
) -> tuple[Scene, Float32[np.ndarray, " m"]]:
    """One Gaussian per cell of side `size` in world units, and its confidence.

    Weights are opacity times confidence. Mean and covariance are those of the mixture (moment
    matching: Runnalls, IEEE TAES 43(3), 2007), so the merged Gaussian covers what it replaces;
    colour, opacity and confidence are weighted means, codes are fused, the instance is that with
    the largest weight. Where meaning has an opacity of its own, that one weighs opacity for
    meaning, codes and instances, and the larger one place, shape and confidence.
    Raises UsageError for a size below SMALLEST_VOXEL.
    """
    gaussians = scene.gaussians
    smallest = SMALLEST_VOXEL * _reach(gaussians.means)
    if size < smallest:
        raise UsageError(f"voxel {size:g} is too small for this scene", f"try {2 * smallest:.1g}")
    weights, color, meaning = (
        np.maximum(opacities * confidence, np.float32(1e-12))
        for opacities in (gaussians.presence, gaussians.opacities, gaussians.opacities_of_meaning)
    )
    cells = group(cell_keys(gaussians.means, size))
    means = cells.mean(gaussians.means, weights)
    scales, quaternions = _mixture_shape(gaussians, cells, means, weights)
    merged = Gaussians(
        means,
        scales,
        quaternions,
        cells.mean(gaussians.opacities, color),
        cells.mean(gaussians.sh, color),
    )
    if gaussians.meaning_opacities is not None:
        merged = replace(merged, meaning_opacities=cells.mean(gaussians.meaning_opacities, meaning))
    fused, instances = scene.codes, scene.instances
    if fused is not None:
        matrix = None if scene.codebook is None else code_gram(scene.codebook)
        fused = codes.fuse(fused, cells.index, meaning, len(cells), gram=matrix)
    if instances is not None:
        instances = _majority(instances, cells, meaning)
    scene = replace(scene, gaussians=merged, codes=fused, instances=instances)
    return scene, cells.mean(confidence, weights)


def _reach(means: Float32[np.ndarray, "n 3"]) -> float:
    """The mean distance to the median point, along the widest axis."""
    centred = means.astype(np.float64) - np.median(means, axis=0)
    return float(np.abs(centred).mean(axis=0).max())


def _mixture_shape(
    gaussians: Gaussians,
    cells: Groups,
    means: Float32[np.ndarray, "m 3"],
    weights: Float32[np.ndarray, " n"],
) -> tuple[Float32[np.ndarray, "m 3"], Float32[np.ndarray, "m 4"]]:
    """Scales and rotations of the covariance of each cell's mixture around its mean."""
    axes = matrix_from_quaternion(torch.from_numpy(gaussians.quaternions_wxyz)).numpy()
    axes = axes * gaussians.scales[:, None]
    spread = gaussians.means - means[cells.index]
    covariances = axes @ axes.transpose(0, 2, 1) + spread[:, :, None] * spread[:, None]
    variances, vectors = np.linalg.eigh(cells.mean(covariances, weights))
    vectors *= np.sign(np.linalg.det(vectors))[:, None, None]
    quaternions = quaternion_from_matrix(torch.from_numpy(vectors)).numpy()
    return np.sqrt(np.maximum(variances, np.float32(1e-14))), quaternions


def _majority(
    instances: Int32[np.ndarray, " n"], cells: Groups, weights: Float32[np.ndarray, " n"]
) -> Int32[np.ndarray, " m"]:
    """The instance with the largest total weight in each cell; ties go to the lower number."""
    pairs = group(cells.index << 32 | instances.astype(np.int64) + 1)
    cell, instance = pairs.keys >> 32, (pairs.keys & 0xFFFFFFFF) - 1
    order = np.lexsort((-pairs.sum(weights), cell))
    winners = order[np.searchsorted(cell, np.arange(len(cells)))]
    return instance[winners].astype(np.int32)
