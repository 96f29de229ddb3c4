from itertools import permutations

import numpy as np
import torch

from ffsplat.geometry import matrix_from_quaternion, quaternion_multiply
from ffsplat.stream.map.shape import along_axes, moved, product, ranked


def unit(rng):
    q = rng.standard_normal(4)
    return q / np.linalg.norm(q)


def test_the_product_is_that_of_geometry():
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = unit(rng), unit(rng)
        expected = quaternion_multiply(torch.from_numpy(a), torch.from_numpy(b)).numpy()
        np.testing.assert_allclose(product(tuple(a), tuple(b)), expected, atol=1e-12)


def test_a_product_is_of_unit_length_even_of_nothing():
    assert product((0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)) == (1, 0, 0, 0)
    np.testing.assert_allclose(
        np.linalg.norm(product((3.0, 0.0, 4.0, 0.0), (1.0, 1.0, 0.0, 2.0))), 1
    )


def test_coordinates_along_axes_are_products_with_the_columns():
    rng = np.random.default_rng(1)
    for _ in range(5):
        q, v = unit(rng), rng.standard_normal(3)
        expected = v @ matrix_from_quaternion(torch.from_numpy(q)).numpy()
        np.testing.assert_allclose(along_axes(tuple(q), tuple(v)), expected, atol=1e-12)


def test_a_point_moves_as_a_matrix_says():
    rng = np.random.default_rng(2)
    matrices, point = rng.standard_normal((3, 3, 4)), rng.standard_normal(3)
    np.testing.assert_allclose(moved(matrices, 1, tuple(point)), matrices[1] @ [*point, 1])


def test_ranks_are_those_of_a_stable_sort():
    for values in {*permutations((1.0, 2.0, 3.0)), *permutations((1.0, 1.0, 2.0)), (1.0, 1.0, 1.0)}:
        assert list(ranked(values)) == np.argsort(-np.array(values), kind="stable").tolist()
