"""Relevancy in space: the levels of detail and the two rules of a threshold."""

import numpy as np
import pytest

from ffsplat.errors import UsageError
from ffsplat.query import query
from tests.toyscenes import Vectors, features, saved, unit, vector_book, vector_scene

RANDOM = np.random.default_rng(3)
V = dict(zip(["chair", "table", "leg", "seat", "x", "a", "b"],
             unit(RANDOM.standard_normal((7, 10))), strict=True))  # fmt: skip
BOOK = vector_book({name: V[name] for name in ("chair", "table", "leg", "seat")},
                   {"leg": "part", "seat": "part"})  # fmt: skip
CANON = np.stack([V["a"], V["b"]])
PAIRS = [{"chair": 0.5, "leg": 0.5}, {"chair": 0.7, "seat": 0.3}, {"table": 0.5, "leg": 0.5},
         {"table": 1.0}, {}]  # fmt: skip


def expected(vectors: np.ndarray, text: np.ndarray) -> np.ndarray:
    pairs = np.exp(10 * np.stack(np.broadcast_arrays((vectors @ text)[:, None], vectors @ CANON.T)))
    return (pairs[0] / pairs.sum(0)).min(1)


def test_together_is_the_closed_form_of_the_whole_code():
    scene = vector_scene(BOOK, PAIRS)
    found = query(scene, saved("chair", V["chair"], CANON), strategy="relevancy", min_count=1)
    np.testing.assert_allclose(found.scores[:4], expected(features(scene)[:4], V["chair"]),
                               atol=5e-3)  # fmt: skip
    assert found.scores[4] == 0
    assert (found.threshold, found.strategy) == (0.5, "relevancy")


@pytest.mark.parametrize(("text", "level"), [("leg", "part"), ("table", "whole")])
def test_the_best_level_is_the_one_with_the_largest_relevancy(text, level):
    scene = vector_scene(BOOK, PAIRS)
    asked = saved(text, V[text], CANON)
    best = query(scene, asked, strategy="relevancy", levels="best", min_count=1)
    alone = query(scene, asked, strategy="relevancy", level=level, min_count=1)
    np.testing.assert_array_equal(best.scores, alone.scores)
    other = {"part": "whole", "whole": "part"}[level]
    assert best.scores.max() > query(scene, asked, strategy="relevancy", level=other).scores.max()


def test_the_rule_of_the_range_always_finds_something():
    scene = vector_scene(BOOK, PAIRS)
    asked = saved("x", -V["chair"] - V["table"], CANON)
    absolute = query(scene, asked, strategy="relevancy", min_count=1)
    ranged = query(scene, asked, strategy="relevancy", rule="range", min_count=1)
    known = absolute.scores[:4]
    scaled = (known - known.min()) / (known.max() - known.min())
    np.testing.assert_allclose(ranged.scores[:4], scaled, atol=1e-5)
    assert ranged.threshold == pytest.approx(0.7)
    assert ranged.scores[4] == 0
    assert ranged.hits
    assert not absolute.hits


def test_other_canonical_phrases_are_embedded_by_the_texts_space():
    scene = vector_scene(BOOK, PAIRS)
    space = Vectors(V)
    found = query(scene, saved("chair", V["chair"], CANON[:1]), space=space, strategy="relevancy",
                  canon=("a", "b"))  # fmt: skip
    both = query(scene, saved("chair", V["chair"], CANON), strategy="relevancy")
    np.testing.assert_array_equal(found.scores, both.scores)


def test_a_text_without_canonical_phrases_is_refused():
    with pytest.raises(UsageError, match="canonical phrases"):
        query(vector_scene(BOOK, PAIRS), saved("chair", V["chair"]), strategy="relevancy")
