"""Scores of several texts at once, as loops for numba.

`rows` has one line a text and one column a codebook row, after a zero for the ID -1. Weights and
norms are the bits of float16, which numba lacks on CPUs; `halves` says their values. Codes are
taken block by block and text by text: what a block needs stays in the cache.
"""

import math

import numpy as np

from ffsplat.compiled import exactly_compiled

BLOCK = 2048

U = np.uintp  # an index without wrap-around


@exactly_compiled
def cosines(ids, weights, norms, halves, rows, start, out):
    """Write cosines (t, block) of the codes from `start` on; say how many codes there were."""
    count, k = min(BLOCK, len(ids) - start), ids.shape[1]
    places, values = np.empty((BLOCK, k), np.uint16), np.empty((BLOCK, k), np.float32)
    scales = np.empty(BLOCK, np.float32)
    for i in range(count):
        norm = halves[norms[start + i]]
        scales[i] = 1 / norm if norm > 0 else 0
        for j in range(k):
            places[i, j] = ids[start + i, j] + 1
            values[i, j] = halves[weights[start + i, j]]
    for t in range(len(rows)):
        for i in range(count):
            total = np.float32(0)
            for j in range(k):
                total += rows[t, U(places[i, j])] * values[i, j]
            out[t, i] = total * scales[i]
    return count


@exactly_compiled
def margins(ids, weights, norms, halves, rows):
    """Cosine of the first text less the largest of the others; -inf without evidence."""
    found = np.empty(len(ids), np.float32)
    block = np.empty((len(rows), BLOCK), np.float32)
    for start in range(0, len(ids), BLOCK):
        count = cosines(ids, weights, norms, halves, rows, start, block)
        for i in range(count):
            largest = block[1, i]
            for t in range(2, len(rows)):
                largest = max(largest, block[t, i])
            known = halves[norms[start + i]] > 0
            found[start + i] = block[0, i] - largest if known else np.float32(-np.inf)
    return found


@exactly_compiled
def best(ids, weights, norms, halves, rows, scale):
    """The text of the largest cosine and its share in softmax(scale * cosines).

    Of equal cosines the first text; -1 and 0 without evidence.
    """
    label, share = np.full(len(ids), -1, np.int32), np.zeros(len(ids), np.float32)
    block = np.empty((len(rows), BLOCK), np.float32)
    for start in range(0, len(ids), BLOCK):
        count = cosines(ids, weights, norms, halves, rows, start, block)
        for i in range(count):
            if halves[norms[start + i]] == 0:
                continue
            first = 0
            for t in range(1, len(rows)):
                if block[t, i] > block[first, i]:
                    first = t
            total = np.float32(0)
            for t in range(len(rows)):
                total += math.exp(scale * (block[t, i] - block[first, i]))
            label[start + i], share[start + i] = first, 1 / total
    return label, share


@exactly_compiled
def lengths(ids, weights, halves, gram):
    """Length of each coded vector, sqrt(w G w^T)."""
    found = np.empty(len(ids), np.float32)
    for i in range(len(ids)):
        total = np.float32(0)
        for j in range(ids.shape[1]):
            if ids[i, j] >= 0:
                for m in range(ids.shape[1]):
                    if ids[i, m] >= 0:
                        product = halves[weights[i, j]] * halves[weights[i, m]]
                        total += product * gram[ids[i, j], ids[i, m]]
        found[i] = math.sqrt(max(total, np.float32(0)))
    return found
