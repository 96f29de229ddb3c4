import numpy as np
import pytest
import torch

from ffsplat.geometry import matrix_from_quaternion, quaternion_from_matrix, rotation_from_vector
from ffsplat.stream.turns import quaternion_of, rotation_of

VECTORS = [
    [0, 0, 0], [0.1, -0.2, 0.3], [1, 2, -2], [np.pi, 0, 0], [0, np.pi, 0], [0, 0, np.pi],
    [0, 3, 0.1], [-2, 0.1, 2], [0, -1e-9, 1e-9],
]  # fmt: skip


@pytest.mark.parametrize("vector", VECTORS)
def test_one_is_what_it_is_in_a_stack(vector):
    matrix = rotation_from_vector(torch.tensor(vector, dtype=torch.float64))
    turn = quaternion_from_matrix(matrix)
    np.testing.assert_allclose(quaternion_of(matrix.numpy()), turn.numpy(), atol=1e-15)
    again = rotation_of(turn.numpy())
    np.testing.assert_allclose(again, matrix_from_quaternion(turn).numpy(), atol=1e-15)
    np.testing.assert_allclose(again, matrix.numpy(), atol=1e-14)


def test_a_matrix_that_is_turned_over_in_memory_is_read_as_it_is():
    matrix = rotation_from_vector(torch.tensor([0.3, 0.5, -0.2], dtype=torch.float64)).numpy()
    back = quaternion_of(matrix.T)
    np.testing.assert_allclose(back, quaternion_of(matrix) * [1, -1, -1, -1], atol=1e-15)
