"""Softmax over a list of labels, per Gaussian."""

import numpy as np
import pytest

from ffsplat.errors import UsageError
from ffsplat.query import query
from ffsplat.query.labels import classify, probabilities, softmax
from ffsplat.query.question import Question
from tests.query.rooms import lexicon_room
from tests.toyscenes import Vectors, features, unit, vector_book, vector_scene

RANDOM = np.random.default_rng(5)
NAMES = ("chair", "table", "lamp", "rug")
V = dict(zip(NAMES, unit(RANDOM.standard_normal((4, 8))), strict=True))
SPACE = Vectors(V)


def scene():
    pairs = [dict(zip(NAMES, RANDOM.random(4), strict=True)) for _ in range(40)] + [{}]
    return vector_scene(vector_book(V), pairs, [0] * 20 + [1] * 10 + [-1] * 11)


def shares(one, scale: float) -> np.ndarray:
    logits = np.exp(scale * (features(one) @ np.stack([V[n] for n in NAMES]).T))
    return logits / logits.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_every_gaussian_gets_its_best_label(scale):
    one = scene()
    found = classify(Question(one, "", SPACE), NAMES, scale)
    expected = shares(one, scale)[:40]
    np.testing.assert_array_equal(found.label[:40], expected.argmax(axis=1))
    np.testing.assert_allclose(found.probability[:40], expected.max(axis=1), rtol=0.02)
    assert (found.label[40], found.probability[40]) == (-1, 0)


def test_a_text_matches_where_it_is_the_best():
    one = scene()
    found = query(one, "table", space=SPACE, strategy="softmax", labels=NAMES, min_count=1)
    best = shares(one, 100.0)[:40].argmax(axis=1) == 1
    np.testing.assert_array_equal(found.scores[:40] > 0, best)
    assert {hit.name for hit in found.hits} == {"table"}
    others = ("lamp", "rug", "chair")
    added = query(one, "table", space=SPACE, strategy="softmax", labels=others, min_count=1)
    np.testing.assert_allclose(added.scores, found.scores, rtol=1e-5)


def test_without_a_text_everything_is_called_by_its_label():
    one = scene()
    found = query(one, "", space=SPACE, strategy="softmax", labels=NAMES, min_count=1, max_hits=99)
    assert found.labels == NAMES
    assert sum(hit.count for hit in found.hits) == 40
    loose = [hit for hit in found.hits if hit.instance < 0]
    for hit in loose:
        assert {NAMES[label] for label in found.label[hit.rows]} == {hit.name}


def test_the_rule_of_feature_3dgs_is_a_threshold_of_the_share():
    """Frozen from its calculate_selection_score: 5 texts, a threshold just above even odds."""
    one = scene()
    found = query(one, "lamp", space=SPACE, strategy="softmax", labels=NAMES, scale=1.0,
                  rule="share", threshold=0.26, min_count=1)  # fmt: skip
    np.testing.assert_allclose(found.scores[:40], shares(one, 1.0)[:40, 2], atol=1e-3)
    assert found.scores[40] == 0


def test_a_constant_added_to_all_logits_changes_nothing():
    logits = RANDOM.standard_normal((6, 5)).astype(np.float32)
    found = softmax(logits)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(softmax(logits + 7), found, rtol=1e-5)


def test_labels_of_the_lexicon_are_told_apart_at_their_level():
    room = lexicon_room([{"chair": 0.3, "leg": 0.7}, {"table": 0.6, "chair": 0.1, "seat": 0.3}, {}])
    found = query(room, "", strategy="softmax", labels=("table", "armchair", "seating"))
    assert found.label.tolist() == [2, 0, -1]
    parts = query(room, "", strategy="softmax", labels=("leg", "seat"))
    assert parts.label.tolist() == [0, 1, -1]
    np.testing.assert_allclose(probabilities(Question(room, ""), room.codes, ("leg", "seat"))[2], 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ("chair",)}, "two or more"),
        ({"labels": ("chair", "chair")}, "given twice"),
        ({"labels": NAMES, "scale": 0.0}, "not a positive number"),
    ],
)
def test_lists_that_tell_nothing_apart_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        query(scene(), "", space=SPACE, strategy="softmax", **options)


def test_what_says_nothing_of_any_label_of_the_lexicon_has_none():
    room = lexicon_room([{"chair": 1}, {"wall": 1}, {"wall": 0.9, "table": 0.1}, {}])
    question = Question(room, "", "lexicon")
    assert classify(question, ("chair", "table")).label.tolist() == [0, -1, 1, -1]
    found = probabilities(question, room.codes, ("chair", "table"))
    np.testing.assert_allclose(found.sum(axis=1), [1, 0, 1, 0], atol=1e-5)
