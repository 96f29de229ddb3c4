"""How good the lifting of 2-D features is, beside an exact truth: the command and its table.

    python -m train.evaluation.lifting

Rooms have exact labels, depths and cameras. A teacher's features are made from the labels and
spoilt (`label_features`); what every view says on its own is compared with what all say together.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32, Int

from data.rooms import WHOLE_NAMES
from ffsplat.prediction import PixelMeaning
from train.metrics import confusion
from train.metrics import mean_iou as iou_of_counts

SPACE = "labels"
SIZE = 512
"""Numbers in a feature."""


@dataclass(frozen=True, eq=False)
class World:
    """What is known, or predicted, of where the pixels of a room lie."""

    points: Float32[np.ndarray, "v h w 3"]
    confidence: Float32[np.ndarray, "v h w"]
    valid: Bool[np.ndarray, "v h w"]


def mean_iou(guess: Int[np.ndarray, "*s"], truth: Int[np.ndarray, "*s"]) -> float:
    """Intersection over union, averaged over the labels that occur in the truth."""
    return iou_of_counts(_counts(guess, truth))


def single_view(
    features: Float32[np.ndarray, "v y x d"],
    vectors: Float32[np.ndarray, "labels d"],
    size: tuple[int, int],
) -> Int[np.ndarray, "v h w"]:
    """The label of each pixel by its view alone: scores, enlarged bilinearly, then the best."""
    scores = torch.from_numpy(features @ vectors.T).permute(0, 3, 1, 2)
    return F.interpolate(scores, size=size, mode="bilinear").argmax(1).numpy()


def lifted_labels(
    meaning: PixelMeaning, vectors: Float32[np.ndarray, "labels d"]
) -> Int[np.ndarray, "v h w"]:
    """The label that each pixel's code scores highest; no label is the last, never right."""
    rows = meaning.codebook.spaces[SPACE].astype(np.float32) @ vectors.T
    padded = np.concatenate([rows, np.zeros((1, len(vectors)), np.float32)])
    best = np.empty(meaning.ids.shape[:3], np.int64)
    for view in range(len(best)):
        scores = np.einsum("hwk,hwkt->hwt", meaning.weights[view], padded[meaning.ids[view]])
        best[view] = np.where(meaning.ids[view, ..., 0] < 0, len(vectors), scores.argmax(-1))
    return best


def _counts(guess: np.ndarray, truth: np.ndarray) -> torch.Tensor:
    labels = len(WHOLE_NAMES) + 1
    return confusion(torch.from_numpy(guess), torch.from_numpy(truth), labels)
