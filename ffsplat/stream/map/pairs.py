"""The code of a place as raw confidences: pairs of codebook ID and all that spoke for it.

The weights that a reader sees are shares of the largest CODES sums. As long as no more IDs met at a
place than it has slots, they are the closed form of the online update of EmbodiedSplat
(arXiv 2603.04254), in any order; beyond that the pair with the least confidence gives way, as there
(ties: to the newest), so that of single observations the most confident ones stay.
"""

import numpy as np

from ffsplat.stream.delta import CODES
from ffsplat.stream.map.compiled import lean
from ffsplat.stream.map.places import SLOTS

CAP = np.float32(50)
"""Confidence that a place remembers: beyond, the old fades, so that the map follows what changes.
Source: KinectFusion (Newcombe et al., ISMAR 2011), section 3.3, caps its weights for that."""


@lean
def add_pair(ids, sums, place, number, confidence):
    """Add to a place the confidence that speaks for one ID."""
    for k in range(SLOTS):
        if ids[place, k] == number:
            sums[place, k] += confidence
            return
    least = 0
    for k in range(1, SLOTS):
        if sums[place, k] < sums[place, least]:
            least = k
    if confidence >= sums[place, least]:  # an empty slot has 0
        ids[place, least], sums[place, least] = number, confidence


@lean
def add_code(ids, sums, place, numbers, weights, i, confidence):
    """Add one observed code; what exceeds CAP scales all sums down to it."""
    for k in range(numbers.shape[1]):
        gain = weights[i, k] * confidence
        if numbers[i, k] >= 0 and gain > 0 and gain < np.inf:
            add_pair(ids, sums, place, numbers[i, k], gain)
    total = np.float32(0)
    for k in range(SLOTS):
        total += sums[place, k]
    if total > CAP:
        for k in range(SLOTS):
            sums[place, k] *= CAP / total


@lean
def heaviest(sums, place, order):
    """The slots of the CODES largest sums, falling, ties in the order of the slots; their total."""
    total = np.float32(0)
    for slot in range(SLOTS):
        rank = 0
        for other in range(SLOTS):
            larger = sums[place, other] > sums[place, slot]
            rank += larger | ((sums[place, other] == sums[place, slot]) & (other < slot))
        if rank < CODES:
            order[rank] = slot
            total += sums[place, slot]
    return total


@lean
def read_pairs(ids, sums, rows, order, out_ids, out_weights):
    """The codes of some places with weights in steps of 1/255, -1 and 0 where unused.

    Pairs stand by falling weight, of equal weights the lower ID first: so a reader who renames IDs
    can put them in the order in which they would come. `order` is room for CODES numbers.
    """
    for i in range(len(rows)):
        row = rows[i]
        total = heaviest(sums, row, order)
        for k in range(CODES):
            share = sums[row, order[k]] / total if total > 0 else np.float32(0)
            weight = np.uint8(share * np.float32(255) + np.float32(0.5))
            number = ids[row, order[k]] if weight > 0 else np.int16(-1)
            slot = k
            while slot > 0 and weight == out_weights[i, slot - 1] and number < out_ids[i, slot - 1]:
                out_weights[i, slot], out_ids[i, slot] = weight, out_ids[i, slot - 1]
                slot -= 1
            out_weights[i, slot], out_ids[i, slot] = weight, number


@lean
def remap_pairs(keys, ids, sums, row_map, touched):
    """Rename the IDs of all places; equal ones add up, those that are gone leave their slots.

    Whoever has the places can rename for himself: only those where more happened are touched.
    """
    for place in range(len(keys)):
        if keys[place] < 0:
            continue
        for k in range(SLOTS):
            if ids[place, k] < 0:
                continue
            number = row_map[ids[place, k]] if ids[place, k] < len(row_map) else np.int16(-1)
            twin = -1
            for earlier in range(k):
                if ids[place, earlier] == number:
                    twin = earlier
            if number >= 0 and twin < 0:
                ids[place, k] = number
                continue
            if number >= 0:
                sums[place, twin] += sums[place, k]
            ids[place, k], sums[place, k] = -1, 0
            touched[place] = True
