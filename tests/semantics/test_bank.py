"""The bank: what joins, what merges, what goes, and what an ID means afterwards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffsplat import codes
from ffsplat.codebook import validate
from ffsplat.errors import MemoryLimit
from ffsplat.semantics.bank import Bank
from ffsplat.semantics.calibration import Thresholds, calibrate, unit
from train.evaluation.label_features import label_vectors

SPACE = "open_clip:toy/none"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def noisy(rng, vectors: np.ndarray, labels: np.ndarray, noise: float) -> np.ndarray:
    """Unit features of these labels with noise relative to how far unlike vectors are apart."""
    size = vectors.shape[1]
    offset = rng.standard_normal((len(labels), size)) * noise * np.sqrt((1 - 0.84) / size)
    return unit((vectors[labels] + offset).astype(np.float32))


def ones(features: np.ndarray) -> np.ndarray:
    return np.ones(len(features), np.float32)


def test_rows_in_the_cone_of_clip_stay_apart_where_a_fixed_cosine_of_070_would_join_all(rng):
    vectors = label_vectors(20, 512, rng)
    pairs = (vectors @ vectors.T)[np.triu_indices(20, 1)]
    assert pairs.mean() == pytest.approx(0.84, abs=1e-3)
    labels = rng.integers(0, 20, 600)
    bank = Bank(512)
    ids = bank.update(noisy(rng, vectors, labels, 0.5), np.ones(600, np.float32))
    assert bank.alive.sum() == 20
    assert len({(a, b) for a, b in zip(ids, labels, strict=True)}) == 20
    careless = Bank(512, Thresholds(join=0.7, merge=0.7))
    careless.update(noisy(rng, vectors, labels, 0.5), np.ones(600, np.float32))
    assert careless.alive.sum() == 1


def test_a_row_is_the_confidence_weighted_mean_of_its_features_at_length_one(rng):
    vectors = label_vectors(4, 64, rng)
    labels = rng.integers(0, 4, 100)
    features = noisy(rng, vectors, labels, 0.3)
    confidence = rng.random(100).astype(np.float32) + 0.1
    bank = Bank(64)
    ids = np.concatenate(
        [bank.update(features[i : i + 25], confidence[i : i + 25]) for i in (0, 25, 50, 75)]
    )
    for row in range(4):
        mine = bank.alias[ids] == row
        total = (confidence[mine, None] * features[mine]).sum(0)
        np.testing.assert_allclose(bank.rows[row], total / np.linalg.norm(total), atol=1e-5)
        expected = np.linalg.norm(total) / confidence[mine].sum()
        assert bank.statistics().agreement[row] == pytest.approx(expected, abs=1e-5)
        assert bank.statistics().confidence[row] == pytest.approx(confidence[mine].sum(), rel=1e-5)


def test_features_without_direction_or_confidence_leave_no_trace(rng):
    features = np.stack([np.zeros(8), np.full(8, np.nan), np.eye(8)[0], np.eye(8)[1]])
    bank = Bank(8)
    ids = bank.update(features.astype(np.float32), np.array([1, 1, 1, 0], np.float32))
    np.testing.assert_array_equal(ids, [-1, -1, 0, -1])
    assert len(bank) == 1
    np.testing.assert_array_equal(bank.update(features[:0].astype(np.float32), ones([])), [])


def test_rows_that_drift_together_merge_and_their_old_ids_follow():
    near = np.array([[1, 0, 0], [0.8, 0.6, 0]], np.float32)
    bank = Bank(3, Thresholds(join=0.9, merge=0.91))
    np.testing.assert_array_equal(bank.update(near, np.array([2, 1], np.float32)), [0, 1])
    before = bank.rows
    ids = bank.update(np.array([[0.97, 0.243, 0]] * 8, np.float32), np.full(8, 4, np.float32))
    np.testing.assert_array_equal(bank.alias, [0, 0])
    assert set(ids) == {0}
    np.testing.assert_array_equal(bank.rows[0], bank.rows[1])
    assert (before[1] @ bank.rows[1]) > 0.6
    np.testing.assert_allclose(bank.statistics().confidence, [35, 0])
    table = bank.codebook(SPACE)
    validate(table)
    np.testing.assert_allclose(table.counts, [35, 0])
    np.testing.assert_array_equal(table.spaces[SPACE][0], table.spaces[SPACE][1])


def test_a_full_bank_lets_the_least_supported_rows_go_and_says_so():
    bank = Bank(6, Thresholds(0.9, 0.95), cap=4)
    eye = np.eye(6, dtype=np.float32)
    ids = bank.update(eye, np.array([6, 1, 5, 2, 4, 3], np.float32))
    assert bank.alive.sum() == 4
    assert (bank.alias == -1).sum() == 2
    gone = np.flatnonzero(bank.alias == -1)
    np.testing.assert_array_equal(bank.statistics().confidence[gone], 0)
    np.testing.assert_array_equal(bank.rows[gone], 0)
    np.testing.assert_array_equal(ids == -1, [False, True, False, True, False, False])
    assert sorted(bank.statistics().confidence)[2:] == [3, 4, 5, 6]


def test_statistics_count_views_places_colours_and_boxes_by_hand():
    bank = Bank(2, Thresholds(0.9, 0.95))
    ids = bank.update(np.array([[1, 0], [0, 1]], np.float32), np.ones(2, np.float32))
    a, b = ids
    points = np.array([[0, 0, 0], [1, 2, 3], [-1, 5, 0], [9, 9, 9]], np.float32)
    colors = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], np.float32)
    bank.observe(np.array([a, a, b, -1]), np.array([0, 1, 0, 0]), points, colors)
    bank.observe(np.array([a]), np.array([0]), np.array([[2, 0, 0]], np.float32))
    told = bank.statistics()
    assert (told.views[a], told.cells[a]) == (3, 3)
    assert (told.views[b], told.cells[b]) == (1, 1)
    np.testing.assert_allclose(told.color[a], [0.5, 0.5, 0])
    np.testing.assert_allclose(told.low[a], [0, 0, 0])
    np.testing.assert_allclose(told.high[a], [2, 2, 3])


def test_compacting_renumbers_living_rows_and_codes_follow_by_remap(rng):
    bank = Bank(6, Thresholds(0.9, 0.95), cap=3)
    eye = np.eye(6, dtype=np.float32)
    ids = bank.update(eye, np.array([6, 1, 5, 2, 4, 3], np.float32))
    code = codes.from_pairs(ids[:, None], ones(eye)[:, None], 1)
    before = bank.rows
    moved = codes.remap(code, bank.compact())
    assert len(bank) == 3
    np.testing.assert_array_equal(moved.ids < 0, code.ids < 0)
    for old, new in zip(code.ids[ids >= 0, 0], moved.ids[ids >= 0, 0], strict=True):
        np.testing.assert_array_equal(before[old], bank.rows[new])
    validate(bank.codebook(SPACE))


def test_a_bank_that_gave_out_all_ids_asks_to_be_compacted(rng, monkeypatch):
    monkeypatch.setattr("ffsplat.semantics.bank.MAX_ROWS", 64)
    bank = Bank(4, Thresholds(0.99999, 0.999999), cap=16)
    first, second, third = rng.standard_normal((3, 32, 4)).astype(np.float32)
    bank.update(first, ones(first))
    bank.update(second, ones(second))
    with pytest.raises(MemoryLimit, match="64 IDs"):
        bank.update(third, ones(third))
    bank.compact()
    bank.update(third, ones(third))
    assert bank.alive.sum() == 16


def test_the_same_features_give_the_same_bits(rng):
    features = rng.standard_normal((500, 16)).astype(np.float32)
    twice = []
    for _ in range(2):
        bank = Bank(16, Thresholds(0.5, 0.6))
        twice.append((bank.update(features, ones(features)), bank.rows))
    np.testing.assert_array_equal(twice[0][0], twice[1][0])
    np.testing.assert_array_equal(twice[0][1], twice[1][1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.9), st.integers(1, 12))
def test_whatever_arrives_rows_stay_apart_and_every_alias_is_alive(seed, join, cap):
    rng = np.random.default_rng(seed)
    bank = Bank(5, Thresholds(join, join + 0.05), cap)
    given_out = []
    for _ in range(3):
        features = rng.standard_normal((int(rng.integers(0, 40)), 5)).astype(np.float32)
        given_out.extend(bank.update(features, ones(features)).tolist())
    alive = np.flatnonzero(bank.alive)
    assert len(alive) <= cap
    cosines = bank.rows[alive] @ bank.rows[alive].T
    assert (cosines[np.triu_indices(len(alive), 1)] < join + 0.05 + 1e-5).all()
    targets = bank.alias[np.array(given_out, np.int64)] if given_out else np.zeros(0, int)
    assert np.isin(targets[targets >= 0], alive).all()
    total = bank.statistics().confidence
    assert (total[alive] > 0).all()


@pytest.mark.parametrize("cap", [0, 4097])
def test_a_cap_that_ids_cannot_hold_is_refused(cap):
    with pytest.raises(ValueError, match="a bank holds"):
        Bank(4, cap=cap)


@pytest.mark.parametrize(
    ("unlike", "noise"),
    [(0.3, 0.0), (0.3, 0.3), (0.3, 0.7), (0.84, 0.0), (0.84, 0.3), (0.84, 0.7), (0.84, 1.0)],
)
def test_calibrated_thresholds_find_the_labels_in_any_cone_at_any_noise(rng, unlike, noise):
    vectors = label_vectors(12, 512, rng, unlike)
    labels = np.repeat(rng.integers(0, 12, 150), 4)
    offset = rng.standard_normal((600, 512)) * noise * np.sqrt((1 - unlike) / 512)
    features = unit((vectors[labels] + offset).astype(np.float32))
    index = np.arange(599)
    bank = Bank(512, calibrate(features, np.stack([index, index + 1], 1)))
    ids = bank.update(features, ones(features))
    assert bank.alive.sum() == len(np.unique(labels))
    assert len(set(zip(ids, labels, strict=True))) == len(np.unique(labels))


def test_features_of_one_kind_do_not_fall_apart_into_their_noise(rng):
    vectors = label_vectors(12, 512, rng)
    features = noisy(rng, vectors, np.zeros(400, int), 0.5)
    index = np.arange(399)
    bank = Bank(512, calibrate(features, np.stack([index, index + 1], 1)))
    bank.update(features, ones(features))
    assert bank.alive.sum() == 1


def test_without_two_features_the_thresholds_are_those_of_clip():
    assert calibrate(np.zeros((5, 3), np.float32), np.zeros((0, 2), np.int64)) == Thresholds()
    assert Thresholds().join == pytest.approx(0.84 + 0.5 * 0.16)


def test_a_few_noisy_features_merge_with_the_row_they_belong_to_and_no_other(rng):
    """A row of one feature is as far from its own mean as noise makes it: less is asked of it."""
    vectors = label_vectors(2, 512, rng)
    alike = 1 / (1 + 0.16)
    bank = Bank(512, Thresholds(join=0.95, merge=0.95, alike=alike))
    features = noisy(rng, vectors, np.array([0] * 60 + [1] * 60), 1.0)
    bank.update(features, ones(features))
    assert bank.alive.sum() == 2
    strict = Bank(512, Thresholds(join=0.95, merge=0.95))
    strict.update(features, ones(features))
    assert strict.alive.sum() > 10


def test_noise_without_end_opens_no_more_rows_than_twice_the_cap(rng):
    bank = Bank(64, Thresholds(0.99, 0.999), cap=50)
    features = rng.standard_normal((3000, 64)).astype(np.float32)
    ids = bank.update(features, ones(features))
    assert len(bank) <= 100
    assert bank.alive.sum() == 50
    assert (ids >= 0).sum() == 50


def test_a_bank_goes_on_from_its_state_as_if_nothing_had_happened():
    random = np.random.default_rng(5)
    features = random.standard_normal((40, 16)).astype(np.float32)
    bank = Bank(16, Thresholds(join=0.5, merge=0.8), cap=20)
    bank.update(features[:20], np.ones(20, np.float32))
    other = Bank.from_state({name: array.copy() for name, array in bank.state().items()})
    for one in (bank, other):
        one.ids = one.update(features[20:], np.ones(20, np.float32))
    np.testing.assert_array_equal(bank.ids, other.ids)
    for name, array in bank.state().items():
        np.testing.assert_array_equal(array, other.state()[name])
