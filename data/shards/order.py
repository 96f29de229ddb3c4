"""In which order clips are seen: a pure function of the seed and the epoch.

Shards are shuffled, and clips are shuffled within GROUP neighbouring shards, so that those read at
one time lie in few files. The only state of a run is its position, the number of clips drawn so
far; how many processes read them does not matter.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64, UInt64

from data.shards.index import ShardIndex
from ffsplat.errors import UsageError

GROUP = 8
"""Shards whose clips are mixed."""


def epoch_order(index: ShardIndex, seed: int, epoch: int) -> Int64[np.ndarray, " clips"]:
    """The numbers of all clips, each once, as this epoch sees them; seed and epoch are not below 0.

    Draws are the raw output of PCG64, which numpy promises to keep, unlike its permutations.
    """
    generator = np.random.PCG64(np.random.SeedSequence((seed, epoch)))
    place = np.empty(len(index.shards), np.int64)
    place[np.argsort(_draw(generator, len(place)), kind="stable")] = np.arange(len(place))
    group = np.repeat(place // GROUP, [len(shard) for shard in index.shards])
    return np.lexsort((_draw(generator, len(group)), group))


def ordered_indices(
    index: ShardIndex, seed: int, epoch: int, rank: int = 0, ranks: int = 1
) -> Int64[np.ndarray, " share"]:
    """What one of `ranks` processes sees of an epoch: every `ranks`-th clip from its own on.

    All get equally many: the last `len(index) % ranks` clips of the epoch's order are dropped.
    """
    share = len(index) // ranks
    return epoch_order(index, seed, epoch)[rank : share * ranks : ranks]


class EndlessOrder:
    """`order[position]` is the number of the clip at any position from 0 on, epoch after epoch.

    A process of several takes positions of its own, `rank`, `rank + ranks` and so on. The order of
    the epoch asked for last is kept, as a memory and not as a state. Raises UsageError without
    clips.
    """

    def __init__(self, index: ShardIndex, seed: int):
        if len(index) == 0:
            raise UsageError("there are no clips to put in order")
        self.index = index
        self.seed = seed
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def __getitem__(self, position: int) -> int:
        epoch, row = divmod(position, len(self.index))
        if epoch != self._epoch:
            self._order, self._epoch = epoch_order(self.index, self.seed, epoch), epoch
        return int(self._order[row])

    def since(self, position: int, step: int = 1) -> Iterator[int]:
        """Clips at `position`, `position + step` and so on, without end: a sampler for a loader."""
        while True:
            yield self[position]
            position += step


def _draw(generator: np.random.PCG64, count: int) -> UInt64[np.ndarray, " count"]:
    return generator.random_raw(count)
