"""Codes against texts, by loops, by arrays and by the vectors themselves."""

import sys

import numpy as np
import pytest

from ffsplat import codes
from ffsplat.errors import SceneFileError
from ffsplat.query import scoring
from ffsplat.query.regions import tables
from tests.toyscenes import unit

RANDOM = np.random.default_rng(0)
ROWS = unit(RANDOM.standard_normal((30, 12))).astype(np.float32)
TEXTS = unit(RANDOM.standard_normal((5, 12))).astype(np.float32)


@pytest.fixture(params=[4, 2, 6, 8], ids=lambda k: f"{k} pairs")
def code(request):
    ids = RANDOM.integers(-1, 30, (3000, request.param))
    ids[:7] = -1
    return codes.from_pairs(ids, RANDOM.random(ids.shape), request.param, ROWS @ ROWS.T)


@pytest.fixture(params=["numpy", "numba"])
def way(request, monkeypatch):
    import numba  # noqa: F401

    if request.param == "numpy":
        monkeypatch.delitem(sys.modules, "numba")


def cosines(code) -> np.ndarray:
    coded = codes.to_dense(code, len(ROWS)) @ ROWS
    lengths = np.linalg.norm(coded, axis=1, keepdims=True)
    return np.divide(coded, lengths, out=np.zeros_like(coded), where=lengths > 0) @ TEXTS.T


@pytest.mark.usefixtures("way")
def test_a_margin_is_the_first_cosine_less_the_largest_other(code):
    expected = cosines(code)
    found = scoring.margins(code, ROWS @ TEXTS.T)
    known = code.norms > 0
    gap = expected[:, 0] - expected[:, 1:].max(axis=1)
    np.testing.assert_allclose(found[known], gap[known], atol=2e-3)
    assert (found[~known] == -np.inf).all()


@pytest.mark.usefixtures("way")
def test_the_best_text_is_that_of_a_softmax(code):
    label, share = scoring.best(code, ROWS @ TEXTS.T, 20.0)
    shares = np.exp(20 * cosines(code))
    shares /= shares.sum(axis=1, keepdims=True)
    known = code.norms > 0
    clear = known & (np.diff(np.sort(shares, axis=1)[:, -2:])[:, 0] > 0.02)
    np.testing.assert_array_equal(label[clear], shares[clear].argmax(axis=1))
    np.testing.assert_allclose(share[known], shares[known].max(axis=1), atol=0.02)
    assert (label[~known] == -1).all()
    assert (share[~known] == 0).all()


@pytest.mark.usefixtures("way")
def test_lengths_are_those_of_the_coded_vectors(code):
    found = scoring.in_space(codes.SparseCode(code.ids, code.weights, 0 * code.norms), ROWS)
    coded = codes.to_dense(code, len(ROWS)) @ ROWS
    np.testing.assert_allclose(found.norms, np.linalg.norm(coded, axis=1), atol=1e-3)


@pytest.mark.usefixtures("way")
def test_a_cut_code_has_the_cosines_of_the_rescaled_one(code):
    counted = np.arange(30) < 15
    ours = scoring.in_space(code, ROWS, counted)
    theirs = codes.keep_rows(code, counted, ROWS @ ROWS.T)
    row_scores = ROWS @ TEXTS.T
    np.testing.assert_allclose(
        codes.cosine(ours, row_scores), codes.cosine(theirs, row_scores), atol=4e-3
    )


@pytest.mark.usefixtures("way")
def test_numbers_are_raised_to_the_largest_cosine(code):
    found = np.full(len(code), 0.1, np.float32)
    scoring.raise_to_cosines(found, code, ROWS @ TEXTS.T)
    expected = np.maximum(cosines(code).max(axis=1), 0.1)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.usefixtures("way")
def test_tables_count_what_each_group_says_of_each_row(code):
    groups, shares = RANDOM.integers(0, 5, len(code)), RANDOM.random(len(code), np.float32)
    found = tables(code, groups, shares, 5, 30)
    dense = codes.to_dense(code, 30) * shares[:, None]
    expected = np.stack([dense[groups == g].sum(axis=0) for g in range(5)])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.usefixtures("way")
def test_codes_of_another_codebook_are_refused(code):
    with pytest.raises(SceneFileError, match="has 20 rows"):
        tables(code, np.zeros(len(code), np.int64), np.ones(len(code), np.float32), 1, 20)
    for ask in (scoring.margins, lambda *a: scoring.best(*a, 1.0), scoring.in_space):
        with pytest.raises(SceneFileError, match="has 20 rows"):
            ask(code, ROWS[:20])
