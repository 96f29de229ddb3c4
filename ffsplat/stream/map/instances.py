"""Which objects of a frame are objects of the map: by the places that their pixels joined.

Gaga's memory bank (Lyu et al., arXiv 2404.07977) with its overlap rule, on one scatter of counts:
the Gaussians of a mask are those that its pixels fused into, so depth tells front from back.
"""

import numpy as np
from jaxtyping import Bool, Int32, Int64

from ffsplat.semantics.associate import OVERLAP
from ffsplat.stream.map.compiled import lean
from ffsplat.stream.map.pairs import CAP
from ffsplat.stream.map.table import empty_table, find, insert
from ffsplat.types import NO_ID
from ffsplat.voxels import group


def match_instances(
    observed: Int32[np.ndarray, " n"],
    known: Int32[np.ndarray, " n"],
    met: Bool[np.ndarray, " n"],
    fresh: int,
) -> tuple[Int32[np.ndarray, " n"], int]:
    """The map's number of each observation, -1 for none, and the next number that is fresh.

    `observed` are object numbers of one frame; `known` those of the map at the places that were
    `met`, -1 for none. The larger objects of the frame go first: each is the object of the map
    that has the largest share of the places it met, if that is OVERLAP and no other has taken it,
    else a new one. Ties go to the lower number.
    """
    numbers = np.full(len(observed), NO_ID, np.int32)
    rows = np.flatnonzero(observed >= 0)
    masks = group(observed[rows].astype(np.int64))
    if not len(masks):
        return numbers, fresh
    mask = masks.index
    met_of_mask = np.bincount(mask[met[rows]], minlength=len(masks))
    shared = np.flatnonzero(met[rows] & (known[rows] >= 0))
    pairs, counts = _counted(mask[shared] << 32 | known[rows[shared]].astype(np.int64))
    enough = counts >= OVERLAP * met_of_mask[pairs >> 32]
    pairs, counts = pairs[enough], counts[enough]
    # Candidates of a mask stand together, the largest share first.
    order = np.lexsort((pairs & 0xFFFFFFFF, -counts, pairs >> 32))
    candidates = (pairs[order] & 0xFFFFFFFF).tolist()
    ends = np.searchsorted(pairs[order] >> 32, np.arange(len(masks) + 1)).tolist()
    chosen = np.empty(len(masks), np.int32)
    taken: set[int] = set()
    for index in np.argsort(-masks.sizes, kind="stable").tolist():
        free = (one for one in candidates[ends[index] : ends[index + 1]] if one not in taken)
        number = next(free, fresh)
        fresh += number == fresh
        taken.add(number)
        chosen[index] = number
    numbers[rows] = chosen[mask]
    return numbers, fresh


def _counted(
    keys: Int64[np.ndarray, " n"],
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """The different keys, rising, and how often each is there: few of many, so none is sorted."""
    table, found = empty_table(len(keys)), np.empty(len(keys), np.int64)
    counts = np.zeros(len(keys), np.int64)
    number = count_keys(table, keys, found, counts)
    order = np.argsort(found[:number])
    return found[order], counts[order]


@lean
def count_keys(table, keys, found, counts):
    """Write down each key that is new, and count all; how many there are."""
    slots, places = table
    number = np.int32(0)
    for key in keys:
        place = find(slots, places, key)
        if place < 0:
            place = number
            insert(slots, places, key, place)
            found[place] = key
            number += np.int32(1)
        counts[place] += 1
    return number


@lean
def vote(instances, votes, place, number, confidence):
    """One observation's say in whose object a place is a part.

    A weighted majority in constant memory: who disagrees takes from the votes of the present
    number, and replaces it when none are left. Source: Boyer & Moore, "MJRTY - A Fast Majority Vote
    Algorithm", 1991. Votes are capped as confidence is.
    """
    if number < 0:
        return
    if instances[place] == number:
        votes[place] = min(votes[place] + confidence, CAP)
    elif votes[place] >= confidence:
        votes[place] -= confidence
    else:
        instances[place], votes[place] = number, confidence - votes[place]
