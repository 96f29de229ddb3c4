"""Dictionaries: codebook rows learnt from the features of a teacher, by moving averages.

Rows lie on the unit sphere and a feature belongs to the row of the largest cosine. Gradients are
not needed; losses that move rows by gradients are in `train.losses.codebook`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ffsplat.codebook import add_space, validate
from ffsplat.codes import MAX_ROWS
from ffsplat.errors import UsageError
from ffsplat.types import LEVELS, NO_ID, Codebook
from train.losses.codebook import row_cosines

BLOCK = 1 << 22
"""Cosines between features held at once: 16 MB."""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Rows of unit length, and the moving averages that they are made of.

    `counts` is how many features of a batch belong to a row, `sums` the sum of these features, both
    averaged over batches.
    """

    rows: Float[Tensor, "rows d"]
    counts: Float[Tensor, " rows"]
    sums: Float[Tensor, "rows d"]

    def __len__(self) -> int:
        return len(self.rows)


def start(rows: Float[Tensor, "rows d"]) -> Dictionary:
    """A dictionary of given rows, each as if one feature had been seen there."""
    unit = F.normalize(rows, dim=-1)
    return Dictionary(unit, torch.ones_like(unit[:, 0]), unit)


def usable(features: Float[Tensor, "n d"]) -> Float[Tensor, "kept d"]:
    """The features that have a direction, at length 1; one that is 0 or not finite has none."""
    length = features.norm(dim=-1)
    kept = (length > 0) & length.isfinite()
    return features[kept] / length[kept, None]


def farthest_points(features: Float[Tensor, "n d"], count: int) -> Float[Tensor, "count d"]:
    """Features that differ most: each next one has the smallest cosine to its nearest before it.

    The first is one of the two that are the least alike. Raises UsageError for fewer usable
    features than `count`. Source: DF-3DGS, 2025, the start of its codebook.
    """
    unit = usable(features)
    if len(unit) < count:
        raise UsageError(f"{count} rows cannot start from {len(unit)} features")
    step = max(1, BLOCK // max(len(unit), 1))
    least = torch.cat([(block @ unit.mT).amin(1) for block in unit.split(step)])
    chosen = [int(least.argmin())]
    nearest = unit @ unit[chosen[0]]
    for _ in range(count - 1):
        nearest[chosen[-1]] = torch.inf
        chosen.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, unit @ unit[chosen[-1]])
    return unit[chosen]


def update(
    dictionary: Dictionary, features: Float[Tensor, "n d"], decay: float = 0.99
) -> Dictionary:
    """One step of the moving averages: rows drift to the mean direction of their features.

    N <- decay N + (1 - decay) n and m likewise with the sum of the features of a row. Source: van
    den Oord et al., "Neural Discrete Representation Learning", 2017, appendix A.1; the row m / N of
    equation 8 is scaled to length 1 here, which makes it k-means on the sphere.
    """
    unit = usable(features)
    nearest = row_cosines(unit, dictionary.rows).argmax(-1)
    ones = torch.ones_like(unit[:, 0])
    counts = torch.zeros_like(dictionary.counts).index_add(0, nearest, ones)
    sums = torch.zeros_like(dictionary.sums).index_add(0, nearest, unit)
    counts = torch.lerp(counts, dictionary.counts, decay)
    sums = torch.lerp(sums, dictionary.sums, decay)
    # Opposite features may cancel: then the row stays where it was.
    length = sums.norm(dim=-1, keepdim=True)
    rows = torch.where(length > 1e-12, sums / length.clamp(min=1e-12), dictionary.rows)
    return Dictionary(rows, counts, sums)


def restart_dead(
    dictionary: Dictionary,
    features: Float[Tensor, "n d"],
    generator: torch.Generator,
    least: float = 1e-5,
) -> Dictionary:
    """Move rows with less than the share `least` of all use to features drawn at random.

    As many as there are features for, the least used first. Sources: Dhariwal et al., "Jukebox",
    2020, section 3.1, random restarts; the quantiser that Liu et al., "LangScene-X", 2025,
    describe is trained on many scenes, where rows die. `generator` is one of the CPU.
    """
    unit = usable(features)
    share = dictionary.counts / dictionary.counts.sum()
    order = share.argsort()
    dead = order[share[order] < least][: len(unit)]
    drawn = torch.randperm(len(unit), generator=generator)[: len(dead)].to(unit.device)
    fresh = start(unit[drawn])
    return Dictionary(
        dictionary.rows.index_put((dead,), fresh.rows),
        dictionary.counts.index_put((dead,), fresh.counts),
        dictionary.sums.index_put((dead,), fresh.sums),
    )


def grow(
    dictionary: Dictionary,
    features: Float[Tensor, "n d"],
    *,
    join: float = 0.9,
    prune: float = 0.99,
    most: int = 100,
) -> Dictionary:
    """Add what the rows do not cover, drop rows that a later one repeats.

    Features whose nearest row has a cosine of at most `join` become rows, the least alike first,
    until there are `most`; then every row goes whose cosine to a later one is over `prune`, and its
    use goes to the last such row. Repeats take room under `most` until they go, so that one call
    may not cover everything. Thresholds depend on the teacher: those of the source are for
    LSeg, and in CLIP's narrow cone they would join nearly everything. Raises UsageError for a
    `most` over what IDs can name. Source: DF-3DGS, 2025, the adaptive compression of its code,
    which may pass its cap by one and by ties.
    """
    if most > MAX_ROWS:
        raise UsageError(f"a codebook has at most {MAX_ROWS} rows, not {most}")
    unit = usable(features)
    nearest, order = row_cosines(unit, dictionary.rows).amax(-1).sort(stable=True)
    chosen = order[nearest <= join][: max(0, most - len(dictionary))]
    added = start(unit[chosen.sort().values])
    parts = zip(vars(dictionary).values(), vars(added).values(), strict=True)
    return _without_repeats(Dictionary(*(torch.cat(pair) for pair in parts)), prune)


def _without_repeats(dictionary: Dictionary, prune: float) -> Dictionary:
    repeated = (dictionary.rows @ dictionary.rows.mT > prune).triu(1)
    kept = ~repeated.any(1)
    counts, sums = dictionary.counts.clone(), dictionary.sums.clone()
    # In rising order, so that what a dropped row inherits goes on to the row that repeats it.
    for row in (~kept).nonzero()[:, 0].tolist():
        heir = int(repeated[row].nonzero()[-1, 0])
        counts[heir] += counts[row]
        sums[heir] += sums[row]
    return Dictionary(dictionary.rows[kept], counts[kept], sums[kept])


def train(
    dictionary: Dictionary,
    batches: Iterable[Float[Tensor, "n d"]],
    *,
    decay: float = 0.99,
    least: float = 1e-5,
    seed: int = 0,
) -> Dictionary:
    """Update a dictionary by every batch of features, and restart rows that died."""
    generator = torch.Generator().manual_seed(seed)
    for features in batches:
        dictionary = update(dictionary, features, decay)
        dictionary = restart_dead(dictionary, features, generator, least)
    return dictionary


def perplexity(dictionary: Dictionary) -> float:
    """How many rows are in use: exp of the entropy of their shares, at most their number."""
    share = dictionary.counts / dictionary.counts.sum()
    return float(torch.special.entr(share).sum().exp())


def quantization_error(dictionary: Dictionary, features: Float[Tensor, "n d"]) -> float:
    """Mean of 1 - cosine from usable features to their rows; NaN without any."""
    return float((1 - row_cosines(usable(features), dictionary.rows).amax(-1)).mean())


def to_codebook(dictionary: Dictionary, space: str, level: str = "whole") -> Codebook:
    """The codebook of a dictionary: rows without names in one space, most used first.

    `space` says whose features they are, as "open_clip:<arch>/<tag>". Raises UsageError for a level
    that does not exist, SceneFileError for rows that a codebook cannot hold.
    """
    if level not in LEVELS:
        raise UsageError(f"unknown level {level!r}", hint=f"known: {', '.join(LEVELS)}")
    order = dictionary.counts.argsort(descending=True, stable=True)
    rows = len(dictionary)
    bare = Codebook(
        names=("",) * rows,
        levels=np.full(rows, LEVELS.index(level), np.int8),
        parents=np.full(rows, NO_ID, np.int16),
        counts=dictionary.counts[order].float().cpu().numpy(),
        spaces={},
    )
    codebook = add_space(bare, space, dictionary.rows[order].float().cpu().numpy())
    validate(codebook)
    return codebook
