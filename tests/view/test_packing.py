"""Gaussians in the page's 32 bytes, read back as viser's own handle reads them."""

import numpy as np
import torch

from ffsplat.geometry import matrix_from_quaternion
from ffsplat.view.packing import colored, covariances, inflated, nothing, parts_of, shapes
from tests.io.scenes import random_gaussians


def triangles(words: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(words[:, 4:7]).view(np.float16).astype(float)


def test_covariances_are_those_of_rotated_ellipsoids():
    gaussians = random_gaussians(50)
    rotations = matrix_from_quaternion(torch.from_numpy(gaussians.quaternions_wxyz)).numpy()
    full = np.einsum("nij,nj,nkj->nik", rotations, gaussians.scales**2, rotations)
    upper = full[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    ours = covariances(gaussians.scales, gaussians.quaternions_wxyz)
    np.testing.assert_allclose(ours, upper, rtol=1e-4, atol=1e-5)


def test_words_hold_centre_covariance_colour_and_opacity():
    gaussians = random_gaussians(5)
    colors = np.linspace(0, 1, 15, dtype=np.float32).reshape(5, 3)
    words = colored(shapes(gaussians), colors, gaussians.opacities)
    assert (words[:, :3].copy().view(np.float32) == gaussians.means).all()
    assert (words[:, 3] == 0).all()
    rgba = words[:, 7:].copy().view(np.uint8)
    assert (rgba[:, :3] == np.rint(255 * colors)).all()
    assert (rgba[:, 3] == np.rint(255 * gaussians.opacities)).all()
    expected = covariances(gaussians.scales, gaussians.quaternions_wxyz)
    np.testing.assert_allclose(triangles(words), expected, rtol=1e-3, atol=1e-6)


def test_words_are_what_viser_itself_packs():
    from viser import GaussianSplatHandle

    gaussians = random_gaussians(20)
    words = colored(shapes(gaussians), gaussians.colors, gaussians.opacities)
    theirs = np.zeros((20, 8), np.uint32)
    upper = covariances(gaussians.scales, gaussians.quaternions_wxyz)
    full = upper[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    GaussianSplatHandle._pack_centers(theirs, gaussians.means)
    GaussianSplatHandle._pack_covariances(theirs, full)
    assert (words[:, :7] == theirs[:, :7]).all()


def test_a_huge_gaussian_stays_finite():
    words = shapes(random_gaussians(3))
    assert np.isfinite(triangles(inflated(words, 1e9))).all()


def test_inflated_covariances_are_multiples():
    words = shapes(random_gaussians(9))
    np.testing.assert_allclose(triangles(inflated(words, 4)), 4 * triangles(words), rtol=1e-3)
    assert (inflated(words, 4)[:, :4] == words[:, :4]).all()


def test_parts_are_the_rows_of_each_group():
    parts = {group: rows.tolist() for group, rows in parts_of(np.array([7, 2, 7, 2, 2]))}
    assert parts == {2: [1, 3, 4], 7: [0, 2]}
    assert list(parts_of(np.zeros(0, int))) == []


def test_nothing_cannot_be_seen():
    assert nothing().tolist() == [[0] * 8]
