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
    found = np.bincount(matched, scores[matching], count)
    groups[~matching] = -1
    return sizes, totals, counts, found


def members(groups, place, starts):
    """The Gaussians of the groups that have a place, one group after the other, each rising."""
    places = np.append(place, -1)[groups]
    chosen = np.flatnonzero(places >= 0)
    return chosen[np.argsort(places[chosen], kind="stable")]


def extent(means, weights, rows):
    """The mean of some Gaussians by weight (plain where all weights are 0), and their box."""
    some, own = means[rows], weights[rows]
    own = own if own.sum() > 0 else np.ones_like(own)
    center = np.average(some.astype(np.float64), axis=0, weights=own)
    return center, some.min(axis=0), some.max(axis=0)
