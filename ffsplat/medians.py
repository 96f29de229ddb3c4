"""Medians of many values a frame, without what NumPy's own spend on axes, kinds and NaNs."""

from functools import partial

import numpy as np
from jaxtyping import Float, Float64

from ffsplat.compiled import exactly_compiled


def median(values: Float[np.ndarray, " n"]) -> float:
    """What `numpy.median` gives for at least one value, if all of them are numbers.

    The values are put into another order.
    """
    half = len(values) // 2
    values.partition(half)
    upper = values[half]
    return float(upper if len(values) % 2 else (values[:half].max() + upper) / 2)


def weighted_median(values: Float[np.ndarray, " n"], weights: Float64[np.ndarray, " n"]) -> float:
    """The least of some values, at least one, such that it and those below have half the weight.

    Values and weights are put into another order. Source: Cormen et al., "Introduction to
    Algorithms", problem 9-2: parts like those of quickselect, until only the one value is left.
    """
    return float(_weighted_median(values, weights))


@partial(exactly_compiled, nogil=False)  # it takes less than to get the interpreter back
def _weighted_median(values, weights):
    half, below = weights.sum() / 2, 0.0
    first, last = 0, len(values) - 1
    while first < last:
        pivot = values[(first + last) // 2]
        i, j, within = first, last, 0.0
        # Hoare's partition: up to j are none above the pivot, from i on none below it.
        while i <= j:
            while values[i] < pivot:
                within += weights[i]
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                weights[i], weights[j] = weights[j], weights[i]
                within += weights[i]
                i, j = i + 1, j - 1
        if j + 1 < i:  # the pivot alone stands between both parts
            within -= weights[j + 1]
        if below + within >= half and first <= j:
            last = j
        elif j + 1 < i and below + within + weights[j + 1] >= half:
            return values[j + 1]
        else:
            below += within + (weights[j + 1] if j + 1 < i else 0.0)
            first = i
    return values[min(first, len(values) - 1)]
