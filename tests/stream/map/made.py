"""Observations and maps made for tests."""

from dataclasses import replace

import numpy as np

from ffsplat.alignment import Similarity
from ffsplat.stream.map import Observed, SplatMap
from ffsplat.stream.settings import MapperSettings

CELL = 0.1


def settings(**changes) -> MapperSettings:
    return replace(MapperSettings(max_splats=200, max_submaps=4), **changes)


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
    changes = {
        name: np.asarray(value, getattr(default, name).dtype) for name, value in changes.items()
    }
    return replace(default, **changes)


def random_observed(rng: np.random.Generator, n: int = 60, size: float = 1.0) -> Observed:
    """Observations of all kinds in a cube: many share cells, some have targets."""
    quaternions = rng.standard_normal((n, 4))
    return observed(
        size * rng.random((n, 3)),
        scales=0.001 + 0.05 * rng.random((n, 3)),
        quaternions_wxyz=quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True),
        opacities=rng.random(n),
        colors=rng.random((n, 3)),
        confidence=0.05 + 0.95 * rng.random(n),
        ids=rng.integers(-1, 8, (n, 3)),
        weights=rng.random((n, 3)),
        instances=rng.integers(-1, 5, n),
        target=np.where(rng.random(n) < 0.2, rng.integers(0, 100, n), -1),
    )


def turn(angle: float) -> np.ndarray:
    """A rotation about the z axis."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def random_pose(rng: np.random.Generator) -> Similarity:
    return Similarity(0.5 + rng.random(), turn(rng.normal()), rng.normal(size=3))


def one_submap(**changes) -> SplatMap:
    """An empty map with one submap, number 0, that is the world."""
    splats = SplatMap(settings(**changes), CELL)
    splats.add_submap(Similarity.identity())
    return splats
