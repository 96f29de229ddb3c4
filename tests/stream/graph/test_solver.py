import numpy as np
import pytest

from ffsplat.stream.graph import sim3
from ffsplat.stream.graph.solver import KERNEL, Constraints, _cost, _jacobian, _residuals, _weights

ENDS = np.array([[0, 1], [1, 2], [2, 0], [0, 2]])


def problem(size: float) -> tuple[np.ndarray, Constraints]:
    """Random poses with measurements that are off by about `size`; the last two edges are loops."""
    random = np.random.default_rng(0)
    poses = sim3.exponential(random.uniform(-1, 1, (3, 7)))
    off = sim3.exponential(size * random.normal(size=(4, 7)))
    measured = sim3.inverse(poses[ENDS[:, 0]]) @ poses[ENDS[:, 1]] @ off
    roots = random.normal(size=(4, 7, 7))
    loops = np.array([False, False, True, True])
    return poses, Constraints(ENDS, measured, roots @ roots.swapaxes(1, 2), loops)


@pytest.mark.parametrize(("size", "tolerance"), [(0.01, 1e-8), (0.2, 1e-4)])
def test_the_jacobian_is_the_numerical_derivative(size, tolerance):
    poses, constraints = problem(size)
    found = _jacobian(poses, constraints, _residuals(poses, constraints)).reshape(4, 7, 2, 7)
    step = 1e-6
    for node in range(3):
        for axis in range(7):
            push = np.zeros((3, 7))
            push[node, axis] = step
            ahead = _residuals(poses @ sim3.exponential(push), constraints)
            behind = _residuals(poses @ sim3.exponential(-push), constraints)
            expected = (ahead - behind) / (2 * step)
            for edge, ends in enumerate(ENDS):
                analytic = found[edge, :, :, axis] @ (ends == node)
                np.testing.assert_allclose(analytic, expected[edge], atol=tolerance + 1e-8)


def test_weights_are_the_slope_of_the_cost_and_a_loop_at_the_kernel_counts_a_quarter():
    poses, constraints = problem(0.3)
    residuals, width = _residuals(poses, constraints), 2.0
    squares = np.einsum("mi,mij,mj->m", residuals, constraints.information, residuals)
    scaled = residuals * np.sqrt(width * KERNEL / squares)[:, None]
    shares = _weights(scaled, constraints, width)[:, 0, 0] / constraints.information[:, 0, 0]
    np.testing.assert_allclose(shares, [1, 1, 0.25, 0.25])
    # Residuals r (1 + x) have squares of slope 2 r' I r at x = 0.
    ahead, behind = (_cost(residuals * (1 + x), constraints, width) for x in (1e-6, -1e-6))
    weights = _weights(residuals, constraints, width)
    slope = 2 * np.einsum("mi,mij,mj->", residuals, weights, residuals)
    assert (ahead - behind) / 2e-6 == pytest.approx(slope, rel=1e-6)
