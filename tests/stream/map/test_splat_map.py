from dataclasses import replace

import numpy as np
import pytest

from ffsplat.alignment import Similarity
from ffsplat.stream.map import Observed, SplatMap
from ffsplat.stream.settings import MapperSettings

CELL = 0.1


def settings(**changes) -> MapperSettings:
    return replace(MapperSettings(max_splats=200, max_submaps=4), **changes)


def turn(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def observed(means, **changes) -> Observed:
    """Alike Gaussians at some points."""
    means = np.asarray(means, np.float32).reshape(-1, 3)
    n = len(means)
    default = Observed(
        means=means,
        scales=np.tile(np.float32([0.03, 0.02, 0.001]), (n, 1)),
        quaternions_wxyz=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
        opacities=np.full(n, 0.9, np.float32),
        colors=np.full((n, 3), 0.5, np.float32),
        confidence=np.full(n, 0.5, np.float32),
        ids=np.zeros((n, 1), np.int16),
        weights=np.ones((n, 1), np.float32),
        instances=np.full(n, -1, np.int32),
        target=np.full(n, -1, np.int32),
    )
    return replace(default, **changes)


def one_submap(**changes) -> SplatMap:
    splats = SplatMap(settings(**changes), CELL)
    splats.add_submap(Similarity.identity())
    return splats


def test_an_observation_is_found_again_where_it_was():
    splats = one_submap()
    first = splats.fuse(observed([[0.05, 0.05, 0.05], [0.55, 0.05, 0.05]]), 0, [], 0)
    again = splats.fuse(observed([[0.54, 0.04, 0.06], [0.05, 0.06, 0.04]]), 0, [], 1)
    assert first.tolist() == [0, 1]
    assert again.tolist() == [1, 0]
    assert len(splats) == 2


def test_the_mean_is_weighted_by_confidence():
    splats = one_submap()
    x = np.array([0.01, 0.05, 0.09])
    confidence = np.float32([0.2, 0.9, 0.5])
    for now in range(3):
        one = observed([[x[now], 0.05, 0.05]], confidence=confidence[now : now + 1])
        splats.fuse(one, 0, [], now)
    (mean,) = splats.gaussians().gaussians.means
    np.testing.assert_allclose(mean, [confidence @ x / confidence.sum(), 0.05, 0.05], rtol=1e-6)


def test_near_submaps_come_before_the_own_one():
    splats = SplatMap(settings(), CELL)
    shifted = Similarity(2.0, turn(0.7), np.array([1.0, 2, 3]))
    old, new = splats.add_submap(Similarity.identity()), splats.add_submap(shifted)
    point = observed([[0.05, 0.05, 0.05]])
    place = splats.fuse(point, old, [], 0)
    assert splats.fuse(point, new, [old], 1).tolist() == place.tolist()
    assert splats.fuse(point, new, [], 2).tolist() == [1]


def test_moving_a_submap_moves_its_gaussians_and_sends_none(rng):
    splats = one_submap()
    points = rng.random((50, 3)).astype(np.float32)
    splats.fuse(observed(points), 0, [], 0)
    before = splats.gaussians().gaussians
    splats.take_changes()
    pose = Similarity(1.5, turn(0.3), np.array([0.1, 0.2, 0.3]))
    splats.move_submaps([0], [pose])
    changes = splats.take_changes()
    after, expected = splats.gaussians().gaussians, pose.gaussians(before)
    assert len(changes.splats) == 0
    assert changes.submaps.tolist() == [0]
    for name in ("means", "scales", "quaternions_wxyz"):
        got, want = getattr(after, name), getattr(expected, name)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
