"""Who gives way when a map is full: the redundant, the faint, those not seen for long."""

import numpy as np
from jaxtyping import Bool, Int64

from ffsplat.render.kernel import exactly_compiled
from ffsplat.stream.map.places import Places
from ffsplat.stream.map.table import delete, home

BATCH = 0.05
"""Share of the places that one eviction frees: its cost is that of a pass over all of them."""

FADING = 4.0
"""Halvings of the priority of what was not seen for longest; of others as their age over its."""

COARSE = ~np.int64(0x0001_0001_0001)
"""Mask that makes one key of those of 2x2x2 cells."""


@exactly_compiled
def priorities(places, now, strongest, crowd, priority):
    """What each place is worth, infinity for the free ones.

    That is opacity x confidence / (1 + confidence) x 2^(-FADING age / oldest age). In a block of
    2x2x2 cells the strongest counts in full, the others divided by the number of them all.
    `strongest` and `crowd` are zeros, as many as a power of two; blocks that fall on one slot of
    them count as one.
    """
    oldest = 1
    for place in range(len(priority)):
        if places.keys[place] >= 0:
            oldest = max(oldest, now - places.seen[place])
    for place in range(len(priority)):
        priority[place] = np.inf
        if places.keys[place] < 0:
            continue
        age = np.float32(max(now - places.seen[place], 0)) / np.float32(oldest)
        sure = places.weights[place] / (1 + places.weights[place])
        worth = np.float32(places.opacities[place] * sure * 2 ** (-FADING * age))
        slot = home(places.keys[place] & COARSE, len(crowd))
        crowd[slot] += 1
        strongest[slot] = max(strongest[slot], worth)
        priority[place] = worth
    for place in range(len(priority)):
        if places.keys[place] >= 0:
            slot = home(places.keys[place] & COARSE, len(crowd))
            if priority[place] < strongest[slot]:
                priority[place] /= crowd[slot]


@exactly_compiled
def free_places(table, places, numbers):
    """Free some places that are taken; the next one to be taken again is the last."""
    for place in numbers:
        delete(table.keys, table.places, places.keys[place])
        places.keys[place] = -1
        places.touched[place] = False
        places.unused[places.free[0]] = place
        places.free[0] += 1


def least(
    places: Places, now: int, protected: Bool[np.ndarray, " places"], count: int
) -> Int64[np.ndarray, " n"]:
    """Up to `count` places of the least priority, rising, of those that are not protected.

    Ties go to the lower place.
    """
    slots = 1 << max(1, len(places.keys) - 1).bit_length()
    priority = np.empty(len(places.keys), np.float32)
    strongest, crowd = np.zeros(slots, np.float32), np.zeros(slots, np.int32)
    priorities(places, now, strongest, crowd, priority)
    priority[protected] = np.inf
    count = min(count, int(np.isfinite(priority).sum()))
    if not count:
        return np.zeros(0, np.int64)
    # The value at this rank is unique, whatever the order that the partition leaves.
    limit = np.partition(priority, count - 1)[count - 1]
    below = np.flatnonzero(priority < limit)
    ties = np.flatnonzero(priority == limit)[: count - len(below)]
    return np.sort(np.append(below, ties))
