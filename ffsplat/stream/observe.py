"""From the pixels of one view to Gaussians in the world that a map can take in."""

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Int64

from ffsplat.alignment import Similarity
from ffsplat.codebook import rows_of_level
from ffsplat.merge import INSTANCE_CELL, radii, smoothed
from ffsplat.prediction import PixelMeaning, Prediction
from ffsplat.semantics.register import carries_meaning
from ffsplat.stream.delta import CODES
from ffsplat.stream.map.lift import Pixels, best_classes, lift
from ffsplat.stream.map.objects import number_objects
from ffsplat.stream.map.observed import Batch, Observed
from ffsplat.stream.turns import quaternion_of
from ffsplat.types import NO_ID, SH_C0, Codebook


def observe(
    prediction: Prediction,
    pixels: Bool[np.ndarray, " p"],
    world_from_window: Similarity,
    codebook: Codebook | None,
    meaning: PixelMeaning | None,
    targets: Int32[np.ndarray, " p"],
) -> Observed:
    """What some pixels of a prediction of one view say, in the world.

    `meaning` is of the same view; without it the heads of the network speak over `codebook`.
    `targets` are places in the map to join, -1 for none. Colours lose what depends on direction.
    """
    rows = np.flatnonzero(pixels)
    batch = _room(targets[pixels])
    _lift(prediction, rows, world_from_window, batch)
    if meaning is not None:
        _take_meaning(prediction, rows, meaning, batch)
    elif codebook is not None and prediction.whole_logits.shape[-1]:
        _ask_heads(prediction, rows, world_from_window, codebook, batch)
    return Observed(*batch)


def _room(targets: Int32[np.ndarray, " n"]) -> Batch:
    """Arrays for as many Gaussians, which mean nothing yet."""
    count = len(targets)
    means, scales, colors = np.empty((3, count, 3), np.float32)
    opacities, confidence = np.empty((2, count), np.float32)
    return Batch(
        means=means,
        scales=scales,
        quaternions_wxyz=np.empty((count, 4), np.float32),
        opacities=opacities,
        colors=colors,
        confidence=confidence,
        ids=np.full((count, CODES), NO_ID, np.int16),
        weights=np.zeros((count, CODES), np.float32),
        instances=np.full(count, NO_ID, np.int32),
        target=targets,
    )


def _lift(
    prediction: Prediction,
    rows: Int64[np.ndarray, " n"],
    world_from_window: Similarity,
    batch: Batch,
) -> None:
    """Fill in all but the meaning."""
    depth = _flat(prediction.depth)
    moved, harmonics = prediction.depth_offsets, prediction.harmonics
    colors = _flat(prediction.colors, 3)
    if harmonics is not None:  # the constant band alone
        colors = np.float32(SH_C0) * _flat(harmonics[..., 0, :], 3) + np.float32(0.5)
    pixels = Pixels(
        depth=depth,
        centres=depth if moved is None else depth + _flat(moved),
        errors=_flat(prediction.depth_error),
        offsets=_flat(prediction.offsets, 2),
        scales=_flat(prediction.scales, 3),
        quaternions_wxyz=_flat(prediction.quaternions_wxyz, 4),
        opacities=_flat(prediction.opacities),
        colors=colors,
    )
    k = prediction.intrinsics[0, 0].double().numpy()
    pose = world_from_window.poses(prediction.world_from_camera[0].double().numpy())
    into_world = pose[:, :3].copy()
    into_world[..., :3] *= world_from_window.scale
    turn = tuple(quaternion_of(pose[0, :3, :3]).tolist())
    lens = float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])
    width = prediction.depth.shape[-1]
    lift(pixels, rows, width, lens, into_world, turn, world_from_window.scale, batch)


def _take_meaning(
    prediction: Prediction, rows: Int64[np.ndarray, " n"], meaning: PixelMeaning, batch: Batch
) -> None:
    """Fill in what is known to be meant; only what is opaque and large enough carries it."""
    ids, weights = (
        pairs.reshape(-1, pairs.shape[-1])[rows, :CODES] for pairs in (meaning.ids, meaning.weights)
    )
    large = _flat(radii(smoothed(prediction)))[rows]
    means_it = (weights > 0) & carries_meaning(batch.opacities, large)[:, None]
    batch.ids[:, : ids.shape[1]] = np.where(means_it, ids, np.int16(NO_ID))
    batch.weights[:, : ids.shape[1]] = np.where(means_it, weights, np.float32(0))
    batch.instances[:] = meaning.instances.reshape(-1)[rows]


def _ask_heads(
    prediction: Prediction,
    rows: Int64[np.ndarray, " n"],
    world_from_window: Similarity,
    codebook: Codebook,
    batch: Batch,
) -> None:
    """Fill in what the heads of the network say, as `merge.code_pairs` and `object_numbers` do."""
    whole, part = (rows_of_level(codebook, level) for level in ("whole", "part"))
    wholes = CODES - CODES // 2 if len(part) else CODES
    share = np.float32(0.5 if len(part) else 1)
    heads = [(prediction.whole_logits, whole, 0, wholes)]
    heads += [(prediction.part_logits, part, wholes, CODES)] if len(part) else []
    for logits, numbers, first, last in heads:
        said = _flat(logits, logits.shape[-1])
        best_classes(said, rows, numbers, share, first, last, batch.ids, batch.weights)
    objects = batch.ids[:, 0].astype(np.int32)
    batch.ids[batch.weights <= 0] = NO_ID
    middle = np.median(_flat(prediction.depth)[rows]) if len(rows) else 1.0
    cell = float(INSTANCE_CELL * world_from_window.scale * middle)
    camera = world_from_window.poses(prediction.world_from_camera[0].double().numpy())[0, :3, 3]
    embeddings = _flat(prediction.instances, prediction.instances.shape[-1])[rows]
    batch.instances[:] = number_objects(batch.means, objects, embeddings, camera, cell)


def _flat(values: torch.Tensor, *channels: int) -> Float32[np.ndarray, "p *c"]:
    """A picture of one view in the order of its pixels, in one piece."""
    return np.ascontiguousarray(values.float().numpy()).reshape(-1, *channels)
