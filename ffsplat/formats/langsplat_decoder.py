"""What LangSplat learns: a latent of few numbers for each Gaussian, which a network decodes.

Source: Qin et al., "LangSplat", 2024: its gaussian_renderer scales a latent to length 1, blends it,
and decodes what a pixel then has; autoencoder/model.py is the network, `best_ckpt.pth` its file.
Here the latent of each Gaussian is decoded, which is what LangSplat has where that one alone is
seen; what it makes of blended latents is in no Gaussian.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ffsplat.errors import SceneFileError
from ffsplat.formats.foreign import Clustered, cluster, side_tensors
from ffsplat.formats.langsplat_v2 import SPACE

FILES = ("autoencoder*.safetensors", "best_ckpt.pth", "ae_ckpt/best_ckpt.pth",
         "../best_ckpt.pth", "../ae_ckpt/best_ckpt.pth")  # fmt: skip
"""Where the network is looked for, from the folder of a checkpoint."""

SPACE_SIZE = 512
MAX_LAYERS = 32
MAX_WIDTH = 4096
MAX_LATENT = 64
AT_ONCE = 1 << 14
"""Gaussians that are decoded at a time."""

Layers = tuple[tuple[Float32[np.ndarray, "_ _"], Float32[np.ndarray, " _"]], ...]
"""Weight, outputs by inputs, and bias of each layer."""


def read_decoder(path: Path, inputs: int) -> Layers:
    """Weights and biases of the layers of the decoder, in order.

    The file is one of PyTorch or a .safetensors of the same names. Raises SceneFileError for one
    that is no such network, or for latents of another size, else as `side_tensors`.
    """
    places = range(0, 2 * MAX_LAYERS, 2)  # activations stand between them
    names = tuple(f"decoder.{i}.{part}" for i in places for part in ("weight", "bias"))
    tensors, layers = side_tensors(path, names), []
    for i in places:
        weight, bias = tensors.get(f"decoder.{i}.weight"), tensors.get(f"decoder.{i}.bias")
        if weight is None or bias is None:
            break
        fits = weight.shape == (len(bias), inputs) and bias.ndim == 1
        if not fits or not 0 < len(bias) <= MAX_WIDTH:
            raise SceneFileError(f"{path}: decoder.{i} is {weight.shape}, not for {inputs} inputs")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise SceneFileError(f"{path}: decoder.{i} has values that are not finite")
        layers.append((weight, bias))
        inputs = len(bias)
    if not layers:
        raise SceneFileError(f"{path} has no decoder.0.weight: it is no autoencoder of LangSplat")
    return tuple(layers)


def decode(latents: Float32[np.ndarray, "n latent"], layers: Layers) -> Float32[np.ndarray, "n d"]:
    """The features of latents, of any length; 0 for a latent of 0, which nothing was learnt for.

    Without layers they are the latents themselves, scaled to length 1.
    """
    lengths = np.linalg.norm(latents, axis=1, keepdims=True)
    found = latents / (lengths + np.float32(1e-9))
    for i, (weight, bias) in enumerate(layers):
        found = (found if i == 0 else np.maximum(found, 0)) @ weight.T + bias
    return np.where(lengths > 0, found, np.float32(0))


def decoded_codes(latents: Float32[np.ndarray, "n latent"], layers: Layers) -> Clustered:
    """Features as codes on rows of the space of CLIP's texts, by `foreign.cluster`.

    Features of another size than CLIP's get a space of their own, in which no text can be asked.
    """

    def features() -> Iterator[Float32[np.ndarray, "block d"]]:
        for start in range(0, len(latents), AT_ONCE):
            yield decode(latents[start : start + AT_ONCE], layers)

    size = len(layers[-1][1]) if layers else latents.shape[1]
    space = SPACE if size == SPACE_SIZE else f"features:{size}"
    return cluster(features, len(latents), space)
