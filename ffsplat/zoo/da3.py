"""Depth Anything 3: its published checkpoints in this package's any-view network.

Source: github.com/ByteDance-Seed/Depth-Anything-3 (Apache-2.0), for the layout of its files.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ffsplat.config import ModelConfig
from ffsplat.errors import CheckpointError
from ffsplat.model import CHANNELS_LAST, FFSplat
from ffsplat.weights import read_header, read_weights, shown
from ffsplat.zoo import CONFIG, WEIGHTS
from ffsplat.zoo.da3_names import PRESETS, SHARED_NORM, is_da3, original_name

__all__ = ["expected_tensors", "from_original", "is_da3", "load_da3", "read_da3_config"]

MAX_CONFIG = 1 << 20

PREFIX = "model."
"""Of every name in a published file."""


def load_da3(folder: Path) -> FFSplat:
    """The network of a published checkpoint, in float32 on the CPU and in evaluation mode.

    The folder holds the original config.json and model.safetensors. Raises CheckpointError for a
    model other than those of `PRESETS`, and if tensors are missing, unexpected, mis-shaped or not
    finite.
    """
    config = read_da3_config(folder)
    path = folder / WEIGHTS
    with torch.device("meta"):
        network = FFSplat(config)
    wanted = expected_tensors(network, read_header(path))
    tensors = read_weights(path, wanted)
    network.load_state_dict(from_original(network, tensors), strict=True, assign=True)
    return network.to(memory_format=CHANNELS_LAST).eval()


def read_da3_config(folder: Path) -> ModelConfig:
    """The description of a published checkpoint as one of ours; see `load_da3` for errors."""
    path = folder / CONFIG
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_CONFIG))
        name = values["model_name"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path} is no config of Depth Anything 3: {shown(error)}") from error
    if name not in PRESETS:
        raise CheckpointError(f"no importer for {shown(name)}", f"there is {', '.join(PRESETS)}")
    return PRESETS[name]


def expected_tensors(network: FFSplat, present: Iterable[str]) -> dict[str, Tensor]:
    """Names and shapes (as meta tensors) of what a published file must hold.

    `present` are the file's names: of tensors that nothing reads, or that have several names, a
    file may hold all or some.
    """
    expected, present = {}, set(present)
    for ours, tensor in network.state_dict().items():
        name = PREFIX + original_name(ours, network.config)
        names = [level for level in _levels(name) if level in present]
        if not ours.startswith(SHARED_NORM) or not names:
            names.append(name)
        shape = torch.empty(_original_shape(ours, tensor), device="meta")
        expected |= dict.fromkeys(names, shape)
    return expected


def from_original(network: FFSplat, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our parameters from the original's; `tensors` has what `expected_tensors` asks for."""
    config, ours = network.config, {}
    for name, like in network.state_dict().items():
        theirs = PREFIX + original_name(name, config)
        if theirs not in tensors:  # the shared norm, under the name that the file kept
            theirs = next(n for n in _levels(theirs) if n in tensors)
        tensor = tensors[theirs].reshape(like.shape)
        part = name.split(".")
        if part[0] == "blocks" and int(part[1]) >= config.rotary_from:
            tensor = _interleaved(part[-2], tensor, config.width // config.heads)
        ours[name] = tensor
    return ours


def _levels(name: str) -> list[str]:
    """Names of a part of the ray head at each of four levels, the last of which is read."""
    return [name.replace("_aux.3.", f"_aux.{level}.") for level in range(4)]


def _original_shape(ours: str, tensor: Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    if ours == "class_token":
        return (1, 1, *shape)
    if ours == "special":
        return (1, shape[0], shape[2])
    if ours == "position.table":
        return (1, *shape)
    if ".pyramid.project." in ours and ours.endswith("weight"):
        return (*shape, 1, 1)  # a convolution of single pixels is a linear map
    return shape


def _interleaved(module: str, tensor: Tensor, head_width: int) -> Tensor:
    """Queries and keys with the two channels that turn together side by side.

    The original turns channel i of a half with channel i of its other half. Products of queries
    and keys do not depend on the order of their channels.
    """
    quarter = head_width // 4
    order = torch.arange(head_width).reshape(2, 2, quarter).transpose(1, 2).flatten()
    if module in ("q_norm", "k_norm"):
        return tensor[order]
    if module != "qkv":
        return tensor
    split = tensor.unflatten(0, (3, -1, head_width))
    return torch.cat([split[:2, :, order], split[2:]]).flatten(0, 2)
