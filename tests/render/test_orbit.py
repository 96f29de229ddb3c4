"""Camera paths: rigid, closed, smooth, and looking at the scene."""

import numpy as np
import pytest

from ffsplat.errors import UsageError
from ffsplat.render import orbit
from ffsplat.render.orbit import look_at
from ffsplat.types import Cameras, Gaussians, Scene

UP = np.array([0.0, -1.0, 0.0])


def make_scene(means: np.ndarray, cameras: Cameras | None = None) -> Scene:
    n = len(means)
    gaussians = Gaussians(
        means.astype(np.float32),
        np.full((n, 3), 0.01, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (n, 1)),
        np.ones(n, np.float32),
        np.zeros((n, 1, 3), np.float32),
    )
    return Scene(gaussians, cameras=cameras)


def photographed(means: np.ndarray) -> Scene:
    poses = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    poses[:, 0, 3] = [-0.2, 0, 0.2]
    sizes = np.full((3, 2), 64, np.int32)
    lens = np.tile(np.eye(3, dtype=np.float32), (3, 1, 1))
    return make_scene(means, Cameras(poses, lens, sizes, ("a", "b", "c")))


CLOUD = np.random.default_rng(0).uniform(-1, 1, (500, 3)) * [1, 0.5, 0.3] + [0.3, 0.1, 4]


def pixels(cameras: Cameras, index: int, points: np.ndarray) -> np.ndarray:
    pose = cameras.world_from_camera[index]
    seen = (points - pose[:3, 3]) @ pose[:3, :3]
    assert (seen[:, 2] > 0).all()
    return (seen @ cameras.intrinsics[index].T)[:, :2] / seen[:, 2:]


@pytest.mark.parametrize("build", [make_scene, photographed])
def test_paths_are_rigid_closed_and_smooth(build):
    path = orbit(build(CLOUD), 24, (80, 60), fov=50.0)
    assert len(path) == 24
    assert (path.sizes == [80, 60]).all()
    assert path.intrinsics[0, 0, 0] == pytest.approx(40 / np.tan(np.radians(25)), rel=1e-6)
    rotations = path.world_from_camera[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (24, 1, 1)), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)
    places = path.world_from_camera[:, :3, 3]
    steps = np.linalg.norm(places - np.roll(places, 1, axis=0), axis=1)
    assert steps.min() > 0
    assert steps.max() < 2.5 * steps.min()


def test_photographed_scenes_are_seen_from_where_the_photos_were():
    path = orbit(photographed(CLOUD), 12, (64, 64))
    target = np.median(CLOUD, axis=0, keepdims=True)
    for index in range(12):
        np.testing.assert_allclose(pixels(path, index, target), [[32, 32]], atol=1e-2)
    places = path.world_from_camera[:, :3, 3]
    assert np.abs(places).max() < 0.15 * np.linalg.norm(target)
    assert (path.world_from_camera[:, 1, 1] > 0.9).all()  # no roll: y stays down


def test_other_scenes_are_circled_and_wholly_seen():
    path = orbit(make_scene(CLOUD), 8, (80, 60))
    low, high = np.percentile(CLOUD, [2, 98], axis=0)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    for index in range(8):
        found = pixels(path, index, low + corners * (high - low))
        assert (found >= 0).all()
        assert (found <= [80, 60]).all()
    places = path.world_from_camera[:, :3, 3] - (low + high) / 2
    np.testing.assert_allclose(places.mean(0)[[0, 2]], 0, atol=1e-4)
    assert (places[:, 1] < 0).all()  # above, where y points down


def test_degenerate_scenes_still_get_a_path():
    for scene in (
        make_scene(np.zeros((0, 3))),
        make_scene(np.ones((5, 3))),
        photographed(np.zeros((0, 3))),
        photographed(np.zeros((4, 3))),
    ):
        assert np.isfinite(orbit(scene, 4, (8, 8)).world_from_camera).all()


def test_look_at():
    pose = look_at(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 9.0]), UP)
    expected = np.eye(4)
    expected[:3, 3] = [1, 2, 3]
    np.testing.assert_allclose(pose, expected, atol=1e-6)
    down = look_at(np.zeros(3), np.array([0.0, 5.0, 0.0]), UP)
    np.testing.assert_allclose(down[:3, 2], [0, 1, 0], atol=1e-6)
    assert np.linalg.det(down[:3, :3]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("frames", "size", "fov"), [(0, (8, 8), 60.0), (3, (0, 8), 60.0), (3, (8, 8), 180.0)]
)
def test_impossible_orbits_are_refused(frames, size, fov):
    with pytest.raises(UsageError, match="no orbit"):
        orbit(make_scene(CLOUD), frames, size, fov)
