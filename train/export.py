"""From a Lightning checkpoint, or from several folders, to the folder that ships."""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.errors import CheckpointError
from ffsplat.hub import load_checkpoint, save_checkpoint
from ffsplat.model import FFSplat
from train.card import card_of_run
from train.dictionary import start, to_codebook
from train.network import check_shape

PREFIX = "average."
STATE = "ffsplat"
"""Where a Lightning checkpoint keeps the state of the module that is no tensor of a network."""


def read_run(checkpoint: Path) -> dict[str, Any]:
    """What a run of ours wrote; tensors are read from the file when they are used.

    Raises CheckpointError for any other file.
    """
    try:  # weights_only: tensors and plain values, never code
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} is damaged or no checkpoint") from error
    if not isinstance(saved, dict) or STATE not in saved:
        raise CheckpointError(f"{checkpoint} is not a checkpoint of `python -m train fit`")
    return saved


def export(checkpoint: Path, out: Path, card: Path | None = None) -> None:
    """Write the moving average of a Lightning checkpoint to the folder `out`, half precision.

    The card is the file `card`, or made from what is known of the run. Raises CheckpointError for
    a file that no run of ours wrote.
    """
    saved = read_run(checkpoint)
    state = saved[STATE]
    network = FFSplat(ModelConfig.from_json(state["config"]))
    tensors = saved["state_dict"].items()
    average = {k.removeprefix(PREFIX): v for k, v in tensors if k.startswith(PREFIX)}
    network.load_state_dict(average, strict=True)
    if card is None:
        text = card_of_run(network, checkpoint, saved["global_step"], state["seconds"])
    else:
        text = card.read_text(encoding="utf-8")
    codebook = lexicon_codebook()
    if state["space"]:
        codebook = to_codebook(start(saved["state_dict"]["dictionary"]), state["space"])
    save_checkpoint(out, network, codebook, text, overwrite=True)


@torch.no_grad()
def blend(folders: Sequence[Path], out: Path, card: Path | None = None) -> None:
    """Write the mean of the weights of several checkpoints of one shape to the folder `out`.

    The mean of networks that were fine-tuned from one another is often better than each of them.
    Raises UsageError if shapes differ. Source: Wortsman et al., "Model soups", 2022.
    """
    mean, _ = load_checkpoint(folders[0])
    for count, folder in enumerate(folders[1:], start=2):
        network, _ = load_checkpoint(folder)
        check_shape(network.config, mean.config)
        for total, more in zip(mean.parameters(), network.parameters(), strict=True):
            total.lerp_(more, 1 / count)
    text = f"# {mean.config.name}\n" if card is None else card.read_text(encoding="utf-8")
    save_checkpoint(out, mean, lexicon_codebook(), text, overwrite=True)
