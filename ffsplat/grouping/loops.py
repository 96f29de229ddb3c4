"""Loops over Gaussians that numpy would need tables of every pair for, compiled by numba."""

from typing import no_type_check

import numpy as np
from numba import njit


@njit(nogil=True)
@no_type_check
def take_heaviest(rows, sums, top_ids, top):
    """Move the heaviest rows into their places, as shares of what was moved."""
    total = np.float32(0)
    used = min(len(top), len(rows))
    for slot in range(used):
        best = 0
        for place in range(1, len(rows)):
            equal = sums[place] == sums[best] and rows[place] < rows[best]
            if sums[place] > sums[best] or equal:
                best = place
        top_ids[slot], top[slot] = rows[best], sums[best]
        total += sums[best]
        sums[best] = np.float32(-1)
    for slot in range(used):
        top[slot] /= total


@njit(nogil=True)
@no_type_check
def most_rows(ids, unit, near):
    """The largest number of different rows that the neighbours of a Gaussian have."""
    most = 0
    rows = np.empty(near.shape[1] * ids.shape[1], np.int16)
    for i in range(near.shape[0]):
        found = 0
        for j in near[i]:
            for k in range(ids.shape[1]):
                row = ids[j, k]
                if row < 0 or unit[j, k] <= 0:
                    continue
                place = 0
                while place < found and rows[place] != row:
                    place += 1
                if place == found:
                    rows[found] = row
                    found += 1
        most = max(most, found)
    return most


@njit(nogil=True)
@no_type_check
def heaviest_of_neighbors(ids, unit, near, kept):
    """The `kept` heaviest rows of the sum of each Gaussian's neighbours, and their shares.

    Rows stand by falling weight, equal ones by rising row, as in `codes.from_pairs`; weights that
    are not used have the row -1.
    """
    count, width = near.shape[0], near.shape[1] * ids.shape[1]
    top_ids = np.full((count, kept), np.int16(-1))
    top = np.zeros((count, kept), np.float32)
    rows, sums = np.empty(width, np.int16), np.empty(width, np.float32)
    for i in range(count):
        found = 0
        for j in near[i]:
            for k in range(ids.shape[1]):
                row, weight = ids[j, k], unit[j, k]
                if row < 0 or weight <= 0:
                    continue
                place = 0
                while place < found and rows[place] != row:
                    place += 1
                if place == found:
                    rows[found], sums[found] = row, np.float32(0)
                    found += 1
                sums[place] += weight
        take_heaviest(rows[:found], sums[:found], top_ids[i], top[i])
    return top_ids, top
