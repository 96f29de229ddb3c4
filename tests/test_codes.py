import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ffsplat import codes
from ffsplat.errors import SceneFileError
from ffsplat.types import SparseCode

ROWS = 12


def random_code(rng: np.random.Generator, n: int = 50, k: int = 4, gram=None) -> SparseCode:
    """Codes with equal IDs and gaps among their pairs."""
    return codes.from_pairs(rng.integers(-1, ROWS, (n, k + 2)), rng.random((n, k + 2)), k, gram)


def random_rows(rng: np.random.Generator, size: int = 40) -> np.ndarray:
    rows = rng.standard_normal((ROWS, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def dense_top(weights: np.ndarray, k: int) -> np.ndarray:
    """The k heaviest of each row scaled to sum 1, the slow way; ties to the lower column."""
    top = np.zeros_like(weights, dtype=np.float64)
    for i, row in enumerate(weights):
        for j in sorted(range(len(row)), key=lambda j: (-row[j], j))[:k]:
            top[i, j] = row[j]
    total = top.sum(axis=1, keepdims=True)
    return np.divide(top, total, out=np.zeros_like(top), where=total > 0)


def observations(rng: np.random.Generator, n: int, count: int):
    code = random_code(rng, n)
    return code, rng.integers(0, count, n), rng.random(n).astype(np.float32) + 0.01


def test_a_code_takes_18_bytes(rng):
    code = random_code(rng, n=100)
    assert code.ids.nbytes + code.weights.nbytes + code.norms.nbytes == 1800


def test_pairs_by_hand():
    code = codes.from_pairs(
        np.array([[3, 1, 3, 2], [-1, 5, -1, -1], [-1, -1, -1, -1], [9, 7, 8, 6]]),
        np.array([[0.2, 0.3, 0.2, 0.1], [9, 2, 9, 9], [1, 1, 1, 1], [1, 1, 1, 1]]),
        k=2,
    )
    np.testing.assert_array_equal(code.ids, [[3, 1], [5, -1], [-1, -1], [6, 7]])
    expected = [[4 / 7, 3 / 7], [1, 0], [0, 0], [0.5, 0.5]]
    np.testing.assert_allclose(code.weights, expected, atol=5e-4)
    np.testing.assert_allclose(code.norms, [5 / 7, 1, 0, 0.5**0.5], atol=5e-4)


def test_zero_weight_is_no_evidence():
    code = codes.from_pairs(np.array([[4, 2]]), np.array([[1.0, 0.0]]), k=3)
    np.testing.assert_array_equal(code.ids, [[4, -1, -1]])


pair_arrays = st.integers(1, 7).flatmap(
    lambda m: st.tuples(
        arrays(np.int64, (5, m), elements=st.integers(-1, ROWS - 1)),
        arrays(np.float32, (5, m), elements=st.floats(0, 1e3, width=32, allow_subnormal=False)),
    )
)


@settings(deadline=None)
@given(pair_arrays, st.integers(1, 6))
def test_pairs_keep_the_invariants_of_a_code(pairs, k):
    code = codes.from_pairs(*pairs, k)
    weights = code.weights.astype(np.float32)
    used = code.ids >= 0
    assert code.ids.shape == code.weights.shape == (5, k)
    assert (np.diff(weights, axis=1) <= 0).all()
    assert (used == (weights > 0)).all()
    for ids in code.ids:
        assert len(set(ids[ids >= 0])) == (ids >= 0).sum()
    np.testing.assert_allclose(weights.sum(axis=1), used.any(axis=1), atol=2e-3)


@settings(deadline=None)
@given(pair_arrays, st.integers(1, 6))
def test_pairs_equal_the_dense_top(pairs, k):
    ids, weights = pairs
    dense = np.zeros((5, ROWS + 1))
    for i, j in np.ndindex(*ids.shape):
        dense[i, ids[i, j]] += weights[i, j]
    kept = np.sort(dense_top(dense[:, :ROWS], k), axis=1)
    code = codes.from_pairs(ids, weights, k)
    np.testing.assert_allclose(np.sort(codes.to_dense(code, ROWS), axis=1), kept, atol=1e-3)


@settings(deadline=None)
@given(pair_arrays, st.randoms(use_true_random=False))
def test_order_of_pairs_does_not_matter(pairs, random):
    ids, weights = pairs
    order = random.sample(range(ids.shape[1]), ids.shape[1])
    a, b = codes.from_pairs(ids, weights, 3), codes.from_pairs(ids[:, order], weights[:, order], 3)
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.weights, b.weights)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_bad_weights_are_refused(weight):
    with pytest.raises(ValueError, match="finite"):
        codes.from_pairs(np.array([[0]]), np.array([[weight]]))


def test_ids_beyond_int16_are_refused():
    with pytest.raises(ValueError, match="not below"):
        codes.from_pairs(np.array([[2**15]]), np.array([[1.0]]))


def test_from_dense_is_the_top_of_the_matrix(rng):
    weights = rng.random((30, ROWS))
    weights[0] = 0
    weights[1] = 1
    code = codes.from_dense(weights, k=4)
    np.testing.assert_allclose(codes.to_dense(code, ROWS), dense_top(weights, 4), atol=5e-4)
    np.testing.assert_array_equal(code.ids[1], [0, 1, 2, 3])


def test_from_logits_is_the_cut_softmax(rng):
    logits = rng.standard_normal((30, 6)) * 3
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.array([7, 2, 9, 4, 11, 0])
    expected = np.zeros((30, ROWS))
    expected[:, rows] = dense_top(softmax, 3)
    code = codes.from_logits(logits, 3, rows)
    np.testing.assert_allclose(codes.to_dense(code, ROWS), expected, atol=5e-4)


def test_logits_far_apart_do_not_underflow():
    code = codes.from_logits(np.array([[0.0, 1e4, -1e4]]), k=3)
    np.testing.assert_array_equal(code.ids, [[1, -1, -1]])
    np.testing.assert_array_equal(code.weights, [[1, 0, 0]])


def test_chunks_do_not_show(rng, monkeypatch):
    gram = (rows := random_rows(rng)) @ rows.T
    whole = random_code(np.random.default_rng(7), gram=gram)
    scores = codes.score(whole, rows[:, 0], "numpy")
    monkeypatch.setattr(codes, "CHUNK", 7)
    parts = random_code(np.random.default_rng(7), gram=gram)
    for a, b in (
        (whole.ids, parts.ids),
        (whole.weights, parts.weights),
        (whole.norms, parts.norms),
    ):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(scores, codes.score(whole, rows[:, 0], "numpy"))


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_score_is_the_matrix_product(rng, backend):
    code = random_code(rng)
    table = rng.standard_normal((ROWS, 3)).astype(np.float32)
    dense = codes.to_dense(code, ROWS)
    np.testing.assert_allclose(codes.score(code, table, backend), dense @ table, atol=1e-6)
    np.testing.assert_allclose(
        codes.score(code, table[:, 1], backend), dense @ table[:, 1], atol=1e-6
    )


@pytest.mark.parametrize("k", [1, 4, 5])
def test_backends_agree_to_the_bit(rng, k):
    code = random_code(rng, n=1000, k=k)
    table = rng.standard_normal((ROWS, 2)).astype(np.float32)
    np.testing.assert_array_equal(
        codes.score(code, table, "numba"), codes.score(code, table, "numpy")
    )


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_codes_of_another_codebook_are_refused(rng, backend):
    code = codes.from_pairs(np.array([[ROWS]]), np.array([[1.0]]))
    with pytest.raises(SceneFileError, match=f"{ROWS} rows"):
        codes.score(code, np.zeros(ROWS), backend)


def test_score_is_linear(rng):
    code = random_code(rng)
    a, b = rng.standard_normal((2, ROWS))
    np.testing.assert_allclose(
        codes.score(code, 2 * a - 3 * b),
        2 * codes.score(code, a) - 3 * codes.score(code, b),
        atol=1e-5,
    )


def test_cosine_through_gram_equals_the_explicit_features(rng):
    rows = random_rows(rng).astype(np.float64)
    texts = np.linalg.qr(rng.standard_normal((40, 3)))[0]
    code = codes.from_pairs(rng.integers(0, ROWS, (50, 4)), rng.random((50, 4)))
    features = codes.to_dense(code, ROWS) @ rows
    explicit = features @ texts / np.linalg.norm(features, axis=1, keepdims=True)
    lengths = codes.norm(code, (rows @ rows.T).astype(np.float32))
    np.testing.assert_allclose(
        codes.score(code, rows @ texts) / lengths[:, None], explicit, atol=1e-6
    )


def test_stored_norms_cost_only_their_rounding(rng):
    rows = random_rows(rng)
    code = random_code(rng, gram=rows @ rows.T)
    features = codes.to_dense(code, ROWS) @ rows
    lengths = np.linalg.norm(features, axis=1)
    expected = features @ rows[0] / np.where(lengths > 0, lengths, 1)
    np.testing.assert_allclose(codes.cosine(code, rows @ rows[0]), expected, atol=1e-3)
    assert codes.cosine(code, rows @ rows[:2].T).shape == (50, 2)


def test_orthonormal_rows_need_no_gram(rng):
    code = random_code(rng)
    eye = np.eye(ROWS, dtype=np.float32)
    np.testing.assert_allclose(codes.norm(code), codes.norm(code, eye), atol=1e-6)


@pytest.mark.parametrize("limit", [ROWS - 1, ROWS])
def test_norms_from_rows_are_the_lengths_of_the_features(rng, monkeypatch, limit):
    monkeypatch.setattr(codes, "MAX_GRAM", limit)
    monkeypatch.setattr(codes, "CHUNK", 7 * 40)
    code, rows = random_code(rng), random_rows(rng)
    lengths = np.linalg.norm(codes.to_dense(code, ROWS) @ rows, axis=1)
    np.testing.assert_allclose(codes.norm_in(code, rows), lengths, atol=1e-6)


def test_add_is_the_weighted_mean(rng):
    a, b = random_code(rng), random_code(rng)
    weight = rng.random(50)
    dense = weight[:, None] * codes.to_dense(a, ROWS) + 0.5 * codes.to_dense(b, ROWS)
    code = codes.add(a, b, weight, 0.5, k=8)
    np.testing.assert_allclose(codes.to_dense(code, ROWS), dense_top(dense, 8), atol=1e-3)


def test_adding_no_evidence_changes_nothing(rng):
    a = codes.from_pairs(rng.integers(0, ROWS, (20, 4)), rng.random((20, 4)))
    nothing = codes.from_pairs(np.full((20, 4), -1), np.zeros((20, 4)))
    np.testing.assert_allclose(codes.add(a, nothing).weights, a.weights, atol=1e-3)
    np.testing.assert_array_equal(codes.add(a, nothing).ids >= 0, a.ids >= 0)


def test_fuse_sums_confidence_times_weight(rng):
    code, targets, confidences = observations(rng, n=300, count=40)
    dense = np.zeros((41, ROWS))
    np.add.at(dense, targets, confidences[:, None] * codes.to_dense(code, ROWS))
    fused = codes.fuse(code, targets, confidences, count=41, k=ROWS)
    np.testing.assert_allclose(codes.to_dense(fused, ROWS), dense_top(dense, ROWS), atol=1e-3)
    assert (fused.ids[40] == -1).all()
    narrow = codes.fuse(code, targets, confidences, count=41)
    np.testing.assert_allclose(codes.to_dense(narrow, ROWS), dense_top(dense, 4), atol=1e-3)


def test_fuse_keeps_the_most_confident_views():
    """EmbodiedSplat: of single-ID observations the k most confident stay, in their proportion."""
    confidences = np.array([0.9, 0.1, 0.5, 0.7, 0.3], np.float32)
    code = codes.from_pairs(np.arange(5)[:, None], np.ones((5, 1)), k=3)
    fused = codes.fuse(code, np.zeros(5, int), confidences, count=1)
    np.testing.assert_array_equal(fused.ids, [[0, 3, 2]])
    np.testing.assert_allclose(fused.weights[0], np.array([0.9, 0.7, 0.5]) / 2.1, atol=5e-4)


def test_fuse_does_not_depend_on_the_order(rng):
    code, targets, confidences = observations(rng, n=300, count=40)
    order = rng.permutation(300)
    a = codes.fuse(code, targets, confidences, 40)
    b = codes.fuse(code[order], targets[order], confidences[order], 40)
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_allclose(a.weights, b.weights, atol=1e-3)


def test_fusing_in_two_steps_equals_one(rng):
    code, targets, confidences = observations(rng, n=200, count=20)
    first = np.arange(200) < 120
    halves = [codes.fuse(code[p], targets[p], confidences[p], 20, ROWS) for p in (first, ~first)]
    evidence = confidences * (code.weights.sum(axis=1, dtype=np.float32) > 0.5)
    sums = [np.bincount(targets[p], evidence[p], 20) for p in (first, ~first)]
    once = codes.fuse(code, targets, confidences, 20, ROWS)
    np.testing.assert_allclose(
        codes.to_dense(codes.add(*halves, *sums), ROWS), codes.to_dense(once, ROWS), atol=3e-3
    )


@pytest.mark.parametrize("target", [-1, 2])
def test_fuse_refuses_targets_outside(target):
    code = codes.from_pairs(np.array([[0]]), np.array([[1.0]]))
    with pytest.raises(ValueError, match="targets"):
        codes.fuse(code, np.array([target]), np.ones(1), count=2)


def test_truncate_keeps_the_heaviest(rng):
    code = random_code(rng)
    hard = codes.truncate(code, 1)
    np.testing.assert_array_equal(hard.ids[:, 0], code.ids[:, 0])
    assert set(hard.weights[:, 0].tolist()) <= {0.0, 1.0}


def test_keep_rows_is_a_masked_and_scaled_matrix(rng):
    code = random_code(rng)
    mask = np.arange(ROWS) % 3 == 0
    dense = dense_top(codes.to_dense(code, ROWS) * mask, 4)
    np.testing.assert_allclose(codes.to_dense(codes.keep_rows(code, mask), ROWS), dense, atol=1e-3)


def test_remap_permutes_the_columns(rng):
    code = random_code(rng)
    row_map = rng.permutation(ROWS).astype(np.int16)
    moved = codes.to_dense(codes.remap(code, row_map), ROWS)
    np.testing.assert_allclose(moved[:, row_map], codes.to_dense(code, ROWS), atol=1e-3)


def test_empty_arrays_pass(rng):
    code = random_code(rng, n=0)
    assert codes.score(code, np.zeros(ROWS)).shape == (0,)
    assert codes.fuse(code, np.zeros(0, int), np.zeros(0), 3).ids.shape == (3, 4)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
