"""What each training step draws: a pure function of the seed, so that any step can be redone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CHUNK = 4096
"""Steps that are planned at once."""


@dataclass(frozen=True)
class Draw:
    """One step: `sets` sets of `views` views of one source, `position` sets of it came before."""

    source: int
    views: int
    sets: int
    position: int


class Plan:
    """`plan[step]` for any step from 0 on, without end.

    A step takes one source, drawn by `shares`, and one number of views, drawn from `view_counts`,
    so that it has about `images` images; its number of sets is a multiple of `ranks`, which share
    them. Neither depends on what was asked for before.
    """

    def __init__(
        self, shares: Sequence[float], images: int, view_counts: Sequence[int], seed: int,
        ranks: int = 1,
    ):  # fmt: skip
        self.shares = np.asarray(shares) / np.sum(shares)
        self.images = images
        self.view_counts = np.asarray(view_counts)
        self.seed = seed
        self.ranks = ranks
        self._drawn = np.zeros((1, len(shares)), dtype=np.int64)
        """Sets of each source drawn before each chunk; rows are added as they are needed."""

    def __getitem__(self, step: int) -> Draw:
        chunk, row = divmod(step, CHUNK)
        while len(self._drawn) <= chunk:
            sources, _, sets = self._plan(len(self._drawn) - 1)
            more = np.bincount(sources, weights=sets, minlength=len(self.shares))
            self._drawn = np.vstack([self._drawn, self._drawn[-1] + more.astype(np.int64)])
        sources, views, sets = self._plan(chunk)
        before = sets[:row][sources[:row] == sources[row]].sum()
        position = self._drawn[chunk, sources[row]] + before
        return Draw(int(sources[row]), int(views[row]), int(sets[row]), int(position))

    def _plan(self, chunk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Source, views and sets of each step of a chunk."""
        random = np.random.default_rng((self.seed, chunk))
        sources = random.choice(len(self.shares), size=CHUNK, p=self.shares)
        views = random.choice(self.view_counts, size=CHUNK)
        whole = self.images // views // self.ranks * self.ranks
        return sources, views, np.maximum(whole, self.ranks)
