"""Transformers of timm, patch by patch: DINO, DINOv2 and others of their form."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from data.teachers.name import NetworkName, timm_weights
from data.teachers.network import DenseNetwork
from data.teachers.weights import Weights, hub_file, local_file
from ffsplat.errors import CheckpointError, UsageError

SAFE = "model.safetensors"
"""What timm calls its weights on the hub."""


class DenseVit(DenseNetwork):
    """The tokens of a timm ViT after its last norm, without those that stand for no patch.

    Source: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023, whose
    frozen patch tokens are what dense tasks read.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]):
        """`network` is one of timm's with `dynamic_img_size`."""
        vit: Any = network
        super().__init__(tuple(vit.patch_embed.patch_size), vit.num_features, mean, std)
        self.network = vit
        self.requires_grad_(False).eval()

    def dense(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Patch tokens of normalised images."""
        tokens = self.network.forward_features(images)[:, self.network.num_prefix_tokens :]
        return tokens.mT.unflatten(2, (images.shape[2] // self.patch[0], -1))


def load_dense_vit(name: NetworkName, weights: Weights) -> tuple[DenseVit, Path | None]:
    """The network and the file of its weights, None for random ones.

    Raises UsageError for a network that timm does not have or that is no such transformer,
    WeightsMissing and CheckpointError for weights that are not to be had or do not fit.
    """
    path = _weights_file(name, weights)
    network = _create(name, None)
    if path is not None:
        try:
            network = _create(name, path)
        except (RuntimeError, KeyError, SafetensorError) as error:
            raise CheckpointError(f"the weights in {path} do not fit {name.arch}") from error
    config: Any = network.pretrained_cfg
    return DenseVit(network, config["mean"], config["std"]), path


def _create(name: NetworkName, path: Path | None) -> nn.Module:
    import timm
    from timm.layers.patch_embed import PatchEmbed

    # Without `custom_load` False timm would read the file as an array of numpy for some networks.
    file = {"file": str(path), "custom_load": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            network = timm.create_model(
                name.full,
                pretrained=path is not None,
                pretrained_cfg_overlay=None if path is None else file,
                num_classes=0,
                dynamic_img_size=True,
            )
        except TypeError as error:
            raise _no_transformer(name) from error
    patches = isinstance(getattr(network, "patch_embed", None), PatchEmbed)
    if not (patches and hasattr(network, "num_prefix_tokens")):
        raise _no_transformer(name)
    return network


def _no_transformer(name: NetworkName) -> UsageError:
    return UsageError(
        f"{name.arch} is no transformer of timm that takes images of any size",
        "vit_small_patch14_dinov2 and its like are",
    )


def _weights_file(name: NetworkName, weights: Weights) -> Path | None:
    if weights == "random":
        return None
    if isinstance(weights, Path):
        return local_file(weights)
    published = timm_weights(name)
    if published is None or not published.hf_hub_id:
        raise UsageError(f"timm knows no weights of {name.arch}", "give a file by --weights")
    file = Path(published.hf_hub_filename or SAFE).with_suffix(".safetensors")
    return hub_file(published.hf_hub_id, str(file))
