"""Text to region, region to Gaussians."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat.errors import UsageError
from ffsplat.grouping import super_gaussians
from ffsplat.query import query
from tests.query.rooms import lexicon_room
from tests.toyscenes import features, saved, unit, vector_book, vector_scene

RANDOM = np.random.default_rng(6)
NAMES = ("chair", "table", "lamp")
V = dict(zip(NAMES, unit(RANDOM.standard_normal((3, 9))), strict=True))
BOOK = vector_book(V)


def noisy(name: str, count: int, noise: float = 0.2) -> list[dict[str, float]]:
    return [{name: 1.0, **{o: noise * RANDOM.random() for o in NAMES if o != name}}
            for _ in range(count)]  # fmt: skip


def test_the_members_of_the_regions_that_fit():
    pairs = [*noisy("chair", 6), *noisy("table", 5), *noisy("chair", 4), *noisy("lamp", 3)]
    scene = vector_scene(BOOK, pairs, [5] * 6 + [1] * 5 + [0] * 4 + [-1] * 3)
    text = saved("chair", V["chair"])
    asked = {"strategy": "two-step", "regions": "instance", "low": 0.7, "min_count": 1}
    found = query(scene, text, keep="all", **asked)
    assert np.flatnonzero(found.scores).tolist() == [*range(6), *range(11, 15)]
    assert {hit.instance for hit in found.hits} == {0, 5}
    best = query(scene, text, keep="best", **asked)
    sums = {i: unit(features_of_region(scene, i)) @ V["chair"] for i in (0, 1, 5)}
    assert [hit.instance for hit in best.hits] == [max(sums, key=sums.get)]


def features_of_region(scene, instance: int) -> np.ndarray:
    from ffsplat import codes

    dense = codes.to_dense(scene.codes, len(BOOK)) @ BOOK.spaces["fake"].astype(np.float64)
    return dense[scene.instances == instance].sum(axis=0)


def test_a_text_that_nothing_fits_finds_nothing():
    scene = vector_scene(BOOK, noisy("chair", 6), [0] * 6)
    found = query(scene, saved("x", -V["chair"]), strategy="two-step")
    assert not found.scores.any()
    assert found.hits == ()


def test_the_second_threshold_may_lie_anywhere_between_the_regions():
    pairs = [*noisy("chair", 8, 0.1), *noisy("table", 8, 0.1), *noisy("lamp", 8, 0.1)]
    scene = vector_scene(BOOK, pairs, [0] * 8 + [1] * 8 + [2] * 8)
    asked = {"strategy": "two-step", "regions": "instance", "select": "feature", "min_count": 1}
    found = query(scene, saved("chair", V["chair"]), **asked)
    own = unit(features_of_region(scene, 0))
    np.testing.assert_allclose(found.scores, np.maximum(features(scene) @ own, 0), atol=3e-3)
    between = np.linspace(found.scores[8:].max() + 0.01, found.scores[:8].min() - 0.01, 5)
    for threshold in between.tolist():
        again = query(scene, saved("chair", V["chair"]), threshold=threshold, **asked)
        assert [hit.rows.tolist() for hit in again.hits] == [list(range(8))]


def test_with_hard_ids_and_rows_it_is_a_look_up():
    ids = RANDOM.integers(0, 3, 40)
    scene = vector_scene(BOOK, [{NAMES[i]: 1.0} for i in ids], k=1)
    found = query(scene, saved("t", V["table"]), strategy="two-step", regions="row", keep="best")
    np.testing.assert_array_equal(found.scores > 0, ids == 1)


def test_the_lexicon_votes_by_region():
    room = lexicon_room([{"chair": 1}, {"chair": 0.6, "table": 0.4}, {"table": 1}, {"table": 1}],
                        [0, 0, 0, 1])  # fmt: skip
    found = query(room, "chair", strategy="two-step", min_count=1)
    assert found.scores.tolist() == [1, 1, 1, 0]


def test_strays_are_dropped_by_dbscan():
    scene = vector_scene(BOOK, noisy("chair", 30), [0] * 30)
    scene.gaussians.means[29] = 500
    asked = {"strategy": "two-step", "stray": 2.0, "neighbors": 3}
    found = query(scene, saved("chair", V["chair"]), **asked)
    assert found.scores.tolist() == [1] * 29 + [0]


def test_strays_need_scikit_learn(monkeypatch):
    scene = vector_scene(BOOK, noisy("chair", 3), [0] * 3)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(UsageError, match="scikit-learn"):
        query(scene, saved("chair", V["chair"]), strategy="two-step", stray=1.0)


def test_a_scene_without_instances_has_no_regions_but_rows():
    scene = vector_scene(BOOK, noisy("chair", 6))
    text = saved("chair", V["chair"])
    assert query(scene, text, strategy="two-step", regions="instance").hits == ()
    (hit,) = query(scene, text, strategy="two-step").hits
    assert (hit.name, hit.count) == ("chair", 6)


def test_super_gaussians_are_regions_like_instances():
    room = replace(small_room(300), instances=None)
    pieces = super_gaussians(room).index
    by_number = replace(room, instances=pieces.astype(np.int32))
    for keep in ("best", "all"):
        found = query(room, "sofa", strategy="two-step", regions="super", keep=keep)
        same = query(by_number, "sofa", strategy="two-step", regions="instance", keep=keep)
        np.testing.assert_array_equal(found.scores, same.scores)
        assert 0 < found.scores.sum() < len(room)
    recoloured = replace(room, gaussians=replace(room.gaussians, means=room.gaussians.means[::-1]))
    assert query(recoloured, "sofa", strategy="two-step", regions="super").scores.shape == (300,)


def test_what_is_usual_depends_on_the_space():
    pairs = [*noisy("chair", 6), *noisy("table", 6), *noisy("chair", 6)]
    scene = vector_scene(BOOK, pairs, [0] * 6 + [1] * 6 + [2] * 6)
    text = saved("chair", V["chair"])
    usual = query(scene, text, strategy="two-step")
    told = query(scene, text, strategy="two-step", regions="row", keep="best")
    np.testing.assert_array_equal(usual.scores, told.scores)
    room = lexicon_room([{"chair": 1}, {"table": 1}, {"chair": 1}], [0, 1, 2])
    usual = query(room, "chair", strategy="two-step")
    told = query(room, "chair", strategy="two-step", regions="instance", keep="all")
    np.testing.assert_array_equal(usual.scores, told.scores)
    assert usual.scores.tolist() == [1, 0, 1]
    bare = replace(room, instances=None)
    assert query(bare, "chair", strategy="two-step").scores.tolist() == [1, 0, 1]
