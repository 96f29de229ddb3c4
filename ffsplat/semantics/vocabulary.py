"""Meaning without training: photos lifted into codes whose rows text of any kind is compared with.

What CLIP sees in each place of each photo becomes rows of a bank and votes of all views on the
surfaces that the geometry network found; both networks are used as they were published.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int16

from ffsplat.geometry import transform_points, unproject
from ffsplat.prediction import PixelMeaning, Prediction
from ffsplat.semantics.bank import Bank
from ffsplat.semantics.dense import DenseClip
from ffsplat.semantics.lift import label_pixels, new_bank
from ffsplat.types import Codebook, Views


class OpenVocabulary:
    """Labels the views of one scene, pass by pass; its bank of rows grows with what is seen."""

    def __init__(self, dense: DenseClip):
        """Start a scene with an empty bank."""
        self.dense = dense
        self.bank: Bank | None = None

    def label(
        self,
        prediction: Prediction,
        views: Views,
        confidence: Float32[np.ndarray, "v h w"],
        *,
        topk: int = 4,
        min_confidence: float = 0.05,
    ) -> PixelMeaning:
        """Codes and object numbers of the pixels of one view set; see `lift.label_pixels`.

        The geometry network's own features say which patches belong together (`dense_ways.proxy`).
        IDs are those of the bank: rows may merge later, see `finish`.
        """
        affinity = None if prediction.features is None else prediction.features[0].flatten(1, 2)
        features = self.dense.features(
            torch.from_numpy(views.pixels).movedim(-1, 1),
            torch.from_numpy(views.valid),
            None if affinity is None else affinity.float(),
        )
        if self.bank is None:
            self.bank = new_bank(features)
        depth = _usable(prediction, views.valid)
        return label_pixels(
            features,
            _points(prediction),
            confidence,
            depth,
            space=self.dense.name,
            bank=self.bank,
            colors=views.pixels,
            topk=topk,
            min_confidence=min_confidence,
        )

    def finish(self) -> tuple[Codebook, Int16[np.ndarray, " rows"]]:
        """The codebook without rows that merged or went, and the new ID of each old one."""
        assert self.bank is not None  # a view was labelled
        rows = self.bank.compact()
        return self.bank.codebook(self.dense.name), rows


def _points(prediction: Prediction) -> Float32[np.ndarray, "v h w 3"]:
    """Where pixels lie in the world."""
    points = unproject(prediction.depth.float(), prediction.intrinsics.float())
    world = transform_points(prediction.world_from_camera.float(), points.flatten(2, 3))
    return world.reshape(points.shape)[0].numpy()


def _usable(
    prediction: Prediction, valid: Bool[np.ndarray, "v h w"]
) -> Bool[np.ndarray, "v h w"]:
    depth = prediction.depth[0].float()
    return valid & (depth.isfinite() & (depth > 0)).numpy()
