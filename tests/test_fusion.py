"""Cells of the world: the moments of what is merged in each, by hand and by numpy."""

import numpy as np
import pytest
import torch

from ffsplat import merge
from ffsplat.codes import to_dense
from ffsplat.errors import UsageError
from ffsplat.fusion import merge_voxels
from ffsplat.geometry import matrix_from_quaternion
from ffsplat.types import Codebook, Gaussians, Scene
from tests.fakes import fake_prediction, fake_views

CODEBOOK = Codebook(
    names=tuple("abcdefghi"),
    levels=np.array([1, 0, 0, 1, 0, 1, 0, 1, 0], np.int8),
    parents=np.full(9, -1, np.int16),
    counts=np.zeros(9, np.float32),
    spaces={"lexicon": np.eye(9, dtype=np.float16)},
)


def every_pixel() -> Scene:
    """The scene of all 96 pixels of a made-up prediction."""
    return merge.to_scene(
        fake_prediction(), fake_views(), CODEBOOK, min_confidence=0.0, min_opacity=0.0,
        prune_edges=False, consistent=False,
    )  # fmt: skip


def covariances(quaternions_wxyz, scales):
    axes = (
        matrix_from_quaternion(torch.as_tensor(quaternions_wxyz)) * torch.as_tensor(scales)[:, None]
    )
    return (axes @ axes.mT).numpy()


def test_merged_cells_keep_the_moments_of_their_mixture():
    scene = every_pixel()
    confidence = np.linspace(0.1, 1, 96, dtype=np.float32)
    merged, merged_confidence = merge_voxels(scene, confidence, 0.7)
    assert 2 < len(merged) < 48
    old, new = scene.gaussians, merged.gaussians
    weights = old.opacities * confidence
    shape = covariances(old.quaternions_wxyz, old.scales)
    merged_shape = covariances(new.quaternions_wxyz, new.scales)
    cells = np.floor(old.means / 0.7)
    dense = to_dense(scene.codes, 9)
    for i in range(len(merged)):
        # The cells are convex, so the merged mean lies in the cell of its members.
        members = (cells == np.floor(new.means[i] / 0.7)).all(axis=1)
        share = weights[members] / weights[members].sum()
        mean = share @ old.means[members]
        offset = old.means[members] - mean
        spread = np.einsum("n,ni,nj->ij", share, offset, offset)
        np.testing.assert_allclose(new.means[i], mean, atol=1e-5)
        expected = np.einsum("n,nij->ij", share, shape[members]) + spread
        np.testing.assert_allclose(merged_shape[i], expected, atol=2e-5)
        np.testing.assert_allclose(new.opacities[i], share @ old.opacities[members], atol=1e-5)
        np.testing.assert_allclose(new.sh[i, 0], share @ old.sh[members, 0], atol=1e-5)
        np.testing.assert_allclose(merged_confidence[i], share @ confidence[members], atol=1e-5)
        code = np.sort(share @ dense[members])[-4:]
        ours = np.sort(merged.codes.weights[i].astype(float))
        np.testing.assert_allclose(ours, code / code.sum(), atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(new.quaternions_wxyz, axis=1), 1, atol=1e-5)


def test_a_merged_instance_is_that_of_the_largest_weight():
    gaussians = Gaussians(
        means=np.array([[0.1, 0, 0], [0.2, 0, 0], [0.3, 0, 0], [5, 0, 0]], np.float32),
        scales=np.full((4, 3), 0.1, np.float32),
        quaternions_wxyz=np.tile(np.array([1, 0, 0, 0], np.float32), (4, 1)),
        opacities=np.array([0.5, 0.3, 0.3, 1], np.float32),
        sh=np.zeros((4, 1, 3), np.float32),
    )
    scene = Scene(gaussians, instances=np.array([7, 2, 2, -1], np.int32))
    merged, _ = merge_voxels(scene, np.ones(4, np.float32), 1.0)
    by_place = np.argsort(merged.gaussians.means[:, 0])
    assert merged.instances[by_place].tolist() == [2, -1]
    assert merged.codes is None


def test_cells_too_small_to_be_numbered_are_refused():
    scene = every_pixel()
    means = scene.gaussians.means.astype(np.float64)
    smallest = float(np.abs(means - np.median(means, axis=0)).mean(0).max()) / 2**14
    merged, _ = merge_voxels(scene, np.ones(96, np.float32), 1.01 * smallest)
    assert len(merged) == 96
    merged_means = np.sort(merged.gaussians.means, axis=0)
    np.testing.assert_allclose(merged_means, np.sort(means, axis=0), atol=1e-6)
    for size in (0.99 * smallest, 1e-300):
        with pytest.raises(UsageError, match="too small"):
            merge_voxels(scene, np.ones(96, np.float32), size)
