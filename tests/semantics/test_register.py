"""Registration by blending weight: against the dense matrix of Dr. Splat, and in a whole scene."""

import numpy as np
import pytest

from ffsplat import codes
from ffsplat.render.contributors import contributors
from ffsplat.semantics.register import carries_meaning, register, without_meaning
from ffsplat.types import Cameras, Gaussians
from train.evaluation.label_features import label_vectors

COUNT, ROWS = 40, 9


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def random_views(rng, views: int = 3, pixels: int = 50, most: int = 6):
    for _ in range(views):
        ids = np.stack([rng.permutation(COUNT - 2)[:most] for _ in range(pixels)])
        ids[rng.random(ids.shape) < 0.1] = -1
        weights = np.where(ids < 0, 0, rng.random(ids.shape)).astype(np.float32)
        yield ids.astype(np.int32), weights, rng.integers(-1, ROWS, pixels)


def dense(views, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrix of Gaussians by rows, and the features that Dr. Splat registers: its own steps."""
    matrix = np.zeros((COUNT, len(rows)))
    for ids, weights, labels in views:
        for ray, shares, label in zip(ids, weights, labels, strict=True):
            for gaussian, share in zip(ray, shares, strict=True):
                if gaussian != -1 and label != -1:
                    matrix[gaussian, label] += share
    features = matrix @ rows
    return matrix, features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-9)


def test_with_all_rows_kept_the_coded_vector_is_drsplats_feature(rng):
    views = list(random_views(rng))
    rows = label_vectors(ROWS, 32, rng)
    matrix, features = dense(views, rows)
    code = register(views, COUNT, k=ROWS, gram=rows @ rows.T)
    vectors = codes.to_dense(code, ROWS) @ rows
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    known = matrix.sum(1) > 0
    np.testing.assert_allclose(vectors[known] / lengths[known], features[known], atol=2e-4)
    np.testing.assert_array_equal(code.ids[:, 0] >= 0, known)
    agreement = np.linalg.norm(matrix[known] @ rows, axis=1) / matrix[known].sum(1)
    np.testing.assert_allclose(code.norms[known], agreement, atol=1e-3)


def test_few_rows_are_the_heaviest_with_their_shares(rng):
    views = list(random_views(rng))
    matrix, _ = dense(views, label_vectors(ROWS, 32, rng))
    code = register(views, COUNT, k=2)
    for i in np.flatnonzero(matrix.sum(1) > 0):
        best = np.argsort(-matrix[i])[:2]
        used = matrix[i, best] > 0
        np.testing.assert_array_equal(code.ids[i][used], best[used])
        share = matrix[i, best] / matrix[i, best].sum()
        np.testing.assert_allclose(code.weights[i][used], share[used], atol=1e-3)


def test_the_order_of_views_and_pixels_does_not_matter(rng):
    views = list(random_views(rng))
    backwards = [tuple(part[::-1].copy() for part in view) for view in reversed(views)]
    one, other = register(views, COUNT), register(backwards, COUNT)
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-3)


def test_only_carriers_get_evidence(rng):
    carriers = np.arange(COUNT) % 2 == 0
    every = register(random_views(np.random.default_rng(1)), COUNT)
    some = register(random_views(np.random.default_rng(1)), COUNT, carriers=carriers)
    np.testing.assert_array_equal(some.ids[carriers], every.ids[carriers])
    assert (some.ids[~carriers] == -1).all()
    cleared = without_meaning(every, carriers)
    np.testing.assert_array_equal(cleared.ids, some.ids)
    np.testing.assert_array_equal(cleared.weights[~carriers], 0)
    np.testing.assert_array_equal(cleared.norms[~carriers], 0)
    nothing = register([], COUNT)
    assert (nothing.ids == -1).all()


def test_faint_and_small_gaussians_carry_nothing():
    opacities = np.array([0.9, 0.25, 0.9, 0.3], np.float32)
    radii = np.array([5, 5, 2, 2.1], np.float32)
    np.testing.assert_array_equal(carries_meaning(opacities, radii), [True, False, False, True])


def test_gaussians_of_a_scene_get_the_row_of_the_pixels_they_make():
    """Two opaque walls side by side, a floater in front of one, and one behind both."""
    means = np.array([[-1, 0, 4], [1, 0, 4], [-1, 0, 2], [0, 0, 40]], np.float32)
    gaussians = Gaussians(
        means,
        np.array([[0.3] * 3, [0.3] * 3, [0.05] * 3, [0.1] * 3], np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (4, 1)),
        np.array([0.95, 0.95, 0.05, 0.95], np.float32),
        np.zeros((4, 1, 3), np.float32),
    )
    intrinsics = np.array([[60, 0, 32], [0, 60, 24], [0, 0, 1]], np.float32)[None]
    size = np.array([[64, 48]], np.int32)
    cameras = Cameras(np.eye(4, dtype=np.float32)[None], intrinsics, size, ("a",))
    seen = contributors(gaussians, cameras, 0, topk=4)
    labels = np.broadcast_to(np.arange(64) >= 32, (48, 64)).astype(np.int64)
    view = seen.gaussians.reshape(-1, 4), seen.weights.reshape(-1, 4), labels.ravel()
    carriers = carries_meaning(gaussians.opacities, seen.radii)
    code = register([view], 4, carriers=carriers)
    np.testing.assert_array_equal(carriers, [True, True, False, False])
    np.testing.assert_array_equal(code.ids[:, 0], [0, 1, -1, -1])
    assert code.weights[:2, 0].min() > 0.99
