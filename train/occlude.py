"""Things that move with the camera, as a gripper, a frame or a thumb does, at the rim of photos."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data.clip import UNKNOWN
from train.batches import MAPS, Batch

SIDE = (0.12, 0.4)
"""Height and width of an occluder over those of the image."""
NEARNESS = (0.06, 0.3)
"""Its depth over the mean depth of the set."""
MOST = 3
"""Occluders of a set."""
LABELS = ("whole", "part", "identity")
GRAIN = 4
"""Cells of its texture along a side."""


def occlude(
    batch: Batch, share: float, own: np.ndarray, sets: int, random: np.random.Generator
) -> Batch:
    """Cover parts of all views of some sets, `share` of them, by the same near rectangles.

    They have a depth where the set has one, and no label. `own` says which of the `sets` sets of a
    step these are: a set changes in the same way whoever computes it.
    """
    chosen = random.random(sets) < share
    seeds = random.integers(2**62, size=sets)
    kept = {name: getattr(batch, name).clone() for name in MAPS}
    for row, one in enumerate(own):
        if not chosen[one]:
            continue
        own_random = np.random.default_rng(seeds[one])
        known = batch.depth[row] > 0
        mean = batch.depth[row][known].mean() if known.any() else 0.0
        for _ in range(own_random.integers(1, MOST + 1)):
            box = _box((batch.images.shape[-2], batch.images.shape[-1]), own_random)
            colour = _texture(box, own_random).to(kept["images"])
            kept["images"][row][..., *box] = colour
            kept["depth"][row][..., *box] = mean * own_random.uniform(*NEARNESS)
            for name in LABELS:
                kept[name][row][..., *box] = UNKNOWN
    return replace(batch, **kept)


def _box(size: tuple[int, int], random: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a rectangle that touches the rim."""
    spans = []
    for side in size:
        length = max(1, round(side * random.uniform(*SIDE)))
        spans.append((int(random.integers(0, side - length + 1)), length))
    axis = random.integers(2)
    length = spans[axis][1]
    spans[axis] = (0 if random.random() < 0.5 else size[axis] - length, length)
    return tuple(slice(start, start + length) for start, length in spans)  # pyright: ignore


def _texture(box: tuple[slice, slice], random: np.random.Generator) -> Float[Tensor, "3 h w"]:
    """A colour, often dark, with coarse and fine grain."""
    height, width = (span.stop - span.start for span in box)
    base = random.uniform(0, 1) ** 2 + 0.1 * random.normal(size=(3, 1, 1))
    coarse = 0.1 * random.normal(size=(1, 3, GRAIN, GRAIN))
    smooth = F.interpolate(torch.from_numpy(coarse), (height, width), mode="bilinear")[0]
    fine = random.uniform(0, 0.06) * random.normal(size=(1, height, width))
    return (torch.from_numpy(base + fine) + smooth).clamp(0, 1)
