"""How an image looks to a network: distances between its features."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from ffsplat.errors import CheckpointError, UsageError


class FeatureNetwork(nn.Module):
    """A frozen timm network that answers an image with feature maps, finest first.

    `weights` is a safetensors file of the whole network under timm's names, or "random": weights
    drawn by `seed`, since convolutions relate a pixel to its surroundings before they are trained
    (Liu et al., "A Generic Perceptual Loss for Modeling Structured Output Dependencies", 2021).
    There is no default: whoever uses it says which. Raises UsageError for a network that timm does
    not have or that gives no maps, CheckpointError for weights that do not fit it.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        weights: Path | Literal["random"],
        layers: Sequence[int] | None = None,
        seed: int = 0,
    ):
        """`layers` numbers the maps to use, all by default."""
        super().__init__()
        self.network = _feature_network(name, weights, layers, seed)
        for key in ("mean", "std"):
            values = torch.tensor(self.network.pretrained_cfg[key])  # pyright: ignore
            self.register_buffer(key, values.view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FeatureNetwork":
        """Stay as it is: statistics of a frozen network do not move."""
        return super().train(False)

    def forward(self, images: Float[Tensor, "*b 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """Feature maps of images in [0, 1]; n counts all images."""
        return self.network(((images - self.mean) / self.std).flatten(0, -4))


def _feature_network(
    name: str, weights: Path | Literal["random"], layers: Sequence[int] | None, seed: int
) -> nn.Module:
    import timm

    options: dict[str, Any] = {} if layers is None else {"out_indices": tuple(layers)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = timm.create_model(name, features_only=True, **options)
        except (RuntimeError, IndexError, AssertionError) as error:
            raise UsageError(
                f"timm has no network {name!r} with feature maps {layers or 'at all'}",
                hint="timm.list_models() lists its networks",
            ) from error
    if weights == "random":
        return network
    # timm would unpickle any other format.
    if weights.suffix != ".safetensors" or not weights.is_file():
        raise CheckpointError(
            f"{weights} is not a safetensors file",
            hint='give one with the weights of the network, or "random"',
        )
    options["pretrained_cfg_overlay"] = {"file": str(weights)}
    try:
        return timm.create_model(name, features_only=True, pretrained=True, **options)
    except (KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"the weights in {weights} do not fit {name}") from error


def feature_distance(
    features: Sequence[Float[Tensor, "n _ _ _"]],
    truth: Sequence[Float[Tensor, "n _ _ _"]],
    weights: Sequence[Float[Tensor, " _"]] | None = None,
) -> Float[Tensor, " n"]:
    """How differently two images look to a network: one number an image, of its maps (n, c, y, x).

    The squared difference of features scaled to unit length in each pixel, summed over channels and
    averaged over pixels and layers. `weights` multiplies the squared differences of each layer's
    channels, as in the code of the source; its equation squares them too. Source: Zhang et al.,
    "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018 (LPIPS),
    equation 1, which sums over layers.
    """
    distances = []
    for layer, (one, other) in enumerate(zip(features, truth, strict=True)):
        squares = (_unit(one) - _unit(other)).square()
        if weights is not None:
            squares = squares * weights[layer][:, None, None]
        distances.append(squares.sum(1).mean((1, 2)))
    return torch.stack(distances).mean(0)


def _unit(features: Float[Tensor, "n c y x"]) -> Float[Tensor, "n c y x"]:
    return F.normalize(features, dim=1, eps=1e-6)


def perceptual_loss(
    image: Float[Tensor, "*b 3 h w"],
    truth: Float[Tensor, "*b 3 h w"],
    network: FeatureNetwork,
    weights: Sequence[Float[Tensor, " _"]] | None = None,
) -> Float[Tensor, ""]:
    """Mean `feature_distance` of images through a network; the truth gets no gradient."""
    with torch.no_grad():
        wanted = network(truth)
    return feature_distance(network(image), wanted, weights).mean()
