import numpy as np
import pytest

from ffsplat.consistency import FREE_SPACE, VETO
from ffsplat.geometric import ERROR_SCALE
from ffsplat.stream.map import SplatMap
from tests.stream.map.made import CELL, observed, one_submap, random_pose, settings

INTRINSICS = np.array([[40.0, 0, 32], [0, 40, 24], [0, 0, 1]])


def flat(value: float) -> np.ndarray:
    return np.full((48, 64), value, np.float32)


def carve(splats, depth=10.0, error=0.0, pose=None, near=(0,), **options):
    depth = flat(depth) if np.isscalar(depth) else depth
    error = flat(error) if np.isscalar(error) else error
    valid = options.pop("valid", np.ones(depth.shape, bool))
    pose = np.eye(4) if pose is None else pose
    return splats.carve(depth, pose, INTRINSICS, error, valid, near, **options)


def test_what_stands_before_a_surface_goes_once_enough_look_through():
    """Seen with confidence 0.6 and looked through with 0.5: VETO times the former is the least."""
    splats = one_submap()
    splats.fuse(observed([[0, 0, 2]], confidence=[0.6]), 0, [], 0)
    sure = 0.5
    own = -ERROR_SCALE * np.log(0.6)
    looks = int(np.ceil(VETO * 0.6 / sure))
    error = float(-ERROR_SCALE * np.log(sure))
    assert own + error < np.log(10 / 2)
    for _ in range(looks - 1):
        assert carve(splats, error=error) == 0
    assert carve(splats, error=error) == 1
    assert len(splats) == 0


def test_a_place_seen_often_withstands_for_longer():
    splats = one_submap()
    for now in range(9):
        splats.fuse(observed([[0, 0, 2]], confidence=[1]), 0, [], now)
    removed = [carve(splats, error=0.0) for _ in range(4)]
    assert removed == [0, 0, 1, 0]  # 9 VETO = 2.7 looks of full confidence


@pytest.mark.parametrize("seed", range(3))
def test_it_goes_where_the_definition_says(seed):
    rng = np.random.default_rng(seed)
    splats = SplatMap(settings(max_splats=2000), CELL)
    poses = [random_pose(rng) for _ in range(3)]
    for pose in poses:
        splats.add_submap(pose)
    confidence = 0.1 + 0.9 * rng.random(600)
    points = np.float32([8, 6, 6]) * (rng.random((600, 3)) - [0.5, 0.5, 0]).astype(np.float32)
    submap = np.repeat([0, 1, 2], 200)
    places = np.concatenate([
        splats.fuse(
            observed(points[submap == s], confidence=confidence[submap == s]), s, [], 0
        )
        for s in range(3)
    ])  # fmt: skip
    assert len(np.unique(places)) > 550
    depth = np.kron(1 + 6 * rng.random((6, 8)), np.ones((8, 8))).astype(np.float32)
    error = (0.2 * rng.random((48, 64))).astype(np.float32)
    valid = rng.random((48, 64)) < 0.8
    before = splats.alive()
    means = splats.gaussians().gaussians.means
    sharpest = splats._places.sharpest[before]
    submaps = splats._places.keys[before] >> 48
    wide = np.pad(np.where(valid, depth, np.inf), 1, constant_values=np.inf)
    expected = []
    for place, (x, y, z), sure, where in zip(before, means, sharpest, submaps, strict=True):
        u, v = 40 * x / z + 32, 40 * y / z + 24
        if where == 1 or not (z > 0 and 0 <= u < 64 and 0 <= v < 48) or not valid[int(v), int(u)]:
            continue
        nearest = wide[int(v) : int(v) + 3, int(u) : int(u) + 3].min()
        own = -ERROR_SCALE * np.log(sure)
        if np.log(nearest) - np.log(z) > max(FREE_SPACE, own + error[int(v), int(u)]):
            expected.append(place)
    count = carve(splats, depth, error, near=[0, 2], valid=valid, amount=1e6)
    assert count == len(expected) > 10
    assert np.setdiff1d(before, splats.alive()).tolist() == expected


def test_a_camera_elsewhere_looks_from_there():
    splats = one_submap()
    splats.fuse(observed([[5, 0, 2]]), 0, [], 0)
    assert carve(splats, amount=100.0) == 0
    pose = np.eye(4)
    pose[0, 3] = 5
    assert carve(splats, pose=pose, amount=100.0) == 1


@pytest.mark.parametrize("depth", [2.2, 1.0, np.nan, np.inf, 0.0, -1.0])
def test_what_is_on_or_behind_a_surface_or_before_none_stays(depth):
    splats = one_submap()
    splats.fuse(observed([[0, 0, 2]], confidence=[1]), 0, [], 0)
    assert carve(splats, depth, amount=100.0) == 0


def test_a_point_beside_a_silhouette_stays():
    splats = one_submap()
    splats.fuse(observed([[0, 0, 2]]), 0, [], 0)
    depth = flat(10.0)
    depth[23, 31] = 2.0  # the pixel up and to the left of where the point falls
    assert carve(splats, depth, amount=100.0) == 0
    assert carve(splats, flat(10.0), amount=100.0) == 1


def test_other_submaps_and_unsure_depth_carve_nothing():
    splats = one_submap()
    splats.fuse(observed([[0, 0, 2]]), 0, [], 0)
    assert carve(splats, near=[], amount=100.0) == 0
    assert carve(splats, error=2.0, amount=100.0) == 0
    assert carve(splats, error=np.inf, amount=100.0) == 0


def test_what_went_is_named_once():
    splats = one_submap()
    splats.fuse(observed([[0, 0, 2], [0, 0, 20]]), 0, [], 0)
    splats.take_changes()
    carve(splats, amount=100.0)
    assert splats.take_changes().removed.tolist() == [0]
    assert not splats.take_changes()
