"""Cameras along a walk, and a world that a known similarity leads back from."""

import numpy as np
from scipy.spatial.transform import Rotation

from ffsplat.alignment import Similarity
from ffsplat.types import Cameras, Scene

TRUTH = Similarity(
    1.7,
    Rotation.from_euler("xyz", [20, 130, -40], degrees=True).as_matrix(),
    np.array([3.0, -1, 2]),
)


def walk(count: int = 6, step: float = 0.2, noise: float = 0.0, seed: int = 0) -> Cameras:
    """Cameras side by side that look a little here and there."""
    random = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = step * np.arange(count)
    poses[:, 1:3, 3] = 0.3 * step * np.random.default_rng(1).normal(size=(count, 2))
    poses[:, :3, 3] += noise * random.normal(size=(count, 3))
    for pose in poses:
        pose[:3, :3] = Rotation.from_rotvec((0.05 + noise) * random.normal(size=3)).as_matrix()
    lens = np.array([[64, 0, 32], [0, 64, 24], [0, 0, 1]], np.float32)
    return Cameras(
        poses.astype(np.float32),
        np.tile(lens, (count, 1, 1)),
        np.tile(np.array([[64, 48]], np.int32), (count, 1)),
        tuple(f"photo_{i}.jpg" for i in range(count)),
    )


def moved(scene: Scene) -> Scene:
    """The scene in the world that TRUTH leads back from."""
    return TRUTH.inverse().scene(scene)
