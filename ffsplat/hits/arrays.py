"""The passes of `loops` in numpy: the same arguments, the same answers."""

import numpy as np


def heaviest(ids, bits, halves, marked, rows):
    """The marked codebook row with the largest weight in each of the codes `rows`, or -1."""
    some = ids[rows]
    weights = np.where(np.append(marked, False)[some], halves[bits[rows]], 0)
    best = weights.argmax(axis=1)[:, None]
    labels = np.take_along_axis(some, best, axis=1)[:, 0]
    return np.where(weights.max(axis=1) > 0, labels, -1).astype(np.int32)


def sums(scores, threshold, groups, count):
    """Size and total score of each group, and of its matches; marks the others in `groups`."""
    matching = (scores >= threshold) & (scores > 0)
    matched = groups[matching]
    sizes, totals = np.bincount(groups, minlength=count), np.bincount(groups, scores, count)
    counts = np.bincount(matched, minlength=count)
    # Of nothing, NumPy counts in integers.
    found = np.bincount(matched, scores[matching], count).astype(np.float64)
    groups[~matching] = -1
    return sizes, totals, counts, found


def gather(groups, place, starts, means, weights, ids, bits, halves, marked):
    """What hits are made of: rows, centres, corners of boxes, and labels of their Gaussians."""
    places = np.append(place, -1)[groups]
    chosen = np.flatnonzero(places >= 0)
    rows = chosen[np.argsort(places[chosen], kind="stable")]
    labels = [heaviest(ids, bits, halves, column, rows) for column in marked]
    centers, low, high = (np.empty((len(starts) - 1, 3), kind) for kind in (float, "f4", "f4"))
    for p, own in enumerate(np.split(rows, starts[1:])[:-1]):
        share = weights[own]
        share = share if share.sum() > 0 else np.ones_like(share)
        centers[p] = np.average(means[own].astype(np.float64), axis=0, weights=share)
        low[p], high[p] = means[own].min(axis=0), means[own].max(axis=0)
    return rows, centers, low, high, np.array(labels, np.int32).reshape(len(marked), len(rows))
