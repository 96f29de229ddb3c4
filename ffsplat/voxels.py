"""A world grid: which points share a cell, and sums over the points of a cell."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

BITS = 16
"""Bits of a cell number along one axis: a grid is at most 65,536 cells wide."""


@dataclass(frozen=True, eq=False)
class Groups:
    """n items sorted into m groups: `order[starts[i]:starts[i + 1]]` are the items of group i."""

    keys: Int64[np.ndarray, " m"]
    order: Int64[np.ndarray, " n"]
    starts: Int64[np.ndarray, " m"]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def sizes(self) -> Int64[np.ndarray, " m"]:
        """Items of each group."""
        return np.diff(np.append(self.starts, len(self.order)))

    @property
    def index(self) -> Int64[np.ndarray, " n"]:
        """The group of each item."""
        index = np.empty(len(self.order), np.int64)
        index[self.order] = np.repeat(np.arange(len(self)), self.sizes)
        return index

    def sum(self, values: Float[np.ndarray, "n *rest"]) -> Float64[np.ndarray, "m *rest"]:
        """Sum of `values` over each group, in float64."""
        if not len(self):
            return np.zeros(values.shape)
        return np.add.reduceat(values[self.order].astype(np.float64), self.starts)

    def mean(
        self, values: Float[np.ndarray, "n *rest"], weights: Float[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "m *rest"]:
        """Weighted mean of `values` over each group; weights must be positive."""
        extra = (1,) * (values.ndim - 1)
        weighted = self.sum(values * weights.reshape(-1, *extra))
        return (weighted / self.sum(weights).reshape(-1, *extra)).astype(np.float32)


def group(keys: Int64[np.ndarray, " n"]) -> Groups:
    """Gather items of equal key; groups stand by rising key, items in their own order."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.ones(len(keys), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(first)
    return Groups(ordered[starts], order, starts)


def cell_keys(points: Float32[np.ndarray, "n 3"], size: float) -> Int64[np.ndarray, " n"]:
    """One number per cell of side `size`, in the unit of `points`, below 2^48.

    Moving one cell along axis i adds 2^(16 i). Cells further than 32,766 from the median point
    fall into the outermost one.
    """
    if not len(points):
        return np.zeros(0, np.int64)
    half = 2 ** (BITS - 1)
    centre = np.floor(np.median(points, axis=0) / size)
    cells = np.clip(np.floor(points / size) - centre, 2 - half, half - 2).astype(np.int64) + half
    return cells[:, 0] | cells[:, 1] << BITS | cells[:, 2] << 2 * BITS
