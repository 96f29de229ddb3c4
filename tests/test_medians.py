import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffsplat.medians import median, weighted_median

VALUES = st.lists(st.integers(-5, 5), min_size=1, max_size=40)


@given(VALUES)
def test_median_is_that_of_numpy(values):
    array = np.array(values, np.float32)
    assert median(array.copy()) == float(np.median(array))


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 9)), min_size=1, max_size=40))
def test_half_of_the_weight_is_at_the_weighted_median_or_below(pairs):
    values, weights = np.array(pairs, np.float64).T.copy()
    found = weighted_median(values.copy(), weights.copy())
    assert found in values
    assert 2 * weights[values <= found].sum() >= weights.sum()
    assert 2 * weights[values < found].sum() < weights.sum()


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 4096])
def test_weights_of_one_give_the_lower_median(count):
    values = np.random.default_rng(count).normal(size=count).astype(np.float32)
    lower = np.sort(values)[(count - 1) // 2]
    assert weighted_median(values.copy(), np.ones(count)) == lower
