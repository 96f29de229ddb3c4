import numpy as np
import pytest

from ffsplat.alignment import Similarity
from ffsplat.stream.map import SplatMap
from tests.stream.map.made import (
    CELL,
    observed,
    one_submap,
    random_observed,
    random_pose,
    settings,
    turn,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_an_observation_is_found_again_where_it_was():
    splats = one_submap()
    first = splats.fuse(observed([[0.05, 0.05, 0.05], [0.55, 0.05, 0.05]]), 0, [], 0)
    again = splats.fuse(observed([[0.54, 0.04, 0.06], [0.05, 0.06, 0.04]]), 0, [], 1)
    assert first.tolist() == [0, 1]
    assert again.tolist() == [1, 0]
    assert len(splats) == 2


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


def test_memory_is_all_taken_at_the_start(rng):
    splats = one_submap(max_splats=1000)
    before = splats.nbytes
    for now in range(30):
        splats.fuse(random_observed(rng, 300), 0, [], now)
        splats.take_changes()
    assert splats.nbytes == before
    assert len(splats) <= 1000
    assert one_submap(max_splats=500_000).nbytes / 500_000 < 160


def test_a_place_is_a_target_until_it_is_given_again():
    splats = one_submap(max_splats=2)
    places = splats.fuse(observed([[0.05, 0.05, 0.05], [0.55, 0.05, 0.05]]), 0, [], 0)
    stamp = splats.clock
    asked = np.array([[*places, -1, 2, 700]])
    assert splats.valid_targets(asked, stamp).tolist() == [[True, True, False, False, False]]
    taken = splats.fuse(observed([[0.95, 0.05, 0.05]]), 0, [], 1)
    assert taken.tolist() == [0]  # both are alike, so the lower place gave way
    assert splats.valid_targets(places, stamp).tolist() == [False, True]
    assert splats.valid_targets(places, splats.clock).tolist() == [True, True]
    splats.remove_submap(0)
    assert not splats.valid_targets(places, splats.clock).any()


def test_a_removed_submap_takes_its_gaussians_along(rng):
    splats = SplatMap(settings(), CELL)
    for _ in range(2):
        splats.add_submap(random_pose(rng))
    first = splats.fuse(observed(rng.random((30, 3))), 0, [], 0)
    second = splats.fuse(observed(5 + rng.random((30, 3))), 1, [], 0)
    splats.remove_submap(0)
    assert splats.submaps() == [1]
    assert splats.alive().tolist() == np.unique(second).tolist()
    again = splats.add_submap(Similarity.identity())
    assert again == 0
    assert np.isin(splats.fuse(observed(rng.random((5, 3))), 0, [], 1), first).all()


def test_codes_are_renamed_and_merged():
    splats = one_submap()
    splats.fuse(observed([[0.05, 0.05, 0.05]], ids=[[0, 1]], weights=[[0.5, 0.5]]), 0, [], 0)
    splats.remap(np.int16([3, 3]))
    codes = splats.gaussians().codes
    assert codes is not None
    assert (codes.ids[0].tolist(), codes.weights[0].tolist()) == ([3, -1, -1, -1], [1, 0, 0, 0])


def test_lengths_of_codes_follow_the_gram_matrix():
    splats = one_submap()
    splats.fuse(observed([[0.05, 0.05, 0.05]], ids=[[0, 1]], weights=[[0.5, 0.5]]), 0, [], 0)
    for gram, length in ((None, np.sqrt(0.5)), (np.float32([[1, 0.6], [0.6, 1]]), np.sqrt(0.8))):
        codes = splats.gaussians(gram).codes
        assert codes is not None
        assert codes.norms[0] == pytest.approx(length, rel=1e-3)


@pytest.mark.parametrize("cell", [0.0, -1.0, np.nan, np.inf])
def test_a_cell_has_a_size(cell):
    with pytest.raises(ValueError, match="positive size"):
        SplatMap(settings(), cell)
