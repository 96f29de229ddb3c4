"""Blending weights of single Gaussians: against the reference, and against what is drawn."""

import numpy as np
import pytest
import torch

from ffsplat.errors import UsageError
from ffsplat.render.contributors import contributors
from ffsplat.render.splatting import rasterize
from ffsplat.types import Cameras, Gaussians

WIDTH, HEIGHT = 37, 29


@pytest.fixture(scope="module")
def scene() -> tuple[Gaussians, Cameras]:
    rng = np.random.default_rng(2)
    n = 60
    quaternions = rng.standard_normal((n, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    gaussians = Gaussians(
        (rng.uniform(-1, 1, (n, 3)) + np.array([0, 0, 3])).astype(np.float32),
        rng.uniform(0.03, 0.3, (n, 3)).astype(np.float32),
        quaternions.astype(np.float32),
        rng.uniform(0.05, 0.95, n).astype(np.float32),
        np.zeros((n, 1, 3), np.float32),
    )
    intrinsics = np.array([[30, 0, WIDTH / 2], [0, 30, HEIGHT / 2], [0, 0, 1]], np.float32)
    size = np.array([[WIDTH, HEIGHT]], np.int32)
    return gaussians, Cameras(np.eye(4, dtype=np.float32)[None], intrinsics[None], size, ("a",))


def reference_weights(gaussians: Gaussians, cameras: Cameras) -> np.ndarray:
    """The weight of every Gaussian at every pixel: each is a feature channel of its own."""
    drawn = rasterize(
        torch.from_numpy(gaussians.means).double(),
        torch.from_numpy(gaussians.quaternions_wxyz).double(),
        torch.from_numpy(gaussians.scales).double(),
        torch.from_numpy(gaussians.opacities).double(),
        torch.eye(len(gaussians)).double(),
        torch.from_numpy(cameras.world_from_camera).double(),
        torch.from_numpy(cameras.intrinsics).double(),
        WIDTH,
        HEIGHT,
        backend="reference",
    )
    return drawn.features[0].numpy()


def test_all_contributors_have_the_weights_of_the_reference(scene):
    found = contributors(*scene, 0, topk=60)
    dense = np.zeros((HEIGHT, WIDTH, 61))
    np.put_along_axis(dense, found.gaussians.astype(int), found.weights, axis=2)
    wanted = reference_weights(*scene)
    opaque = wanted.sum(-1) < 0.9998  # beyond that the rasteriser stops
    np.testing.assert_allclose(dense[..., :60][opaque], wanted[opaque], atol=3e-3)
    assert np.abs(dense[..., :60] - wanted)[opaque].mean() < 1e-5


def test_weights_fall_and_few_contributors_are_the_heaviest(scene):
    every, few = contributors(*scene, 0, topk=60), contributors(*scene, 0, topk=3)
    assert (np.diff(every.weights, axis=-1) <= 0).all()
    np.testing.assert_array_equal(few.gaussians, every.gaussians[..., :3])
    np.testing.assert_array_equal(few.weights, every.weights[..., :3])


def test_only_the_nearest_gaussians_are_looked_at(scene):
    one = contributors(*scene, 0, topk=5, first=1)
    assert (one.gaussians[..., 1:] == -1).all()
    depth = scene[0].means[:, 2]
    every = contributors(*scene, 0, topk=60)
    for y, x in ((14, 18), (3, 5), (20, 30)):
        seen = every.gaussians[y, x][every.gaussians[y, x] >= 0]
        if len(seen):
            assert one.gaussians[y, x, 0] == seen[depth[seen].argmin()]


def test_the_radius_of_a_round_gaussian_is_three_deviations_by_hand():
    gaussians = Gaussians(
        np.array([[0, 0, 2], [0, 0, -2]], np.float32),
        np.full((2, 3), 0.2, np.float32),
        np.array([[1, 0, 0, 0]] * 2, np.float32),
        np.full(2, 0.9, np.float32),
        np.zeros((2, 1, 3), np.float32),
    )
    intrinsics = np.array([[30, 0, 20], [0, 30, 20], [0, 0, 1]], np.float32)[None]
    size = np.array([[40, 40]], np.int32)
    cameras = Cameras(np.eye(4, dtype=np.float32)[None], intrinsics, size, ("a",))
    radii = contributors(gaussians, cameras, 0).radii
    np.testing.assert_allclose(radii, [3 * (3**2 + 0.3) ** 0.5, 0], rtol=1e-4)


def test_limits_below_one_are_refused(scene):
    with pytest.raises(UsageError, match="both are 1 or more"):
        contributors(*scene, 0, topk=0)
