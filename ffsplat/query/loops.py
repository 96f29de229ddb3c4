"""Scores of several texts at once, as loops for numba.

`rows` has one line a text and one column a codebook row, after a zero for the ID -1. Codes have
four pairs, which are added without a loop: that is five times as fast. Weights and norms are the
bits of float16, which numba lacks on CPUs; `halves` says their values.
"""

import math

import numpy as np

from ffsplat.compiled import exactly_compiled

NOTHING = np.float32(-20)
"""Logarithm of a share that no float32 sum from 1 on would notice."""

U = np.uintp  # an index without wrap-around


@exactly_compiled
def four(ids, weights, halves, i):
    """Columns and weights of the pairs of code i."""
    places = U(ids[i, 0] + 1), U(ids[i, 1] + 1), U(ids[i, 2] + 1), U(ids[i, 3] + 1)
    a, b = halves[weights[i, 0]], halves[weights[i, 1]]
    return places, (a, b, halves[weights[i, 2]], halves[weights[i, 3]])


@exactly_compiled
def total(rows, t, places, values):
    """The score of text t."""
    (a, b, c, d), (wa, wb, wc, wd) = places, values
    return rows[t, a] * wa + rows[t, b] * wb + rows[t, c] * wc + rows[t, d] * wd


@exactly_compiled
def margins(ids, weights, norms, halves, rows):
    """Cosine of the first text less the largest of the others; -inf without evidence."""
    found = np.empty(len(ids), np.float32)
    for i in range(len(ids)):
        places, values = four(ids, weights, halves, i)
        first = total(rows, 0, places, values)
        largest = total(rows, 1, places, values)
        for t in range(2, len(rows)):
            largest = max(largest, total(rows, t, places, values))
        norm = halves[norms[i]]
        found[i] = (first - largest) / norm if norm > 0 else np.float32(-np.inf)
    return found


@exactly_compiled
def best(ids, weights, norms, halves, rows, scale):
    """The text of the largest cosine and its share in softmax(scale * cosines).

    Of equal cosines the first text; -1 and 0 without evidence.
    """
    label, share = np.full(len(ids), -1, np.int32), np.zeros(len(ids), np.float32)
    sums = np.empty(len(rows), np.float32)
    for i in range(len(ids)):
        norm = halves[norms[i]]
        if norm == 0:
            continue
        places, values = four(ids, weights, halves, i)
        first, largest = 0, np.float32(-np.inf)
        for t in range(len(rows)):
            sums[t] = total(rows, t, places, values)
            if sums[t] > largest:
                first, largest = t, sums[t]
        whole, factor = np.float32(1), scale / norm
        for t in range(len(rows)):
            gap = factor * (sums[t] - largest)
            if gap > NOTHING and t != first:
                whole += math.exp(gap)
        label[i], share[i] = first, 1 / whole
    return label, share


@exactly_compiled
def nearest(ids, weights, norms, halves, rows, found):
    """Raise each `found` to the largest cosine with a text."""
    for i in range(len(ids)):
        places, values = four(ids, weights, halves, i)
        norm = halves[norms[i]]
        for t in range(len(rows)):
            if norm > 0:
                found[i] = max(found[i], total(rows, t, places, values) / norm)


@exactly_compiled
def add_four(ids, weights, halves, rows, at, sums):
    """Add to the score of each text that of four pairs of each code, from column `at` on."""
    for i in range(len(ids)):
        a, b = U(ids[i, at] + 1), U(ids[i, at + 1] + 1)
        c, d = U(ids[i, at + 2] + 1), U(ids[i, at + 3] + 1)
        wa, wb = halves[weights[i, at]], halves[weights[i, at + 1]]
        wc, wd = halves[weights[i, at + 2]], halves[weights[i, at + 3]]
        places, values = (a, b, c, d), (wa, wb, wc, wd)
        for t in range(len(rows)):
            sums[t, i] += total(rows, t, places, values)


@exactly_compiled
def cut(ids, weights, halves, counted, gram):
    """The codes on the counted rows: IDs, weights, and the lengths sqrt(w G w^T)."""
    kept, shares = np.full_like(ids, -1), np.zeros_like(weights)
    found = np.empty(len(ids), np.float32)
    for i in range(len(ids)):
        square = np.float32(0)
        for j in range(ids.shape[1]):
            row = ids[i, j]
            if row < 0 or not counted[row]:
                continue
            kept[i, j], shares[i, j] = row, weights[i, j]
            value = halves[weights[i, j]]
            for m in range(j):
                if kept[i, m] >= 0:
                    square += 2 * value * halves[weights[i, m]] * gram[row, kept[i, m]]
            square += value * value * gram[row, row]
        found[i] = math.sqrt(max(square, np.float32(0)))
    return kept, shares, found


@exactly_compiled
def tables(ids, weights, halves, groups, shares, found):
    """Add to each group and row: share of a Gaussian times weight of its pair."""
    for i in range(len(ids)):
        for j in range(ids.shape[1]):
            if ids[i, j] >= 0:
                found[groups[i], ids[i, j]] += shares[i] * halves[weights[i, j]]
