"""The three passes over Gaussians that hits are made of, as loops for numba.

`arrays` has the same three in numpy, for a process in which nothing else has loaded numba. Weights
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
def gather(groups, place, starts, means, weights, ids, bits, halves, marked):
    """What hits are made of: rows, centres, corners of boxes, and labels of their Gaussians.

    Group g stands at `place[g]`, -1 for none, and the rows of the group at place p begin at
    `starts[p]`, each group's rising. A centre is weighted, or plain where all weights are 0. The
    label is the heaviest row of each column of `marked`, or -1.
    """
    count, columns = len(starts) - 1, len(marked)
    rows, labels = np.empty(starts[-1], np.int64), np.full((columns, starts[-1]), -1, np.int32)
    low, high = np.full((count, 3), np.inf, np.float32), np.full((count, 3), -np.inf, np.float32)
    weighted, plain, total = np.zeros((count, 3)), np.zeros((count, 3)), np.zeros(count)
    cursors = starts.copy()
    for i in range(len(groups)):
        p = place[groups[i]] if groups[i] >= 0 else -1
        if p < 0:
            continue
        at = cursors[p]
        rows[at] = i
        cursors[p] += 1
        total[p] += weights[i]
        for axis in range(3):
            value = means[i, axis]
            low[p, axis] = min(low[p, axis], value)
            high[p, axis] = max(high[p, axis], value)
            weighted[p, axis] += np.float64(value) * weights[i]
            plain[p, axis] += value
        for column in range(columns):
            best = np.float32(0)
            for j in range(ids.shape[1]):
                row, weight = ids[i, j], halves[bits[i, j]]
                known = 0 <= row < marked.shape[1] and weight > best
                if known and marked[column, row]:
                    best, labels[column, at] = weight, row
    for p in range(count):
        size = starts[p + 1] - starts[p]
        weighted[p] = weighted[p] / total[p] if total[p] > 0 else plain[p] / size
    return rows, weighted, low, high, labels
