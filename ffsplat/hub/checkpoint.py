"""Checkpoints: from a folder to a network, and back into a folder.

A checkpoint is a folder of `FILES`; the codebook is optional (the lexicon stands in). Weights are
safetensors, checked against the network's shapes before they are read; pickles are refused. Folders
of published networks of other families are read by the importers in `ffsplat.zoo`.
"""

from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch

from ffsplat.codebook import lexicon_codebook, rows_of_level
from ffsplat.config import ModelConfig
from ffsplat.errors import CheckpointError
from ffsplat.hub.folder import is_da3_folder, read_config, weights_path
from ffsplat.io.atomic import atomic_outputs
from ffsplat.io.codebook_file import codebook_bytes, read_codebook
from ffsplat.model import CHANNELS_LAST, FFSplat
from ffsplat.types import Codebook
from ffsplat.weights import listing, not_finite, read_header, read_weights
from ffsplat.zoo import CODEBOOK, CONFIG, FILES, WEIGHTS


def load_checkpoint(folder: Path) -> tuple[FFSplat, Codebook]:
    """The network, in float32 on the CPU and in evaluation mode, and its codebook.

    A network without meaning of its own gets the lexicon. Raises CheckpointError if any file breaks
    its format, if tensors are missing, unexpected, mis-shaped or not finite, or if the codebook
    does not fit the network; WeightsMissing if there are no weights.
    """
    path = weights_path(folder)
    network = _load_da3(folder) if is_da3_folder(folder) else _load_own(folder, path)
    network = network.to(memory_format=CHANNELS_LAST).eval()
    return network, _load_codebook(folder, network.config)


def save_checkpoint(
    folder: Path,
    network: FFSplat,
    codebook: Codebook,
    card: str,
    dtype: torch.dtype = torch.float16,
    overwrite: bool = False,
    license: str | None = None,
) -> None:
    """Write a checkpoint folder; each file appears whole, and none unless all could be written.

    `card` is the text of README.md; `license` replaces the one in the network's configuration.
    Raises OutputError as `atomic_outputs` does, and CheckpointError for weights that are not finite
    in `dtype`.
    """
    tensors = {
        key: tensor.detach().to("cpu", dtype).contiguous()
        for key, tensor in network.state_dict().items()
    }
    if broken := not_finite(tensors):
        raise CheckpointError(f"weights are not finite in {dtype}: {listing(broken)}")
    config = replace(network.config, license=license) if license else network.config
    contents = (
        config.to_json().encode(),
        safetensors.torch.save(tensors, {"format": "pt"}),
        codebook_bytes(codebook),
        card.encode(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(map(len, contents))
    with atomic_outputs([folder / name for name in FILES], overwrite, size) as files:
        for file, content in zip(files, contents, strict=True):
            file.write(content)


def _load_own(folder: Path, path: Path) -> FFSplat:
    config, header = read_config(folder), read_header(path)
    if config.view_blocks + config.cross_blocks > len(header):
        raise CheckpointError(f"{CONFIG} has more blocks than {WEIGHTS} has tensors")
    with torch.device("meta"):  # shapes only: nothing is allocated before the file fits them
        network = FFSplat(config)
    tensors = read_weights(path, network.state_dict())
    network.load_state_dict(tensors, strict=True, assign=True)
    return network


def _load_da3(folder: Path) -> FFSplat:
    from ffsplat.zoo.da3 import load_da3

    return load_da3(folder)


def _load_codebook(folder: Path, config: ModelConfig) -> Codebook:
    path = folder / CODEBOOK
    codebook = read_codebook(path) if path.exists() else lexicon_codebook()
    if config.whole_rows == config.part_rows == 0:
        return codebook
    for level, rows in (("whole", config.whole_rows), ("part", config.part_rows)):
        found = len(rows_of_level(codebook, level))
        if found != rows:
            raise CheckpointError(
                f"the codebook has {found} rows of level {level}, the network has {rows}"
            )
    return codebook
