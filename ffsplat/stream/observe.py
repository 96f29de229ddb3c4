"""From the pixels of one view to Gaussians in the world that a map can take in."""

import numpy as np
import torch
from jaxtyping import Bool, Int32

from ffsplat.alignment import Similarity
from ffsplat.merge import code_pairs, object_numbers, pixel_gaussians, radii, smoothed
from ffsplat.prediction import PixelMeaning, Prediction
from ffsplat.pruning import confidences
from ffsplat.semantics.register import carries_meaning
from ffsplat.stream.delta import CODES
from ffsplat.stream.map import Observed
from ffsplat.types import NO_ID, Codebook, Gaussians


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
    rows = torch.from_numpy(np.flatnonzero(pixels))
    wide = smoothed(prediction)
    gaussians = pixel_gaussians(wide, rows)
    ids, weights, instances = _meaning(wide, rows, gaussians, codebook, meaning)
    moved = world_from_window.gaussians(gaussians)
    return Observed(
        means=moved.means,
        scales=moved.scales,
        quaternions_wxyz=moved.quaternions_wxyz,
        opacities=moved.opacities,
        colors=moved.colors,
        confidence=confidences(prediction).flatten()[rows].float().numpy(),
        ids=ids,
        weights=weights,
        instances=instances,
        target=targets[pixels],
    )


def _meaning(
    prediction: Prediction,
    rows: torch.Tensor,
    gaussians: Gaussians,
    codebook: Codebook | None,
    meaning: PixelMeaning | None,
):
    """Code pairs and object numbers of some pixels, by whoever knows them (`merge.to_scene`)."""
    count = len(rows)
    if meaning is not None:
        chosen = rows.numpy()
        ids = meaning.ids.reshape(-1, meaning.ids.shape[-1])[chosen][:, :CODES]
        weights = meaning.weights.reshape(-1, meaning.weights.shape[-1])[chosen][:, :CODES]
        large = radii(prediction).flatten()[rows].float().numpy()
        weights = weights * carries_meaning(gaussians.opacities, large)[:, None]
        instances = meaning.instances.reshape(-1)[chosen]
    elif codebook is not None and prediction.whole_logits.shape[-1]:
        ids, weights = code_pairs(prediction, codebook, rows, CODES)
        weights = weights / weights.sum(1, keepdims=True)
        instances = object_numbers(prediction, codebook, rows, gaussians.means)
    else:
        ids = np.full((count, CODES), NO_ID, np.int16)
        weights = np.zeros((count, CODES), np.float32)
        instances = np.full(count, NO_ID, np.int32)
    unused = weights <= 0
    return np.where(unused, np.int16(NO_ID), ids), weights.astype(np.float32), instances
