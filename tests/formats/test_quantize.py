"""Tables for values, against closed forms and scikit-learn."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from ffsplat.formats.quantize import ENTRIES, nearest, palette_of, table_of


@pytest.mark.parametrize(
    ("draw", "constant"),
    [
        (lambda r, n: r.uniform(-2, 3, n), 5**2 / 12),
        (lambda r, n: r.normal(0, 1, n), np.sqrt(3) * np.pi / 2),
    ],
    ids=["uniform", "normal"],
)
def test_the_error_is_that_of_the_best_table(draw, constant):
    """Panter and Dite: the best mean squared error of N entries is (integral f^(1/3))^3 / 12 N^2.

    That is 25 / 12 N^2 on an interval of length 5, and sqrt(3) pi / 2 N^2 for a normal density.
    """
    values = draw(np.random.default_rng(0), 200_000).astype(np.float32)
    table = table_of(values)
    error = np.square(values - table[nearest(values, table)]).mean()
    assert 0.8 * constant < error * ENTRIES**2 < 1.3 * constant


def test_a_table_covers_both_ends_and_few_values_exactly():
    values = np.array([-3, 0.5, 0.5, 7], np.float32)
    table = table_of(values)
    assert (table[0], table[-1], len(table)) == (-3, 7, ENTRIES)
    assert np.abs(table[nearest(values, table)] - values).max() < 0.1
    same = np.full(5, 2.5, np.float32)
    assert np.array_equal(table_of(same)[nearest(same, table_of(same))], same)


def test_nearest_is_the_nearest():
    random = np.random.default_rng(1)
    table = np.sort(random.normal(size=ENTRIES)).astype(np.float32)
    values = random.normal(size=(50, 3)).astype(np.float32)
    expected = np.abs(values[..., None] - table).argmin(axis=-1)
    assert np.array_equal(nearest(values, table), expected)


def test_a_palette_that_is_large_enough_is_exact():
    rows = np.repeat(np.random.default_rng(2).normal(size=(40, 9)), 5, axis=0).astype(np.float32)
    palette, labels = palette_of(rows, 200)
    np.testing.assert_allclose(palette[labels], rows, atol=1e-6)


def test_the_tree_is_nearly_as_good_as_flat_k_means():
    random = np.random.default_rng(3)
    centers = random.normal(size=(300, 9))
    rows = (centers[random.integers(0, 300, 6000)] + random.normal(0, 0.2, (6000, 9))).astype("f4")
    palette, labels = palette_of(rows, 1024)
    assert len(palette) <= 1024
    ours = np.square(rows - palette[labels]).sum(axis=1).mean()
    theirs = KMeans(len(palette), n_init=1, max_iter=5, random_state=0).fit(rows)
    assert ours < 1.4 * theirs.inertia_ / len(rows)
