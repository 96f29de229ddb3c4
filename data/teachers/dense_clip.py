"""OpenCLIP, patch by patch: features that lie in the space of its text."""

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from data.teachers.name import NetworkName
from data.teachers.network import DenseNetwork
from data.teachers.weights import Weights, local_file
from ffsplat.clip import ClipName, load_clip, random_clip
from ffsplat.semantics.dense_ways import value_features


class DenseClip(DenseNetwork):
    """The vision tower of an OpenCLIP ViT with a last block in which no token sees another.

    Features have length 1: their inner product with a unit text embedding is the cosine. Source:
    `ffsplat.semantics.dense_ways.value_features`.
    """

    def __init__(self, visual: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        """`visual` is an open_clip VisionTransformer without an attention pooler."""
        tower: Any = visual
        super().__init__(tuple(tower.patch_size), tower.output_dim, mean, std)
        self.visual = tower
        self.requires_grad_(False).eval()

    def dense(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Features of normalised images, in the text space, at length 1."""
        features = value_features(self.visual, images)
        return F.normalize(features, dim=-1).movedim(-1, 1)


def load_dense_clip(name: NetworkName, weights: Weights) -> tuple[DenseClip, Path | None]:
    """The network and the file of its weights, None for random ones.

    Raises UsageError for a model that open_clip does not have, that is no plain ViT, or whose
    weights were trained with another activation; WeightsMissing and CheckpointError for weights
    that are not to be had or do not fit.
    """
    network = ClipName(name.arch, name.tag)
    if weights == "random":
        clip = random_clip(network)
    else:
        clip = load_clip(network, weights=None if weights == "hub" else local_file(weights))
    return DenseClip(clip.model.visual, clip.mean, clip.std), clip.weights
