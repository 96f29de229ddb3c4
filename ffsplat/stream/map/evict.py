"""Who gives way when a map is full: the redundant, the faint, those not seen for long."""

import numpy as np
from jaxtyping import Bool, Int64

from ffsplat.stream.map.compiled import lean
from ffsplat.stream.map.places import Places
from ffsplat.stream.map.table import delete, home

BATCH = 0.05
"""Share of the places that one eviction frees: its cost is that of a pass over all of them."""

FADING = np.float32(15)
"""Whoever was not seen for longest has 1 / (1 + FADING) of the priority of one just seen."""

COARSE = ~np.int64(0x0001_0001_0001)
"""Mask that makes one key of those of 2x2x2 cells."""


@lean
def priorities(places, now, block, blocks, priority):
    """What each place is worth, infinity for the free ones.

    That is opacity x confidence / (1 + confidence) / (1 + FADING age / oldest age): confidence
    saturates, lest a new place, seen once, gives way to one that was seen often long ago. In a
    block of 2x2x2 cells the strongest counts in full, the others divided by the number of them
    all. `block` is room for a number a place, `blocks` are zeros, two for each of a power of two:
    blocks that share one, every fourth in a full map, count as one.
    """
    keys, seen, weights, opacities = places.keys, places.seen, places.weights, places.opacities
    oldest = np.int32(1)
    for place in range(len(keys)):
        if keys[place] >= 0:
            oldest = max(oldest, now - seen[place])
    fading = FADING / np.float32(oldest)
    # Three passes: short loops wait for many blocks at the same time.
    for place in range(len(keys)):
        age = np.float32(max(now - seen[place], 0))
        sure = weights[place] / (1 + weights[place])
        priority[place] = opacities[place] * sure / (1 + fading * age)
        block[place] = home(keys[place] & COARSE, len(blocks))
    for place in range(len(keys)):
        if keys[place] >= 0:
            blocks[block[place], 0] += 1
            blocks[block[place], 1] = max(blocks[block[place], 1], priority[place])
    for place in range(len(keys)):
        if keys[place] < 0:
            priority[place] = np.inf
        elif priority[place] < blocks[block[place], 1]:
            priority[place] /= blocks[block[place], 0]


@lean
def find_inside(keys, submap, inside):
    """Write the places that hold something of a submap, rising; how many there are."""
    count = 0
    for place in range(len(keys)):
        if keys[place] >> 48 == submap:
            inside[count] = place
            count += 1
    return count


@lean
def free_places(table, places, numbers):
    """Free some places that are taken; the next one to be taken again is the last."""
    slots, occupants = table
    keys, unused, free = places.keys, places.unused, places.free
    for place in numbers:
        delete(slots, occupants, keys[place])
        keys[place] = -1
        places.touched[place] = True
        unused[free[0]] = place
        free[0] += 1


def least(
    places: Places, now: int, protected: Bool[np.ndarray, " places"], count: int
) -> Int64[np.ndarray, " n"]:
    """Up to `count` places of the least priority, rising, of those that are not protected.

    Ties go to the lower place.
    """
    capacity = len(places.keys)
    block, priority = np.empty(capacity, np.int32), np.empty(capacity, np.float32)
    blocks = np.zeros((1 << max(10, (capacity - 1).bit_length()), 2), np.float32)
    priorities(places, now, block, blocks, priority)
    priority[protected] = np.inf
    count = min(count, int(np.isfinite(priority).sum()))
    if not count:
        return np.zeros(0, np.int64)
    # The value at this rank is unique, whatever the order that the partition leaves.
    limit = np.partition(priority, count - 1)[count - 1]
    below = np.flatnonzero(priority < limit)
    ties = np.flatnonzero(priority == limit)[: count - len(below)]
    return np.sort(np.append(below, ties))
