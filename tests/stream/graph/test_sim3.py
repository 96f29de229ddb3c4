import numpy as np
import pytest
from scipy.linalg import expm

from ffsplat.alignment import Similarity
from ffsplat.stream.graph import sim3


def tangents(count: int, size: float, seed: int = 0) -> np.ndarray:
    """Random tangents; turns stay below pi for sizes up to 1."""
    values = np.random.default_rng(seed).uniform(-1, 1, (count, 7)) * size
    values[:, :3] *= 1.8
    return values


def generator(tangent: np.ndarray) -> np.ndarray:
    """The 4x4 matrix whose exponential is the group element."""
    matrix = np.zeros((4, 4))
    matrix[:3, :3] = np.cross(tangent[:3], -np.eye(3)) + tangent[6] * np.eye(3)
    matrix[:3, 3] = tangent[3:6]
    return matrix


SPECIAL = np.array(
    [
        [0, 0, 0, 1, 2, 3, 0],
        [0, 0, 0, 1, 2, 3, 0.5],
        [1e-9, 0, 0, 1, 2, 3, 1e-9],
        [3.1, 0, 0, 1, 2, 3, -0.7],
        [0.3, -0.4, 1.2, 0, 0, 0, 0],
    ]
)


@pytest.mark.parametrize("values", [SPECIAL, tangents(50, 1.0)], ids=["special", "random"])
def test_the_exponential_is_that_of_the_matrix_and_the_logarithm_undoes_it(values):
    found = sim3.exponential(values)
    expected = np.stack([expm(generator(one)) for one in values])
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(sim3.logarithm(found), values, atol=1e-8)


def test_the_inverse_is_that_of_the_matrix():
    stack = sim3.exponential(tangents(20, 1.0))
    np.testing.assert_allclose(sim3.inverse(stack), np.linalg.inv(stack), atol=1e-12)


def test_the_adjoint_carries_a_tangent_to_the_other_side():
    stack, small = sim3.exponential(tangents(20, 1.0)), tangents(20, 0.5, seed=1)
    carried = (sim3.adjoint(stack) @ small[..., None])[..., 0]
    np.testing.assert_allclose(
        stack @ sim3.exponential(small), sim3.exponential(carried) @ stack, atol=1e-12
    )


@pytest.mark.parametrize(("size", "tolerance"), [(0.05, 1e-8), (0.5, 1e-4)])
def test_the_inverse_jacobian_is_the_numerical_derivative(size, tolerance):
    values, step = tangents(10, size), 1e-6
    stack, found = sim3.exponential(values), sim3.inverse_right_jacobian(values)
    for axis in range(7):
        push = np.zeros((1, 7))
        push[0, axis] = step
        ahead = sim3.logarithm(stack @ sim3.exponential(push))
        behind = sim3.logarithm(stack @ sim3.exponential(-push))
        np.testing.assert_allclose(
            found[..., axis], (ahead - behind) / (2 * step), atol=tolerance + 1e-9
        )


def test_similarities_survive_matrices_and_rows():
    stack = sim3.exponential(tangents(5, 1.0))
    similarities = [sim3.similarity(one) for one in stack]
    np.testing.assert_allclose(sim3.matrices(similarities), stack, atol=1e-12)
    table = sim3.rows(similarities)
    for one, again in zip(similarities, sim3.from_rows(table), strict=True):
        np.testing.assert_array_equal(sim3.rows([again]), sim3.rows([one]))
        np.testing.assert_array_equal(again.rotation, one.rotation)
    assert sim3.rows([]).shape == (0, 13)


def test_composition_is_that_of_similarities():
    one, other = sim3.exponential(tangents(2, 1.0))
    both = sim3.similarity(one) @ sim3.similarity(other)
    assert isinstance(both, Similarity)
    np.testing.assert_allclose(sim3.matrices([both])[0], one @ other, atol=1e-12)
