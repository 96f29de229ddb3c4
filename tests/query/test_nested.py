"""Nested levels of a meaning."""

import numpy as np
import pytest

from ffsplat.errors import UsageError
from ffsplat.query import query
from ffsplat.query.nested import compose
from tests.toyscenes import features, saved, unit, vector_book, vector_scene

RANDOM = np.random.default_rng(8)
NAMES = ("chair", "table", "leg", "seat")
V = dict(zip(NAMES, unit(RANDOM.standard_normal((4, 9))), strict=True))
CANON = unit(RANDOM.standard_normal((2, 9)))
LEVELS = {"leg": "part", "seat": "part"}


def relevant(vectors: np.ndarray, text: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-10 * (vectors @ text - (vectors @ CANON.T).max(1))))


def test_the_most_relevant_prefix_counts():
    pairs = [dict(zip(NAMES, RANDOM.random(4), strict=True)) for _ in range(30)]
    book = vector_book(V, LEVELS)
    scene = vector_scene(book, pairs)
    coarse = vector_scene(book, [{n: p[n] for n in NAMES[:2]} for p in pairs])
    text = saved("leg", V["leg"], CANON)
    found = query(scene, text, strategy="nested")
    each = [relevant(features(one), V["leg"]) for one in (coarse, scene)]
    np.testing.assert_allclose(found.scores, np.max(each, axis=0), atol=6e-3)


def test_the_composite_is_blended_by_how_canonical_a_prefix_is():
    """The composite of the embeddings themselves, asked once."""
    vectors = unit(RANDOM.standard_normal((20, 3, 9)))
    phrases = np.vstack([V["leg"], CANON])
    largest = (vectors @ CANON.T).max(axis=-1)
    gamma = np.exp(largest) / np.exp(largest).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gamma.sum(axis=1), 1)
    whole = (gamma[..., None] * vectors).sum(axis=1)
    found = compose(vectors @ phrases.T)
    np.testing.assert_allclose(found, whole @ phrases.T, atol=1e-6)


@pytest.mark.parametrize("pick", ["largest", "composite"])
def test_one_level_is_plain_relevancy(pick):
    pairs = [dict(zip(NAMES, RANDOM.random(4), strict=True)) for _ in range(10)] + [{}]
    scene = vector_scene(vector_book(V), pairs)
    text = saved("leg", V["leg"], CANON)
    found = query(scene, text, strategy="nested", pick=pick)
    plain = query(scene, text, strategy="relevancy")
    np.testing.assert_allclose(found.scores, plain.scores, atol=1e-5)


def test_a_text_without_canonical_phrases_is_refused():
    with pytest.raises(UsageError, match="canonical"):
        query(vector_scene(vector_book(V), [{"leg": 1.0}]), saved("leg", V["leg"]),
              strategy="nested")  # fmt: skip
