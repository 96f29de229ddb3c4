"""What a new view shares with the keyframes of its window: surfaces that both see, and free space.

Every pixel that becomes a Gaussian joins the one that a keyframe made of the same surface, as in
projective data association (Keller et al., "Real-Time 3D Reconstruction in Dynamic Scenes using
Point-Based Fusion", 3DV 2013); it goes if it stands where others look through.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64

from ffsplat.consistency import VETO, look, maps_of, points_of
from ffsplat.prediction import Prediction


@dataclass(frozen=True, eq=False)
class Meeting:
    """The pixels of a new view: which stay, and where others show the same point.

    `pixels` holds for each of the other views the flat index of the pixel that agrees, -1 where
    none does. `known` is the share of the pixels that stay which some other view agrees with.
    """

    kept: Bool[np.ndarray, " p"]
    pixels: Int64[np.ndarray, "others p"]
    known: float


def meet(
    prediction: Prediction, kept: Bool[torch.Tensor, "1 v h w"], new: int, others: Sequence[int]
) -> Meeting:
    """Compare view `new` of one set with `others`, by the pixels `kept` of each.

    Which points agree, and which stand in free space, is decided as in `consistency.agreement`.
    """
    maps = maps_of(prediction, kept[0])
    points = points_of(prediction, kept)[new]
    own = maps.columns[new, :, 3]
    support, veto = own.clone(), torch.zeros_like(own)
    pixels = torch.full((len(others), len(own)), -1)
    for slot, other in enumerate(others):
        sight = look(points, maps, new, other)
        support += sight.confidence * sight.agrees
        veto += sight.confidence * sight.veils
        pixels[slot] = torch.where(sight.agrees, sight.pixel, -1)
    stays = kept[0, new].flatten() & ~(veto > VETO * support)
    agreed = (pixels >= 0).any(0) & stays if len(others) else torch.zeros_like(stays)
    known = float(agreed.sum() / stays.sum().clamp(min=1))
    return Meeting(stays.numpy(), pixels.numpy(), known)
