"""The arrays that hold a map: one row a place, all of them made once."""

from typing import NamedTuple

import numpy as np

from ffsplat.stream.delta import CODES

SLOTS = CODES + 2
"""Pairs of codebook ID and confidence that a place keeps: the spare ones let newcomers grow."""

FREE = -1
"""Key of a place that holds nothing."""


class Places(NamedTuple):
    """`capacity` places for Gaussians in the frames of their submaps, 131 bytes each.

    `keys` says in which cell of which submap each is to be found (`table.cell_key`), or FREE.
    `weights` is the confidence of all that joined, up to a cap; `sharpest` is the highest
    confidence of one observation, whose rotation holds. `ids` and `sums` are pairs of codebook ID
    and confidence, -1 and 0 where unused. `votes` is how sure `instances` is. `seen` is when a
    place was last joined, `born` which call of `fuse` took it. `touched` has changed since changes
    were last taken; `sent` is the submap of what was here then, -1 for nothing.
    `unused[:free[0]]` are the free places, the next one last.
    """

    keys: np.ndarray
    means: np.ndarray
    scales: np.ndarray
    quaternions_wxyz: np.ndarray
    opacities: np.ndarray
    colors: np.ndarray
    weights: np.ndarray
    sharpest: np.ndarray
    ids: np.ndarray
    sums: np.ndarray
    instances: np.ndarray
    votes: np.ndarray
    seen: np.ndarray
    born: np.ndarray
    touched: np.ndarray
    sent: np.ndarray
    unused: np.ndarray
    free: np.ndarray


ROWS = Places._fields[: Places._fields.index("unused")]
"""The arrays that have one row a place; the free list is none of them."""


def empty_places(capacity: int) -> Places:
    """Places that hold nothing; the lowest is taken first."""
    # `full` writes to memory, which `zeros` only asks for: else some frames would wait for it.
    body = np.full((capacity, 16), 0, np.float32)  # a cache line a place
    return Places(
        keys=np.full(capacity, FREE, np.int64),
        means=body[:, 0:3],
        scales=body[:, 3:6],
        quaternions_wxyz=body[:, 6:10],
        colors=body[:, 10:13],
        opacities=body[:, 13],
        weights=body[:, 14],
        sharpest=body[:, 15],
        ids=np.full((capacity, SLOTS), -1, np.int16),
        sums=np.full((capacity, SLOTS), 0, np.float32),
        instances=np.full(capacity, -1, np.int32),
        votes=np.full(capacity, 0, np.float32),
        seen=np.full(capacity, 0, np.int32),
        born=np.full(capacity, 0, np.int32),
        touched=np.full(capacity, 0, np.bool_),
        sent=np.full(capacity, -1, np.int16),
        unused=np.arange(capacity - 1, -1, -1, dtype=np.int32),
        free=np.array([capacity], np.int64),
    )
