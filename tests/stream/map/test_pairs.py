import numpy as np
import pytest

from ffsplat.stream.delta import CODES
from ffsplat.stream.map.pairs import CAP, add_code, read_pairs, remap_pairs
from ffsplat.stream.map.places import SLOTS


def fused(ids, confidences, order=None):
    """Slots of one place after observations of one ID each."""
    slots, sums = np.full((1, SLOTS), -1, np.int16), np.zeros((1, SLOTS), np.float32)
    ids = np.asarray(ids, np.int16).reshape(len(ids), -1)
    ones = np.ones(ids.shape, np.float32)
    for i in range(len(ids)) if order is None else order:
        add_code(slots, sums, 0, ids, ones, i, np.float32(confidences[i]))
    return slots, sums


def read(slots, sums):
    ids, weights = np.empty((1, CODES), np.int16), np.empty((1, CODES), np.uint8)
    read_pairs(slots, sums, np.zeros(1, np.int64), np.empty(CODES, np.int64), ids, weights)
    return ids[0].tolist(), weights[0].tolist()


def as_dict(slots, sums):
    return {int(i): float(s) for i, s in zip(slots[0], sums[0], strict=True) if i >= 0}


@pytest.mark.parametrize("seed", range(5))
def test_the_most_confident_observations_stay_whatever_the_order(seed):
    rng = np.random.default_rng(seed)
    ids, confidences = rng.permutation(15), rng.random(15).astype(np.float32)
    best = np.argsort(-confidences)[:CODES]
    shares = confidences[best] / confidences[best].sum()
    for _ in range(3):
        got_ids, got_weights = read(*fused(ids, confidences, rng.permutation(15)))
        assert got_ids == ids[best].tolist()
        np.testing.assert_allclose(got_weights, 255 * shares, atol=0.5001)


def test_it_is_the_append_loop_of_the_online_update():
    """Each newcomer of confidence d takes d / (D + d) of the weight, the others lose that share."""
    rng = np.random.default_rng(0)
    ids, confidences = np.arange(CODES), rng.random(CODES)
    weights, total = np.zeros(0), 0.0
    for d in confidences:
        share = d / (total + d)
        weights, total = np.append(weights * (1 - share), share), total + d
    got_ids, got_weights = read(*fused(ids, confidences))
    expected = dict(zip(ids.tolist(), 255 * weights, strict=True))
    for number, weight in zip(got_ids, got_weights, strict=True):
        assert abs(weight - expected[number]) <= 0.501


def test_equal_ids_add_up_and_order_does_not_matter_while_there_are_slots():
    rng = np.random.default_rng(1)
    ids, confidences = rng.integers(0, SLOTS, 40), rng.random(40).astype(np.float32)
    truth = {i: float(confidences[ids == i].sum()) for i in np.unique(ids)}
    for _ in range(3):
        slots = as_dict(*fused(ids, confidences, rng.permutation(40)))
        assert slots.keys() == truth.keys()
        np.testing.assert_allclose([slots[i] for i in truth], list(truth.values()), rtol=1e-5)


def test_pairs_of_one_observation_share_its_confidence():
    slots, sums = np.full((1, SLOTS), -1, np.int16), np.zeros((1, SLOTS), np.float32)
    ids, weights = np.int16([[3, -1, 5]]), np.float32([[0.75, 0.9, 0.25]])
    add_code(slots, sums, 0, ids, weights, 0, np.float32(0.4))
    assert as_dict(slots, sums) == pytest.approx({3: 0.3, 5: 0.1})


def test_a_newcomer_of_equal_confidence_replaces_the_least():
    slots, _ = fused(range(SLOTS + 1), np.ones(SLOTS + 1))
    assert SLOTS in slots


def test_old_confidence_fades_beyond_the_cap():
    n = 300
    ids, confidences = [0] * n + [1] * n, np.ones(2 * n)
    slots, sums = fused(ids, confidences)
    assert sums.sum() == pytest.approx(CAP)
    assert as_dict(slots, sums)[0] == pytest.approx(CAP * (CAP / (CAP + 1)) ** n, rel=1e-3)


@pytest.mark.parametrize("weight", [np.nan, np.inf, -1.0, 0.0])
def test_weights_that_are_none_are_no_evidence(weight):
    slots, sums = np.full((1, SLOTS), -1, np.int16), np.zeros((1, SLOTS), np.float32)
    add_code(slots, sums, 0, np.int16([[3]]), np.float32([[weight]]), 0, np.float32(1))
    assert read(slots, sums) == ([-1] * CODES, [0] * CODES)


def test_a_weight_that_rounds_to_nothing_has_no_id():
    ids, weights = read(*fused([1, 2], [40.0, 0.01]))
    assert (ids, weights) == ([1, -1, -1, -1], [255, 0, 0, 0])


def test_of_equal_weights_the_lower_id_comes_first():
    ids, weights = read(*fused([7, 5, 9, 6, 1], [0.5, 0.5, 0.8, 0.5, 0.1]))
    assert ids == [9, 5, 6, 7]
    assert weights == [89, 55, 55, 55]


def test_renaming_alone_touches_nothing_and_merging_does():
    slots = np.int16([[0, 1, 2, -1, -1, -1], [0, 1, 2, -1, -1, -1], [0, -1, 3, -1, -1, -1]])
    sums = np.float32([[1, 2, 3, 0, 0, 0], [1, 2, 3, 0, 0, 0], [4, 0, 5, 0, 0, 0]])
    keys, touched = np.array([0, -1, 1]), np.zeros(3, bool)
    remap_pairs(keys, slots, sums, np.int16([7, 8, 7]), touched)
    assert touched.tolist() == [True, False, True]
    assert slots[0].tolist() == [7, 8, -1, -1, -1, -1]
    assert sums[0].tolist() == [4, 2, 0, 0, 0, 0]
    assert slots[1].tolist() == [0, 1, 2, -1, -1, -1]  # a free place
    assert slots[2].tolist() == [7, -1, -1, -1, -1, -1]  # ID 3 is beyond the map, so it is gone
    touched[:] = False
    remap_pairs(keys, slots, sums, np.arange(8, -1, -1, dtype=np.int16), touched)
    assert not touched.any()
    assert slots[0].tolist() == [1, 0, -1, -1, -1, -1]
