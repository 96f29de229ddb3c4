"""Meaning without training: photos lifted into codes whose rows text of any kind is compared with.

What CLIP sees in each place of each photo becomes rows of a bank and votes of all views on the
surfaces that the geometry network found; both networks are used as they were published.
"""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32

from ffsplat import codes
from ffsplat.clip import load_clip, parse_space
from ffsplat.codebook import gram
from ffsplat.errors import UsageError
from ffsplat.geometry import transform_points, unproject
from ffsplat.prediction import PixelMeaning, Prediction
from ffsplat.semantics.bank import Bank
from ffsplat.semantics.dense import DenseClip
from ffsplat.semantics.lift import label_pixels, new_bank
from ffsplat.semantics.masks import masks_of_views
from ffsplat.semantics.reunite import Matches, mutual_matches
from ffsplat.types import Scene, Views


def dense_clip(
    space: str,
    weights: Path | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    offline: bool = False,
) -> DenseClip:
    """The network of a text space, from a file with its `weights` if they are here already.

    Raises UsageError for a space without images (the lexicon), and as `clip.load_clip`.
    """
    name = parse_space(space)
    if name is None:
        raise UsageError(f"{space!r} is no space of photos", "give open_clip:<arch>/<tag>")
    clip = load_clip(name, weights=weights, offline=offline)
    return DenseClip(clip=clip, device=device, dtype=dtype)


class OpenVocabulary:
    """Labels the views of one scene, pass by pass; its bank of rows grows with what is seen."""

    def __init__(self, dense: DenseClip, masks: Any = None, hard: bool = False):
        """Start a scene with an empty bank.

        `masks` makes masks of a photo, as `masks.masks_of_views` says; what lies in one is one
        thing then. `hard` gives each object a row of its own, and no bank is kept.
        """
        self.dense = dense
        self.masks = masks
        self.hard = hard
        self.bank: Bank | None = None

    @property
    def growing(self) -> bool:
        """Whether later codebooks have the rows of earlier ones under the same IDs."""
        return not self.hard

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
        if self.bank is None and self.growing:
            self.bank = new_bank(features)
        masks, matches = None, []
        if self.masks is not None:
            masks = masks_of_views((views.pixels * 255 + 0.5).astype(np.uint8), self.masks)
            matches = _matches(prediction)
        return label_pixels(
            features,
            _points(prediction),
            confidence,
            _usable(prediction, views.valid),
            space=self.dense.name,
            bank=self.bank,
            masks=masks,
            colors=views.pixels,
            matches=matches,
            topk=topk,
            min_confidence=min_confidence,
            hard=self.hard,
        )

    def finish(self, scene: Scene) -> Scene:
        """The scene with a codebook of the rows that are left, and codes that point into it."""
        if self.bank is None or scene.codes is None:
            return scene
        rows = self.bank.compact()
        codebook = self.bank.codebook(self.dense.name)
        return replace(
            scene,
            codes=codes.remap(scene.codes, rows, gram(codebook, self.dense.name)),
            codebook=codebook,
        )


def _matches(prediction: Prediction) -> list[Matches]:
    """Patches of all pairs of views that the geometry network finds alike."""
    if prediction.features is None:
        return []
    pairs = list(combinations(range(prediction.depth.shape[1]), 2))
    tokens = prediction.features[0].float().numpy()
    height, width = prediction.depth.shape[2:]
    return mutual_matches(tokens, pairs, (height, width))


def _points(prediction: Prediction) -> Float32[np.ndarray, "v h w 3"]:
    """Where pixels lie in the world."""
    points = unproject(prediction.depth.float(), prediction.intrinsics.float())
    world = transform_points(prediction.world_from_camera.float(), points.flatten(2, 3))
    return world.reshape(points.shape)[0].numpy()


def _usable(prediction: Prediction, valid: Bool[np.ndarray, "v h w"]) -> Bool[np.ndarray, "v h w"]:
    depth = prediction.depth[0].float()
    return valid & (depth.isfinite() & (depth > 0)).numpy()
