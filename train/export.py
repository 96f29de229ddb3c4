"""From a Lightning checkpoint to the folder that ships."""

from pathlib import Path

import torch

from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.hub import save_checkpoint
from ffsplat.model import FFSplat
from train.fit import LAST

PREFIX = "average."


def export(run: Path, config: ModelConfig, out: Path, card: Path | None = None) -> None:
    """Write the moving average of `run`'s last checkpoint to the folder `out`, half precision."""
    state = torch.load(run / LAST, map_location="cpu", weights_only=True)["state_dict"]
    network = FFSplat(config)
    average = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    network.load_state_dict(average, strict=True)
    text = f"# {config.name}\n" if card is None else card.read_text()
    save_checkpoint(out, network, lexicon_codebook(), text, overwrite=True)
