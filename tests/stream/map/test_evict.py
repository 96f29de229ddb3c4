import numpy as np
import pytest

from ffsplat.stream.map.evict import BATCH, COARSE, FADING, least, priorities
from tests.stream.map.made import observed, one_submap, random_observed


def ranks(splats, now):
    """Priorities by the definition, one place at a time, without collisions of blocks."""
    places = splats._places
    alive = splats.alive()
    oldest = max(1, *(now - places.seen[alive]))
    worth = {}
    for place in alive:
        sure = places.weights[place] / (1 + places.weights[place])
        fading = 1 + FADING * max(now - places.seen[place], 0) / oldest
        worth[place] = places.opacities[place] * sure / fading
    blocks = {}
    for place in alive:
        blocks.setdefault(places.keys[place] & COARSE, []).append(place)
    for members in blocks.values():
        strongest = max(worth[place] for place in members)
        for place in members:
            if worth[place] < strongest:
                worth[place] /= len(members)
    return worth


def filled(n=150, seed=0, **changes):
    splats = one_submap(**changes)
    rng = np.random.default_rng(seed)
    for now in range(3):
        splats.fuse(random_observed(rng, n // 3, size=2.0), 0, [], now)
    return splats


def test_priorities_are_those_of_the_definition():
    splats = filled()
    priority = np.empty(200, np.float32)
    priorities(
        splats._places, 5, np.empty(200, np.int32), np.zeros((2**16, 2), np.float32), priority
    )
    expected = ranks(splats, 5)
    assert np.flatnonzero(np.isfinite(priority)).tolist() == sorted(expected)
    np.testing.assert_allclose(
        priority[splats.alive()], [expected[place] for place in splats.alive()], rtol=1e-5
    )


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_the_least_are_chosen_and_none_that_is_protected(count):
    splats = filled()
    protected = np.zeros(200, bool)
    protected[splats.alive()[::3]] = True
    chosen = least(splats._places, 5, protected, count)
    priority = np.empty(200, np.float32)
    priorities(
        splats._places, 5, np.empty(200, np.int32), np.zeros((1024, 2), np.float32), priority
    )
    candidates = [place for place in splats.alive() if not protected[place]]
    order = sorted(candidates, key=lambda place: (priority[place], place))
    assert chosen.tolist() == sorted(order[:count])


def test_the_faint_the_old_and_the_redundant_give_way():
    splats = one_submap(max_splats=10)
    far_apart = np.stack([np.arange(10.0), np.zeros(10), np.zeros(10)], 1)
    faint = np.full(10, 0.9)
    faint[4] = 0.1
    splats.fuse(observed(far_apart, opacities=faint), 0, [], 0)
    assert splats.fuse(observed([[0, 5, 0]]), 0, [], 0).tolist() == [4]
    others = [place for place in range(10) if place != 7]
    splats.fuse(observed(splats.gaussians().gaussians.means[others]), 0, [], 1)
    assert splats.fuse(observed([[0, 6, 0]]), 0, [], 2).tolist() == [7]
    crowded = one_submap(max_splats=4)
    beside = [[0.05, 0.05, 0.05], [0.15, 0.05, 0.05], [3, 0, 0], [4, 0, 0]]
    crowded.fuse(observed(beside, opacities=[0.9, 0.8, 0.5, 0.5]), 0, [], 0)
    assert crowded.fuse(observed([[5, 0, 0]]), 0, [], 1).tolist() == [1]


def test_a_new_place_outlives_an_old_one_that_was_seen_often():
    splats = one_submap(max_splats=3)
    for now in range(100):
        splats.fuse(observed([[0, 0, 0]], confidence=[1]), 0, [], now)
    for now in range(100, 120):
        splats.fuse(observed([[now, 0, 0]], confidence=[0.3]), 0, [], now)
    assert splats.gaussians().gaussians.means[:, 0].min() >= 116


def test_a_full_map_takes_what_is_new_and_stays_within_its_places():
    splats = one_submap(max_splats=100)
    rng = np.random.default_rng(1)
    for now in range(50):
        places = splats.fuse(random_observed(rng, 40, size=5.0), 0, [], now)
        assert (places >= 0).all()
        alive = splats.alive()
        assert len(alive) == len(splats) <= 100
        assert np.isin(places, alive).all()
    assert len(splats) >= 100 * (1 - BATCH)


def test_what_one_call_touches_is_never_evicted_by_it():
    splats = one_submap(max_splats=20)
    rng = np.random.default_rng(2)
    first = random_observed(rng, 18, size=5.0)
    kept = splats.fuse(first, 0, [], 0)
    both = observed(np.concatenate([5 + 5 * rng.random((2, 3)), first.means, rng.random((9, 3))]))
    places = splats.fuse(both, 0, [], 1)
    assert places[2:20].tolist() == kept.tolist()
    assert (places[20:] >= 0).sum() == 20 - len(np.unique(places[:20]))
    assert len(splats) == 20


def test_more_than_fits_is_left_out():
    splats = one_submap(max_splats=5)
    row = np.stack([np.arange(8.0), np.zeros(8), np.zeros(8)], 1)
    assert splats.fuse(observed(row), 0, [], 0).tolist() == [0, 1, 2, 3, 4, -1, -1, -1]
