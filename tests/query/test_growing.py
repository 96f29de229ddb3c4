from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat import codes
from ffsplat.errors import UsageError
from ffsplat.query import query
from ffsplat.query.growing import grow, stretch


def grown_by_hand(relevance, features, opacities, spread):
    """The rule of COS3D, Gaussian by Gaussian."""
    left, taken = set(range(len(relevance))), set()
    while True:
        seeds = [i for i in left if relevance[i] > 0.5 and opacities[i] > 0.1]
        if not seeds:
            return taken
        seed = max(seeds, key=lambda i: (relevance[i], -i))
        for share in (0.4, 0.3, 0.2, 0.1):
            group = [i for i in left if features[i] @ features[seed] > 1 - share * spread]
            total = sum(opacities[i] for i in group)
            if group and sum(relevance[i] * opacities[i] for i in group) / total >= 0.5:
                taken |= set(group)
                break
        left -= {*group, seed}


def problem(seed, count=150):
    generator = np.random.default_rng(seed)
    owner = generator.integers(0, 5, count)
    features = generator.standard_normal((5, 16))[owner]
    features += generator.standard_normal((count, 16)) * generator.uniform(0.05, 0.6)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    relevance = generator.random(5)[owner] + 0.25 * generator.standard_normal(count)
    return (
        np.clip(relevance, 0, 1).astype(np.float32),
        features.astype(np.float32),
        generator.random(count).astype(np.float32),
        float(generator.uniform(0.1, 1.2)),
    )


@pytest.mark.parametrize("seed", range(8))
def test_growing_takes_what_the_rule_takes(seed):
    relevance, features, opacities, spread = problem(seed)
    grown = grow(relevance, lambda i: features @ features[i], opacities, spread)
    wanted = grown_by_hand(relevance, features, opacities, spread)
    assert set(np.flatnonzero(grown > 0).tolist()) == wanted


def test_counts_are_those_of_the_published_code():
    """Run once on the same arrays: greedy_feature_selection_with_score_filter of COS3D."""
    counts = []
    for seed in range(8):
        relevance, features, opacities, spread = problem(seed)
        grown = grow(relevance, lambda i, f=features: f @ f[i], opacities, spread)
        counts.append(int((grown > 0).sum()))
    assert counts == PUBLISHED


PUBLISHED = [83, 53, 119, 117, 30, 57, 62, 82]


def two_blobs(first, second):
    relevance = np.repeat(np.array([first, second], np.float32), 10)
    features = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    return relevance, features


def test_of_two_blobs_only_the_relevant_one_grows():
    relevance, features = two_blobs(0.9, 0.2)
    grown = grow(relevance, lambda i: features @ features[i], np.ones(20, np.float32), 1.0)
    assert grown[:10] == pytest.approx(np.full(10, 0.9))
    assert not grown[10:].any()


def test_one_relevant_outlier_among_irrelevant_ones_is_rejected():
    relevance, features = two_blobs(0.9, 0.2)
    relevance[15] = 0.95
    grown = grow(relevance, lambda i: features @ features[i], np.ones(20, np.float32), 1.0)
    assert grown[:10].all()
    assert not grown[10:].any()


def test_a_transparent_gaussian_is_no_seed_but_may_be_taken():
    relevance, features = two_blobs(0.9, 0.6)
    opacities = np.ones(20, np.float32)
    opacities[10:] = 0.05
    opacities[0] = 0.05
    grown = grow(relevance, lambda i: features @ features[i], opacities, 1.0)
    assert grown[:10].all()
    assert not grown[10:].any()


def test_the_number_of_seeds_is_bounded():
    relevance, features = two_blobs(0.9, 0.8)
    grown = grow(relevance, lambda i: features @ features[i], np.ones(20, np.float32), 1.0, 1)
    assert grown[:10].all()
    assert not grown[10:].any()


def test_stretching_keeps_the_upper_half_of_the_range():
    scores = np.array([0.2, 0.3, 0.4, 0.6], np.float32)
    assert stretch(scores) == pytest.approx([0, 0, 0, 1], abs=1e-6)
    assert stretch(scores * 0.5 + 0.1) == pytest.approx(stretch(scores), abs=1e-5)
    assert stretch(np.array([0.0, 0.5, 0.75, 1.0], np.float32)) == pytest.approx([0, 0, 0.5, 1])
    assert len(stretch(scores[:0])) == 0


@pytest.mark.parametrize(("by", "share"), [("instance", 1.0), ("code", 0.8)])
def test_a_sofa_that_is_partly_known_grows(by, share):
    room = small_room(1000)
    sofa = np.flatnonzero(room.instances == 1)
    ids = room.codes.ids.copy()
    ids[sofa[::3], 0] = room.codebook.names.index("wall")
    noisy = replace(room, codes=codes.from_pairs(ids, room.codes.weights.astype(np.float32)))
    assert (query(noisy, "sofa").scores >= 0.5).sum() < 0.7 * len(sofa)
    found = query(noisy, "sofa", strategy="growing", by=by)
    grown = np.flatnonzero(found.scores >= found.threshold)
    assert set(grown) <= set(sofa)
    assert len(grown) >= share * len(sofa)
    assert found.hits[0].instance == 1


def test_nothing_grows_where_nothing_is_meant():
    assert not query(small_room(300), "bed", strategy="growing").hits


def test_growing_by_instances_needs_instances():
    room = replace(small_room(300), instances=None)
    with pytest.raises(UsageError, match="no instances"):
        query(room, "sofa", strategy="growing", by="instance")
    assert query(room, "sofa", strategy="growing").hits
    with pytest.raises(UsageError, match="by of strategy growing"):
        query(room, "sofa", strategy="growing", by="color")
