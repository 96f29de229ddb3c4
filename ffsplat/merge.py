"""From what a network says about pixels to one scene: lift, prune, code, number, thin out."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int16, Int32, Int64
from torch import Tensor

from ffsplat import codes
from ffsplat.codebook import LEXICON, gram, rows_of_level
from ffsplat.errors import UsageError
from ffsplat.geometry import (
    matrix_from_quaternion,
    quaternion_from_matrix,
    quaternion_multiply,
    transform_points,
    unproject,
)
from ffsplat.images import original_intrinsics
from ffsplat.instances import label_instances
from ffsplat.prediction import Prediction
from ffsplat.types import SH_C0, Cameras, Codebook, Gaussians, Scene, SparseCode, Views, ViewSource
from ffsplat.voxels import Groups, cell_keys, group

_log = logging.getLogger(__name__)

ERROR_SCALE = 0.1
"""A confidence is exp(-expected error of log depth / ERROR_SCALE)."""

EDGE_SLOPE = 8.0
"""Depth gained over distance moved across the view, from which a pixel may be a flying one.

A surface seen at 7 degrees has this slope. On rendered rooms it costs 0.5 % of true depth, and on
their depth blurred over 3x3 pixels it finds two thirds of the pixels that are off by 15 %.
"""

SMALLEST_VOXEL = 2.0**-14
"""Side of the smallest cell for merging, over the mean distance to the median point.

Cells are numbered up to 2^15 from the median; with smaller ones more than outliers lie beyond.
"""

SMOOTHING = 0.3
"""Variance, in square pixels of the view, that a scene's Gaussians gain: the low-pass with which
renderers show them to the network while it learns their shape."""

INSTANCE_CELL = 0.03
"""Side of the cells in which objects are connected, over the median depth."""


class WorldGaussians(NamedTuple):
    """Gaussians in world units as tensors, n = v * h * w in the order of the pixels."""

    means: Float[Tensor, "b n 3"]
    quaternions_wxyz: Float[Tensor, "b n 4"]
    scales: Float[Tensor, "b n 3"]
    opacities: Float[Tensor, "b n"]
    colors: Float[Tensor, "b n 3"]


def to_scene(
    prediction: Prediction,
    views: Views,
    codebook: Codebook,
    *,
    topk: int = 4,
    min_confidence: float = 0.05,
    min_opacity: float = 0.005,
    prune_edges: bool = True,
    voxel: float | None = None,
    max_gaussians: int | None = None,
    metric: bool = False,
    provenance: Mapping[str, str] | None = None,
) -> Scene:
    """One scene from the prediction of one view set.

    A pixel becomes a Gaussian if it is valid, as opaque as `min_opacity` in colour or in meaning,
    as sure as `min_confidence` (or as half of the pixels are, where that is less) and, with
    `prune_edges`, no flying pixel. `topk` pairs of a code are shared between whole objects (the
    larger half) and parts. `voxel` is the side of the cells, in world units, that are merged to one
    Gaussian each. `max_gaussians` keeps those with the highest product of opacity (the larger of
    both) and confidence. Cameras are in pixels of the original photos. Raises ValueError for a
    batch of several view sets, UsageError for a voxel too small to be numbered.
    """
    if len(prediction.depth) != 1:
        raise ValueError(f"a scene has one view set, not {len(prediction.depth)}")
    valid = torch.from_numpy(views.valid)[None].to(prediction.depth.device)
    kept = keep_pixels(prediction, valid, min_confidence, min_opacity, prune_edges)
    rows = torch.nonzero(kept.flatten())[:, 0]
    gaussians = _gaussians(smoothed(prediction), rows)
    confidence = _numpy(confidences(prediction).flatten()[rows])
    scene = Scene(
        gaussians,
        codes=_codes(prediction, codebook, rows, topk),
        instances=_instances(prediction, codebook, rows, gaussians.means),
        codebook=codebook,
        cameras=original_cameras(prediction, views),
        metric=metric,
        provenance=dict(provenance or {}),
    )
    if voxel is not None and len(scene):
        scene, confidence = merge_voxels(scene, confidence, voxel)
    _log.info("%d of %d pixels kept, %d Gaussians", len(rows), valid.sum(), len(scene))
    if max_gaussians is not None:
        scene = scene[strongest(scene.gaussians.presence * confidence, max_gaussians)]
    return scene


def gaussians_from_prediction(prediction: Prediction) -> WorldGaussians:
    """Every pixel's Gaussian in the world frame; differentiable in all that was predicted."""
    b = len(prediction.depth)
    points = unproject(prediction.depth, prediction.intrinsics, prediction.offsets)
    means = transform_points(prediction.world_from_camera, points.flatten(2, 3))
    turns = quaternion_from_matrix(prediction.world_from_camera[..., :3, :3])[:, :, None]
    quaternions = prediction.quaternions_wxyz.flatten(2, 3)
    return WorldGaussians(
        means.reshape(b, -1, 3),
        quaternion_multiply(turns.expand_as(quaternions), quaternions).reshape(b, -1, 4),
        prediction.scales.reshape(b, -1, 3),
        prediction.opacities.reshape(b, -1),
        prediction.colors.reshape(b, -1, 3),
    )


def with_known_intrinsics(prediction: Prediction, views: Views) -> Prediction:
    """The prediction with all that is known of the photos: centre, pixel shape, focal length.

    The network takes a view's own pixels for square ones, and the last opaque pixel for the border.
    Square are those of the photo, in the middle of which lies the principal point; where the photo
    tells its focal length, that holds. Depth stays; a Gaussian shrinks as its pixel's area does.
    """
    predicted = prediction.intrinsics[0, :, 0, 0].tolist()
    square = [
        _square(source, focal) for source, focal in zip(views.sources, predicted, strict=True)
    ]
    known = np.isfinite(views.intrinsics).all(axis=(1, 2), keepdims=True)
    merged = np.where(known, views.intrinsics, np.stack(square))
    intrinsics = torch.from_numpy(merged.astype(np.float32))[None].to(prediction.intrinsics)
    before, after = (k[..., 0, 0] * k[..., 1, 1] for k in (prediction.intrinsics, intrinsics))
    scales = prediction.scales * (before / after).sqrt()[..., None, None, None]
    return replace(prediction, intrinsics=intrinsics, scales=scales)


def _square(source: ViewSource, focal: float) -> Float[np.ndarray, "3 3"]:
    """Intrinsics in view pixels of a photo with square pixels; `focal` is along its longer side."""
    longer = int(source.height > source.width)
    focal = focal * source.original_from_view[longer, longer]
    original = [[focal, 0, source.width / 2], [0, focal, source.height / 2], [0, 0, 1]]
    return np.linalg.inv(source.original_from_view) @ np.array(original)


def smoothed(prediction: Prediction) -> Prediction:
    """The prediction with Gaussians as wide as they look at the resolution of their own view.

    Renderers widen every splat by part of a pixel. What is learnt under that filter would show
    gaps between the Gaussians where a larger picture has smaller pixels, so a scene carries the
    filter of its own resolution. Source: Yu et al., "Mip-Splatting", 2024, equation 9.
    """
    footprint = prediction.depth / prediction.intrinsics[..., 0, 0, None, None]
    variance = prediction.scales.square() + SMOOTHING * footprint.square()[..., None]
    return replace(prediction, scales=variance.sqrt())


def confidences(prediction: Prediction) -> Float[Tensor, "b v h w"]:
    """Confidence of each pixel's depth, in (0, 1]."""
    return torch.exp(-prediction.depth_error / ERROR_SCALE)


def keep_pixels(
    prediction: Prediction,
    valid: Bool[Tensor, "b v h w"],
    min_confidence: float,
    min_opacity: float,
    prune_edges: bool,
) -> Bool[Tensor, "b v h w"]:
    """Which pixels become Gaussians; see `to_scene`."""
    kept = valid & torch.isfinite(prediction.depth) & (prediction.depth > 0)
    opaque = prediction.opacities >= min_opacity
    if prediction.meaning_opacities is not None:
        opaque = opaque | (prediction.meaning_opacities >= min_opacity)
    kept = kept & opaque
    if prune_edges:
        kept = kept & ~flying_pixels(prediction.depth, prediction.intrinsics, valid)
    confidence = confidences(prediction)
    if kept.any():
        kept = kept & (confidence >= confidence[kept].median().clamp(max=min_confidence))
    return kept


def flying_pixels(
    depth: Float[Tensor, "*b h w"],
    intrinsics: Float[Tensor, "*b 3 3"],
    valid: Bool[Tensor, "*b h w"],
) -> Bool[Tensor, "*b h w"]:
    """Pixels that hang between a near and a far surface.

    Along a row or a column, depth rises (or falls) more steeply than EDGE_SLOPE both to and from
    such a pixel. A clean edge is steep on one side only, so both of its pixels stay.
    """
    log_depth = torch.where(valid, depth, torch.nan).log()
    flying = torch.zeros_like(valid)
    for axis in (-1, -2):
        # A pixel's side is depth / focal, so a slope is a step of log depth times focal.
        slope = log_depth.diff(dim=axis) * intrinsics[..., -1 - axis, -1 - axis, None, None]
        count = slope.shape[axis] - 1
        if count < 1:
            continue
        before, after = slope.narrow(axis, 0, count), slope.narrow(axis, 1, count)
        steep = torch.minimum(before, after) > EDGE_SLOPE
        steep |= torch.maximum(before, after) < -EDGE_SLOPE
        flying.narrow(axis, 1, count).logical_or_(steep)
    return flying


def original_cameras(prediction: Prediction, views: Views) -> Cameras:
    """The predicted cameras, with intrinsics in pixels of the original photos."""
    return Cameras(
        _numpy(prediction.world_from_camera[0]),
        original_intrinsics(views, _numpy(prediction.intrinsics[0])),
        np.array([(source.width, source.height) for source in views.sources], np.int32),
        tuple(source.name for source in views.sources),
    )


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
        matrix = None if scene.codebook is None else _gram(scene.codebook)
        fused = codes.fuse(fused, cells.index, meaning, len(cells), gram=matrix)
    if instances is not None:
        instances = _majority(instances, cells, meaning)
    scene = replace(scene, gaussians=merged, codes=fused, instances=instances)
    return scene, cells.mean(confidence, weights)


def strongest(strength: Float32[np.ndarray, " n"], count: int) -> Int64[np.ndarray, " m"]:
    """The rows of the `count` largest values, in their own order; ties go to the lower row."""
    return np.sort(np.argsort(-strength, kind="stable")[:count])


def _gaussians(prediction: Prediction, rows: Int64[Tensor, " n"]) -> Gaussians:
    world = gaussians_from_prediction(prediction)
    chosen = WorldGaussians(*(values[0, rows] for values in world))
    sh = (chosen.colors - 0.5) / SH_C0
    meaning = prediction.meaning_opacities
    return Gaussians(
        _numpy(chosen.means),
        _numpy(chosen.scales),
        _numpy(chosen.quaternions_wxyz),
        _numpy(chosen.opacities),
        _numpy(sh[:, None]),
        None if meaning is None else _numpy(meaning.flatten()[rows]),
    )


def _top_rows(
    logits: Float[Tensor, "b v h w classes"],
    rows: Int64[Tensor, " n"],
    ids: Int16[np.ndarray, "classes"],
    k: int,
) -> tuple[Int16[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
    """Codebook rows of the k best classes of each kept pixel, and the softmax over these."""
    rest = logits.flatten(0, 3)[rows].float()
    values, columns = [], []
    for _ in range(k):  # for small k quicker than topk
        value, column = rest.max(dim=1, keepdim=True)
        rest.scatter_(1, column, -torch.inf)
        values.append(value)
        columns.append(column)
    weights = torch.cat(values, dim=1).softmax(dim=1)
    return ids[_numpy(torch.cat(columns, dim=1))], _numpy(weights)


def _codes(prediction: Prediction, codebook: Codebook, rows: Tensor, topk: int) -> SparseCode:
    """Half of a code's weight says which whole object, half which part; K = 1 is the object.

    A codebook without parts has all of it for objects.
    """
    whole, part = (rows_of_level(codebook, level) for level in ("whole", "part"))
    parts = topk // 2 if len(part) else 0
    pairs = [_top_rows(prediction.whole_logits, rows, whole, topk - parts)]
    if parts:
        pairs.append(_top_rows(prediction.part_logits, rows, part, parts))
    ids, weights = (np.concatenate(arrays, axis=1) for arrays in zip(*pairs, strict=True))
    return codes.from_pairs(ids, weights, topk, _gram(codebook))


def _gram(codebook: Codebook) -> codes.Gram:
    """Inner products of the rows in the codebook's first space; the lexicon's are orthonormal."""
    space = next(iter(codebook.spaces))
    return None if space == LEXICON else gram(codebook, space)


def _instances(
    prediction: Prediction, codebook: Codebook, rows: Tensor, means: Float32[np.ndarray, "n 3"]
) -> Int32[np.ndarray, " n"]:
    best = _numpy(prediction.whole_logits.flatten(0, 3)[rows].argmax(-1))
    cell = INSTANCE_CELL * float(prediction.depth.flatten()[rows].median()) if len(rows) else 1.0
    embeddings = _numpy(prediction.instances.flatten(0, 3)[rows])
    ids = rows_of_level(codebook, "whole").astype(np.int64)[best]
    return label_instances(means, ids, embeddings, cell)


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


def _numpy(tensor: Tensor) -> np.ndarray:
    """A float32 or integer array on the host, without a gradient."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
