"""Geometry against hand values, scipy and identities."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ffsplat import geometry as g


@pytest.fixture
def vectors() -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(64, 3, generator=random, dtype=torch.float64)
    vectors[0] = 0
    vectors[1] *= 1e-9
    vectors[2] *= (np.pi - 1e-4) / vectors[2].norm()
    return vectors


def test_rotation_matches_scipy(vectors):
    expected = Rotation.from_rotvec(vectors.numpy()).as_matrix()
    np.testing.assert_allclose(g.rotation_from_vector(vectors), expected, atol=1e-12)


def test_rotation_vector_comes_back(vectors):
    short = vectors * (3.0 / vectors.norm(dim=-1, keepdim=True).clamp(min=3.0))
    back = g.vector_from_rotation(g.rotation_from_vector(short))
    torch.testing.assert_close(back, short, atol=1e-7, rtol=0)


def test_rotation_has_a_gradient_at_zero():
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(g.rotation_from_vector, (zero,))
    torch.manual_seed(0)
    away = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(g.rotation_from_vector, (away,))


def test_quaternions_match_scipy(vectors):
    matrix = g.rotation_from_vector(vectors)
    quaternion = g.quaternion_from_matrix(matrix)
    xyzw = Rotation.from_matrix(matrix.numpy()).as_quat()
    alike = np.abs((quaternion.numpy()[:, [1, 2, 3, 0]] * xyzw).sum(-1))
    np.testing.assert_allclose(alike, 1, atol=1e-9)
    torch.testing.assert_close(g.matrix_from_quaternion(quaternion), matrix, atol=1e-9, rtol=0)


def test_quaternion_product_is_the_product_of_matrices(vectors):
    a = g.quaternion_from_matrix(g.rotation_from_vector(vectors))
    b = a.roll(1, 0)
    product = g.matrix_from_quaternion(g.quaternion_multiply(a, b))
    expected = g.matrix_from_quaternion(a) @ g.matrix_from_quaternion(b)
    torch.testing.assert_close(product, expected)


def test_half_turns_survive():
    for axis in torch.eye(3, dtype=torch.float64):
        turn = g.rotation_from_vector(torch.pi * axis)
        torch.testing.assert_close(g.rotation_angle(turn), torch.tensor(torch.pi).double())
        torch.testing.assert_close(
            g.matrix_from_quaternion(g.quaternion_from_matrix(turn)), turn, atol=1e-9, rtol=0
        )


def test_unproject_by_hand():
    # Focal 2 px, centre (1, 1): the top-left pixel lies at (-0.5, -0.5) px, so x = y = -d / 4.
    intrinsics = g.intrinsics_from_focal(torch.tensor(2.0), 2, 2)
    points = g.unproject(torch.full((2, 2), 4.0), intrinsics)
    torch.testing.assert_close(points[0, 0], torch.tensor([-1.0, -1.0, 4.0]))
    torch.testing.assert_close(points[1, 0], torch.tensor([-1.0, 1.0, 4.0]))
    shifted = g.unproject(torch.full((2, 2), 4.0), intrinsics, torch.full((2, 2, 2), 0.5))
    torch.testing.assert_close(shifted[0, 0], torch.tensor([0.0, 0.0, 4.0]))


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_projection_undoes_unprojection(batch):
    torch.manual_seed(1)
    depth = torch.rand(*batch, 5, 7) + 0.5
    intrinsics = g.intrinsics_from_focal(torch.rand(batch) * 10 + 5, 5, 7)
    points = g.unproject(depth, intrinsics).flatten(-3, -2)
    pixels = g.project(points, intrinsics).unflatten(-2, (5, 7))
    expected = g.pixel_grid(5, 7, depth).expand(*batch, 5, 7, 2)
    torch.testing.assert_close(pixels, expected, atol=1e-4, rtol=0)


def test_project_stays_finite_at_the_camera_plane():
    points = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, -2.0]])
    assert g.project(points, g.intrinsics_from_focal(torch.tensor(10.0), 4, 4)).isfinite().all()


def test_rigid_inverse_and_transform(vectors):
    transform = g.rigid(g.rotation_from_vector(vectors), vectors.flip(0))
    torch.testing.assert_close(
        g.invert_rigid(transform) @ transform, torch.eye(4).double().expand(64, 4, 4)
    )
    points = vectors.expand(64, 64, 3)
    there = g.transform_points(transform, points)
    torch.testing.assert_close(g.transform_points(g.invert_rigid(transform), there), points)


def test_cross_matrix(vectors):
    other = vectors.roll(3, 0)
    product = (g.cross_matrix(vectors) @ other[..., None])[..., 0]
    torch.testing.assert_close(product, torch.linalg.cross(vectors, other))
