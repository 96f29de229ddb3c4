"""Which seeds belong to which split; a published split never changes, a new one gets a new name."""

SPLITS: dict[str, range] = {
    "train": range(0, 2**30),
    "heldout_v1": range(2**30, 2**30 + 4096),
    "preview": range(2**30 + 4096, 2**30 + 8192),
    "heldout_v2": range(2**30 + 8192, 2**30 + 12288),
    "walks_v1": range(2**30 + 12288, 2**30 + 13312),
}
"""Seeds by split: training, the held-out tables of the model cards, example pictures and demos,
the held-out walks that streams are measured on.

`heldout_v1` was measured several times while ffsplat-tiny was made; `heldout_v2` replaces it.
"""


def split_seeds(split: str, first: int, count: int) -> range:
    """The `count` seeds that start at offset `first` of a split.

    Raises ValueError for an unknown split or seeds that leave it.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; one of {', '.join(SPLITS)}")
    seeds = SPLITS[split]
    if first < 0 or count < 1 or first + count > len(seeds):
        raise ValueError(f"{count} seeds from {first} do not fit in {split} ({len(seeds)} seeds)")
    return seeds[first : first + count]


def splits_of(seeds: range) -> list[str]:
    """The splits that some of these seeds belong to, in the order of SPLITS."""
    return [
        name
        for name, split in SPLITS.items()
        if max(split.start, seeds.start) < min(split.stop, seeds.stop)
    ]
