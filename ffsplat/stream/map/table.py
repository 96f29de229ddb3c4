"""From a cell of a submap to the place that holds it: a hash table with open addressing.

Linear probing, and deletion that closes the gap, so that no mark of what was deleted is left and
look-ups stay short for ever. Source: Knuth, "The Art of Computer Programming" 3, section 6.4,
algorithms L and R.
"""

import math
from typing import NamedTuple

import numpy as np

from ffsplat.stream.map.compiled import lean

EMPTY = -1
"""Key of a slot that holds nothing, and of a point that no cell has."""

CELL_BITS = 16
HALF = 2 ** (CELL_BITS - 1)
MAX_SUBMAPS = 2**15
"""Submaps that a key of 63 bits has room for."""

_FIRST, _SECOND = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)


class Table(NamedTuple):
    """Slots of keys and of the places they lead to; their number is a power of two."""

    keys: np.ndarray
    places: np.ndarray


def empty_table(capacity: int) -> Table:
    """Room for `capacity` keys, at most half full."""
    slots = 1 << max(1, 2 * capacity - 1).bit_length()
    return Table(np.full(slots, EMPTY, np.int64), np.full(slots, 0, np.int32))


@lean
def cell_key(submap, x, y, z, cell):
    """The key of a point in the frame of a submap, EMPTY if it is too far from the origin.

    A cell number has 16 bits an axis: cells of 1 cm reach 327 m.
    """
    i, j, k = math.floor(x / cell), math.floor(y / cell), math.floor(z / cell)
    inside = -HALF <= i < HALF and -HALF <= j < HALF and -HALF <= k < HALF
    if not inside:  # NaN is not inside either
        return np.int64(EMPTY)
    key = np.int64(submap) << 16 | (np.int64(i) + HALF)
    return (key << 16 | (np.int64(j) + HALF)) << 16 | (np.int64(k) + HALF)


@lean
def home(key, slots):
    """The slot where a search begins. Source: the 64-bit finaliser of MurmurHash3 (Appleby)."""
    h = np.uint64(key)
    h = (h ^ (h >> _SHIFT)) * _FIRST
    h = (h ^ (h >> _SHIFT)) * _SECOND
    return np.int64((h ^ (h >> _SHIFT)) & np.uint64(slots - 1))


@lean
def find(keys, places, key):
    """The place of a key, -1 if it has none."""
    slot = home(key, len(keys))
    while keys[slot] != EMPTY:
        if keys[slot] == key:
            return places[slot]
        slot = (slot + 1) & (len(keys) - 1)
    return np.int32(-1)


@lean
def insert(keys, places, key, place):
    """Give a key that has no place yet one."""
    slot = home(key, len(keys))
    while keys[slot] != EMPTY:
        slot = (slot + 1) & (len(keys) - 1)
    keys[slot], places[slot] = key, place


@lean
def delete(keys, places, key):
    """Forget a key, if it is there."""
    last = len(keys) - 1
    gap = home(key, len(keys))
    while keys[gap] != key:
        if keys[gap] == EMPTY:
            return
        gap = (gap + 1) & last
    slot = gap
    while True:
        slot = (slot + 1) & last
        if keys[slot] == EMPTY:
            break
        # Whoever is at least as far from home as from the gap may move into it.
        if (slot - home(keys[slot], len(keys))) & last >= (slot - gap) & last:
            keys[gap], places[gap] = keys[slot], places[slot]
            gap = slot
    keys[gap] = EMPTY


@lean
def fill(keys, places, wanted):
    """Insert the key of every place that has one."""
    for place in range(len(wanted)):
        if wanted[place] != EMPTY:
            insert(keys, places, wanted[place], place)
