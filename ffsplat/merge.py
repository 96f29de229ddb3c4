"""From what a network says about pixels to one scene: lift, prune, code, number, thin out."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int16, Int32, Int64
from torch import Tensor

from ffsplat import codes
from ffsplat.alignment import rotate_harmonics
from ffsplat.codebook import code_gram, rows_of_level
from ffsplat.consistency import agreement
from ffsplat.fusion import merge_voxels
from ffsplat.geometry import (
    matrix_from_quaternion,
    quaternion_from_matrix,
    quaternion_multiply,
    transform_points,
    unproject,
)
from ffsplat.images import original_intrinsics, thumbnails_of
from ffsplat.instances import label_instances
from ffsplat.prediction import PixelMeaning, Prediction
from ffsplat.pruning import confidences, keep_pixels
from ffsplat.semantics.register import carries_meaning, without_meaning
from ffsplat.types import SH_C0, Cameras, Codebook, Gaussians, Scene, SparseCode, Views, ViewSource

_log = logging.getLogger(__name__)

SMOOTHING = 0.25
"""Variance, in square pixels of the view, that a scene's Gaussians gain.

Renderers show them to the network, while it learns their shape, under a low-pass of 0.3. With a
quarter, pictures three times as large as the views come nearest to the truth, on rooms with exact
depth: less leaves holes, more blurs.
"""

LOW_PASS = 0.3
"""Variance, in square pixels, that renderers add to every splat."""

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
    codebook: Codebook | None,
    *,
    meaning: PixelMeaning | None = None,
    topk: int = 4,
    min_confidence: float = 0.05,
    min_opacity: float = 0.005,
    prune_edges: bool = True,
    consistent: bool = True,
    voxel: float | None = None,
    max_gaussians: int | None = None,
    metric: bool = False,
    provenance: Mapping[str, str] | None = None,
) -> Scene:
    """One scene from the prediction of one view set.

    A pixel becomes a Gaussian if it is valid, as opaque as `min_opacity` in colour or in meaning,
    as sure as `min_confidence` (or as half of the pixels are, where that is less), no sky and, with
    `prune_edges`, no flying pixel; with `consistent`, if no other view looks through it or shows
    the same surface better (`consistency.agreement`). What the pixels mean is said by `meaning`,
    if there is one, over its own codebook, else by the heads of the network over `codebook`;
    without either the scene has no codes, instances and codebook. Of what `meaning` says, only
    Gaussians that are opaque and large enough carry it (`semantics.register.carries_meaning`).
    `topk` pairs of a code are shared between whole objects (the larger half) and parts. `voxel` is
    the side of the cells, in world units, that are merged to one Gaussian each. `max_gaussians`
    keeps the highest products of opacity (the larger) and confidence. Cameras are in pixels of the
    original photos. Raises ValueError for several view sets, UsageError for too small a voxel.
    """
    if len(prediction.depth) != 1:
        raise ValueError(f"a scene has one view set, not {len(prediction.depth)}")
    valid = torch.from_numpy(views.valid)[None].to(prediction.depth.device)
    kept = keep_pixels(prediction, valid, min_confidence, min_opacity, prune_edges)
    if consistent and len(views) > 1:
        prediction, kept = _agreed(prediction, kept)
    rows = torch.nonzero(kept.flatten())[:, 0]
    gaussians = pixel_gaussians(smoothed(prediction), rows)
    confidence = _numpy(confidences(prediction).flatten()[rows])
    meant = _meaning(prediction, meaning, codebook, rows, gaussians.means, topk)
    scene = Scene(
        gaussians, **meant, cameras=original_cameras(prediction, views), metric=metric,
        provenance=dict(provenance or {}),
    )  # fmt: skip
    if voxel is not None and len(scene):
        scene, confidence = merge_voxels(scene, confidence, voxel)
    _log.info("%d of %d pixels kept, %d Gaussians", len(rows), valid.sum(), len(scene))
    if max_gaussians is not None:
        scene = scene[strongest(scene.gaussians.presence * confidence, max_gaussians)]
    return scene


def _agreed(
    prediction: Prediction, kept: Bool[Tensor, "1 v h w"]
) -> tuple[Prediction, Bool[Tensor, "v h w"]]:
    """What is left of the pixels that are kept, and its looks, after all views were compared."""
    agreed = agreement(prediction, kept)
    colors, opacities = agreed.colors[None], agreed.opacities[None]
    return replace(prediction, colors=colors, opacities=opacities), agreed.kept


def gaussians_from_prediction(prediction: Prediction) -> WorldGaussians:
    """Every pixel's Gaussian in the world frame; differentiable in all that was predicted."""
    b = len(prediction.depth)
    depth = prediction.depth
    if prediction.depth_offsets is not None:
        depth = depth + prediction.depth_offsets
    points = unproject(depth, prediction.intrinsics, prediction.offsets)
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
    square = [
        _square(source, predicted)
        for source, predicted in zip(views.sources, _numpy(prediction.intrinsics[0]), strict=True)
    ]
    known = np.isfinite(views.intrinsics).all(axis=(1, 2), keepdims=True)
    merged = np.where(known, views.intrinsics, np.stack(square))
    intrinsics = torch.from_numpy(merged.astype(np.float32))[None].to(prediction.intrinsics)
    before, after = (k[..., 0, 0] * k[..., 1, 1] for k in (prediction.intrinsics, intrinsics))
    shaped = (before / after).sqrt()[:, -prediction.scales.shape[1] :]
    scales = prediction.scales * shaped[..., None, None, None]
    return replace(prediction, intrinsics=intrinsics, scales=scales)


def _square(source: ViewSource, predicted: Float32[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Intrinsics in view pixels of a photo with square pixels: the longer side's focal holds."""
    longer = int(source.height > source.width)
    focal = predicted[longer, longer] * source.original_from_view[longer, longer]
    original = [[focal, 0, source.width / 2], [0, focal, source.height / 2], [0, 0, 1]]
    return np.linalg.inv(source.original_from_view) @ np.array(original)


def smoothed(prediction: Prediction) -> Prediction:
    """The prediction with Gaussians as wide as they look at the resolution of their own view.

    Renderers widen every splat by part of a pixel. What is learnt under that filter would show
    gaps between the Gaussians where a larger picture has smaller pixels, so a scene carries a
    filter of its own resolution. Source: Yu et al., "Mip-Splatting", 2024, equation 9; here the
    shortest axis grows only as far as it lies across the view, so that surfaces stay flat.
    """
    footprint = prediction.depth / prediction.intrinsics[..., 0, 0, None, None]
    added = SMOOTHING * footprint.square()[..., None]
    variance = prediction.scales.square()
    shortest = prediction.scales.argmin(dim=-1, keepdim=True)
    axes = matrix_from_quaternion(prediction.quaternions_wxyz)
    axis = axes.gather(-1, shortest[..., None, :].expand(*shortest.shape[:-1], 3, 1))[..., 0]
    view = unproject(torch.ones_like(prediction.depth), prediction.intrinsics)
    along = (axis * torch.nn.functional.normalize(view, dim=-1)).sum(-1, keepdim=True)
    share = torch.ones_like(variance).scatter(-1, shortest, 1 - along.square())
    return replace(prediction, scales=(variance + added * share.clamp(min=0)).sqrt())


def radii(prediction: Prediction) -> Float[Tensor, "b v h w"]:
    """Three standard deviations of each Gaussian in its own view, in pixels, as renderers draw it.

    They widen it by LOW_PASS. Source: rasterizer of "3D Gaussian Splatting", Kerbl et al., 2023.
    """
    footprint = prediction.depth / prediction.intrinsics[..., 0, 0, None, None]
    return 3 * ((prediction.scales.amax(-1) / footprint).square() + LOW_PASS).sqrt()


def original_cameras(prediction: Prediction, views: Views) -> Cameras:
    """The predicted cameras, with intrinsics in pixels of the original photos."""
    return Cameras(
        _numpy(prediction.world_from_camera[0]),
        original_intrinsics(views, _numpy(prediction.intrinsics[0])),
        np.array([(source.width, source.height) for source in views.sources], np.int32),
        tuple(source.name for source in views.sources),
        thumbnails_of(views),
    )


def code_pairs(
    prediction: Prediction, codebook: Codebook, rows: Int64[Tensor, " n"], topk: int
) -> tuple[Int16[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
    """IDs and weights that the heads of a network give to some pixels of one view set.

    Half of the weight says which whole object, half which part; with one pair it is the object. A
    codebook without parts has all of it for objects. The weights of each half sum to 1.
    """
    whole, part = (rows_of_level(codebook, level) for level in ("whole", "part"))
    parts = topk // 2 if len(part) else 0
    pairs = [_top_rows(prediction.whole_logits, rows, whole, topk - parts)]
    if parts:
        pairs.append(_top_rows(prediction.part_logits, rows, part, parts))
    ids, weights = (np.concatenate(arrays, axis=1) for arrays in zip(*pairs, strict=True))
    return ids, weights


def object_numbers(
    prediction: Prediction,
    codebook: Codebook,
    rows: Int64[Tensor, " n"],
    means: Float32[np.ndarray, "n 3"],
) -> Int32[np.ndarray, " n"]:
    """Which object each of some pixels belongs to, by what they are, embeddings and places."""
    best = _numpy(prediction.whole_logits.flatten(0, 3)[rows].argmax(-1))
    cell = INSTANCE_CELL * float(prediction.depth.flatten()[rows].median()) if len(rows) else 1.0
    embeddings = _numpy(prediction.instances.flatten(0, 3)[rows])
    ids = rows_of_level(codebook, "whole").astype(np.int64)[best]
    return label_instances(means, ids, embeddings, cell)


def strongest(strength: Float32[np.ndarray, " n"], count: int) -> Int64[np.ndarray, " m"]:
    """The rows of the `count` largest values, in their own order; ties go to the lower row."""
    return np.sort(np.argsort(-strength, kind="stable")[:count])


def pixel_gaussians(prediction: Prediction, rows: Int64[Tensor, " n"]) -> Gaussians:
    """The Gaussians of some pixels of one view set, by their rows in the order of the pixels."""
    world = gaussians_from_prediction(prediction)
    chosen = WorldGaussians(*(values[0, rows] for values in world))
    meaning = prediction.meaning_opacities
    return Gaussians(
        _numpy(chosen.means),
        _numpy(chosen.scales),
        _numpy(chosen.quaternions_wxyz),
        _numpy(chosen.opacities),
        _harmonics(prediction, rows),
        None if meaning is None else _numpy(meaning.flatten()[rows]),
    )


def _harmonics(prediction: Prediction, rows: Int64[Tensor, " n"]) -> Float32[np.ndarray, "n k 3"]:
    """SH coefficients in the world: of the network, or of colours alike from all sides."""
    if prediction.harmonics is None:
        colors = prediction.colors.flatten(0, 3)[rows]
        return _numpy((colors - 0.5) / SH_C0)[:, None]
    coefficients = _numpy(prediction.harmonics.flatten(0, 3)[rows])
    view = _numpy(rows) // prediction.depth[0, 0].numel()
    for i, pose in enumerate(_numpy(prediction.world_from_camera[0])):
        mine = view == i
        coefficients[mine] = rotate_harmonics(coefficients[mine], pose[:3, :3])
    return coefficients


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


class _Meaning(TypedDict):
    """What a scene says of its Gaussians' meaning; None is nothing."""

    codes: SparseCode | None
    instances: Int32[np.ndarray, " n"] | None
    codebook: Codebook | None


def _meaning(
    prediction: Prediction,
    meaning: PixelMeaning | None,
    codebook: Codebook | None,
    rows: Int64[Tensor, " n"],
    means: Float32[np.ndarray, "n 3"],
    topk: int,
) -> _Meaning:
    """The meaning of the kept pixels, by whoever knows it; see `to_scene`."""
    if meaning is not None:
        pixels = _numpy(rows)
        ids, weights = (
            pairs.reshape(-1, pairs.shape[-1])[pixels] for pairs in (meaning.ids, meaning.weights)
        )
        code = codes.from_pairs(ids, weights, topk, code_gram(meaning.codebook))
        apart = prediction.meaning_opacities
        opaque = _numpy((prediction.opacities if apart is None else apart).flatten()[rows])
        large = _numpy(radii(smoothed(prediction)).flatten()[rows])
        code = without_meaning(code, carries_meaning(opaque, large))
        instances = meaning.instances.reshape(-1)[pixels]
        return _Meaning(codes=code, instances=instances, codebook=meaning.codebook)
    if codebook is None or not prediction.whole_logits.shape[-1]:
        return _Meaning(codes=None, instances=None, codebook=None)
    return _Meaning(
        codes=codes.from_pairs(
            *code_pairs(prediction, codebook, rows, topk), topk, code_gram(codebook)
        ),
        instances=object_numbers(prediction, codebook, rows, means),
        codebook=codebook,
    )


def _numpy(tensor: Tensor) -> np.ndarray:
    """A float32 or integer array on the host, without a gradient."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
