import sys
from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat.errors import UsageError
from ffsplat.grouping.cluster import (
    Clustering,
    by_size,
    gap,
    group_instances,
    join_noise,
    merge_groups,
    unit_cube,
)

RULE = Clustering()


def blobs(distance):
    """Two clouds of 30 cells, this far apart along x, each a thin sheet in y."""
    y = np.linspace(0, 0.001, 30, dtype=np.float32)
    first = np.stack([np.zeros(30, np.float32), y, y], axis=1)
    return np.concatenate([first, first + np.float32([distance, 0, 0])])


def vectors(cosine):
    first = np.tile(np.float32([1, 0]), (30, 1))
    other = np.tile(np.float32([cosine, np.sqrt(1 - cosine**2)]), (30, 1))
    return np.concatenate([first, other])


LABELS = np.repeat(np.int32([0, 1]), 30)


@pytest.mark.parametrize(
    ("distance", "cosine", "one"),
    [(0.010, 0.99, True), (0.020, 0.99, False), (0.010, 0.97, False), (0.0149, 0.981, True)],
)
def test_groups_are_one_where_they_touch_and_mean_the_same(distance, cosine, one):
    merged = merge_groups(LABELS, blobs(distance), vectors(cosine), RULE)
    assert (len(np.unique(merged)) == 1) == one


def test_a_small_group_joins_the_most_alike():
    places = np.zeros((9, 3), np.float32)
    labels = np.int32([0, 0, 0, 0, 1, 1, 1, 2, 2])
    angle = np.array([0.1] * 4 + [0.0] * 3 + [0.02] * 2)
    codes = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    rule = replace(RULE, merge_cosine=0.9985)  # of 0.02: 0.9998 to the first, 0.9968 to the other
    assert merge_groups(labels, places, codes, rule).tolist() == [0] * 4 + [1] * 5


def test_groups_without_codes_stay_apart():
    assert merge_groups(LABELS, blobs(0), np.zeros((60, 0), np.float32), RULE) is not LABELS
    assert len(np.unique(merge_groups(LABELS, blobs(0), np.zeros((60, 0), np.float32), RULE))) == 2


def test_the_gap_is_a_quantile_of_all_pairs():
    generator = np.random.default_rng(0)
    first, second = (generator.random((n, 3)).astype(np.float32) for n in (70, 40))
    pairs = np.sort(np.linalg.norm(first[:, None] - second[None], axis=-1).ravel())
    assert gap(first, second, 0.005) == pytest.approx(pairs[int(2800 * 0.005) - 1], abs=1e-5)
    assert gap(first, second, 0.0) == pytest.approx(pairs[0], abs=1e-5)


def test_noise_joins_what_is_near():
    places = np.float32([[0, 0, 0], [0.002, 0, 0], [0.004, 0, 0]])
    assert join_noise(np.int32([3, -1, -1]), places, 0.003).tolist() == [3, 3, -1]


def test_small_groups_and_those_beyond_the_most_are_none():
    labels = np.repeat(np.int32([5, 2, 9, -1]), [300, 400, 200, 10])
    assert by_size(labels, RULE).tolist() == [1] * 300 + [0] * 400 + [-1] * 210
    assert by_size(labels, replace(RULE, max_groups=1)).max() == 0


def test_the_unit_cube_does_not_know_scale_or_origin():
    values = np.random.default_rng(4).random((20, 3))
    assert unit_cube(values * 7 + 3) == pytest.approx(unit_cube(values), abs=1e-6)
    assert unit_cube(np.ones((4, 2))).tolist() == [[0, 0]] * 4


@pytest.mark.parametrize("coded", [True, False])
def test_things_of_a_room_become_instances(coded):
    room = small_room(3000)
    bare = replace(room, instances=None)
    if not coded:
        bare = replace(bare, codes=None, codebook=None)
    grouped = group_instances(bare, Clustering(min_gaussians=100))
    table, sofa, wall = (grouped.instances[room.instances == thing] for thing in range(3))
    assert [len(np.unique(part)) for part in (table, sofa, wall)] == [1, 1, 1]
    assert len({table[0], sofa[0], wall[0]}) == 3
    assert wall[0] == 0  # the largest


def test_a_scene_of_few_gaussians_has_no_instances():
    few = small_room(10)
    assert (group_instances(few).instances == -1).all()
    assert len(group_instances(few[:0]).instances) == 0


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(UsageError) as caught:
        group_instances(small_room(100))
    assert "ffsplat[group]" in caught.value.hint
