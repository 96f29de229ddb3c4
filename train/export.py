"""From a Lightning checkpoint, or from several folders, to the folder that ships."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.hub import load_checkpoint, save_checkpoint
from ffsplat.model import FFSplat
from train.fit import LAST, check_shape

PREFIX = "average."


def export(run: Path, config: ModelConfig, out: Path, card: Path | None = None) -> None:
    """Write the moving average of `run`'s last checkpoint to the folder `out`, half precision."""
    state = torch.load(run / LAST, map_location="cpu", weights_only=True)["state_dict"]
    network = FFSplat(config)
    average = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    network.load_state_dict(average, strict=True)
    _save(network, out, card)


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
    _save(mean, out, card)


def _save(network: FFSplat, out: Path, card: Path | None) -> None:
    text = f"# {network.config.name}\n" if card is None else card.read_text(encoding="utf-8")
    save_checkpoint(out, network, lexicon_codebook(), text, overwrite=True)
