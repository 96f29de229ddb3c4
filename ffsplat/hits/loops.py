"""The four passes over Gaussians that hits are made of, as loops for numba.

`arrays` has the same four in numpy, for a process in which nothing else has loaded numba. Weights
are the bits of float16, which numba lacks on CPUs, and `halves` says the value of each.
"""

import numpy as np

from ffsplat.compiled import exactly_compiled


@exactly_compiled
def heaviest(ids, bits, halves, marked, rows):
    """The marked codebook row with the largest weight in each of the codes `rows`, or -1."""
    labels = np.empty(len(rows), np.int32)
    for i in range(len(rows)):
        best, label = np.float32(0), np.int32(-1)
        for j in range(ids.shape[1]):
            row = ids[rows[i], j]
            weight = halves[bits[rows[i], j]]
            if 0 <= row < len(marked) and weight > best and marked[row]:
                best, label = weight, np.int32(row)
        labels[i] = label
    return labels


@exactly_compiled
def sums(scores, threshold, groups, count):
    """Size and total score of each group, and the same of its Gaussians that match.

    `groups` becomes -1 where a Gaussian does not match.
    """
    sizes, counts = np.zeros(count, np.int64), np.zeros(count, np.int64)
    totals, found = np.zeros(count), np.zeros(count)
    for i in range(len(scores)):
        g, score = groups[i], scores[i]
        sizes[g] += 1
        totals[g] += score
        if score >= threshold and score > 0:
            counts[g] += 1
            found[g] += score
        else:
            groups[i] = -1
    return sizes, totals, counts, found


@exactly_compiled
def members(groups, place, starts):
    """The Gaussians of the groups that have a place, one group after the other, each rising.

    Group g stands at `place[g]`, -1 for none, and the group at place p begins at `starts[p]`.
    """
    rows = np.empty(starts[-1], np.int64)
    cursors = starts.copy()
    for i in range(len(groups)):
        if groups[i] >= 0:
            p = place[groups[i]]
            if p >= 0:
                rows[cursors[p]] = i
                cursors[p] += 1
    return rows


@exactly_compiled
def extent(means, weights, rows):
    """The mean of some Gaussians by weight (plain where all weights are 0), and their box."""
    low, high = np.full(3, np.inf, np.float32), np.full(3, -np.inf, np.float32)
    weighted, plain, total = np.zeros(3), np.zeros(3), 0.0
    for i in rows:
        total += weights[i]
        for axis in range(3):
            value = means[i, axis]
            low[axis] = min(low[axis], value)
            high[axis] = max(high[axis], value)
            weighted[axis] += np.float64(value) * weights[i]
            plain[axis] += value
    return weighted / total if total > 0 else plain / len(rows), low, high
