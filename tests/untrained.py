"""A small network that learnt nothing, and photos of nothing, as files."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ffsplat import hub
from ffsplat.codebook import lexicon_codebook, rows_of_level
from ffsplat.config import ModelConfig
from ffsplat.model import FFSplat


def save_untrained(folder: Path) -> Path:
    """Write a checkpoint of random weights, the same ones every time."""
    torch.manual_seed(0)
    book = lexicon_codebook()
    config = ModelConfig(
        name="untrained", resolution=32, width=16, heads=1, view_blocks=1, cross_blocks=2,
        match_block=2, registers=1, decoder=(8, 8, 8), match_width=8, code_width=8,
        whole_rows=len(rows_of_level(book, "whole")), part_rows=len(rows_of_level(book, "part")),
        license="CC0-1.0",
    )  # fmt: skip
    hub.save_checkpoint(folder, FFSplat(config), book, "# Untrained\n")
    return folder


def save_photos(folder: Path) -> Path:
    """Write three photos, the last one upright; natural order is 1, 2, 10."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, size in (("1", (80, 60)), ("2", (80, 60)), ("10", (60, 80))):
        coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size).save(folder / f"{name}.png")
    return folder
