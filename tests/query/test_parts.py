"""Part in whole: by two steps, and by moving the part towards its whole."""

import numpy as np
import pytest

from ffsplat.errors import UsageError
from ffsplat.query import query
from ffsplat.query.parts import deviate
from tests.query.rooms import lexicon_room
from tests.toyscenes import Vectors, saved, unit, vector_book, vector_scene

COSINE = 0.3


def plane(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle), 0, 0])


CHAIR, BEAR, LEG = plane(0), plane(2.2), np.array([0, 0, 1.0, 0])
LEVELS = {"leg": "part", "chair leg": "part", "bear leg": "part"}


def test_a_row_moves_along_the_arc_to_its_parent():
    """Of unit vectors with cosine r, the mix has the squared length (1-w)^2 + w^2 + 2w(1-w)r."""
    part = COSINE * CHAIR + np.sqrt(1 - COSINE**2) * LEG
    rows = np.stack([CHAIR, part]).astype(np.float32)
    parents = np.array([-1, 0])
    for weight in (0.0, 0.25, 0.5, 1.0):
        length = np.sqrt((1 - weight) ** 2 + weight**2 + 2 * weight * (1 - weight) * COSINE)
        found = deviate(rows, parents, weight)
        np.testing.assert_allclose(found[0], CHAIR)
        np.testing.assert_allclose(found[1], ((1 - weight) * CHAIR + weight * part) / length,
                                   atol=1e-6)  # fmt: skip


def two_legs(parents: bool):
    """The leg of the bear looks a little more like a leg than that of the chair."""
    legs = {"chair leg": unit(LEG + 0.1 * BEAR), "bear leg": unit(LEG + 0.05 * CHAIR)}
    rows = {"chair": CHAIR, "bear": BEAR, **legs}
    book = vector_book(rows, LEVELS, [-1, -1, 0, 1] if parents else None)
    pairs = [{"chair": 0.5, "chair leg": 0.5}, {"bear": 0.5, "bear leg": 0.5}]
    return vector_scene(book, pairs)


@pytest.mark.parametrize("parents", [True, False])
def test_moving_a_part_towards_its_whole_tells_two_legs_apart(parents):
    scene = two_legs(parents)
    text = saved("chair leg", unit(CHAIR + LEG))
    alone = query(scene, saved("leg", unit(LEG)), level="part", strategy="cosine").scores
    assert alone[1] > alone[0]
    for weight, first in ((0.3, 0), (0.7, 0)):
        asked = {"strategy": "part-in-whole", "steps": "one", "weight": weight}
        scores = query(scene, text, **asked).scores
        assert scores.argmax() == first
        wholes, legs = np.stack([CHAIR, BEAR]), scene.codebook.spaces["fake"][2:].astype(float)
        mixed = unit((1 - weight) * wholes + weight * legs)
        np.testing.assert_allclose(scores, mixed @ text.vector, atol=3e-3)


def test_all_weight_on_one_side_is_that_side():
    scene = two_legs(False)
    text = saved("x", unit(np.array([0.5, 0.3, 0.7, 0])))
    for weight, level in ((0.0, "whole"), (1.0, "part")):
        moved = query(scene, text, strategy="part-in-whole", steps="one", weight=weight)
        alone = query(scene, text, strategy="cosine", level=level)
        np.testing.assert_allclose(moved.scores, alone.scores, atol=2e-3)


@pytest.mark.parametrize("words", ["leg of the chair", "chair's leg", "leg of a chair"])
def test_the_whole_is_found_first_and_then_its_part(words):
    space = Vectors({"chair": CHAIR, "leg": LEG})
    pairs = [{"chair": 1.0}, {"chair": 0.5, "chair leg": 0.5}, {"chair leg": 1.0},
             {"bear": 0.5, "bear leg": 0.5}, {"bear": 1.0}]  # fmt: skip
    scene = vector_scene(two_legs(False).codebook, pairs, [0, 0, 0, 1, 1])
    found = query(scene, words, space=space, strategy="part-in-whole", min_count=1)
    assert np.flatnonzero(found.scores >= found.threshold).tolist() == [1, 2]
    given = query(scene, "it", space=space, strategy="part-in-whole", whole="chair", part="leg")
    np.testing.assert_array_equal(given.scores, found.scores)
    asked = {"space": space, "strategy": "part-in-whole"}
    for text, options in (("leg", {"whole": "chair"}), ("chair", {"part": "leg"}),
                          ("leg of the bear", {"whole": "chair"})):  # fmt: skip
        given = query(scene, text, **asked, **options)
        np.testing.assert_array_equal(given.scores, found.scores)


def test_in_the_lexicon_a_leg_of_the_chair_needs_no_evidence_of_its_own():
    room = lexicon_room(
        [{"chair": 1}, {"chair": 1}, {"leg": 1}, {"leg": 1}, {"table": 1}], [0, 0, 0, 1, 1]
    )
    found = query(room, "leg of the chair", strategy="part-in-whole", min_count=1)
    assert [hit.rows.tolist() for hit in found.hits] == [[2]]
    assert not query(room, "chair leg", strategy="lexicon").scores.any()
    for text, options in (
        ("chair leg", {}),
        ("leg", {"whole": "chair"}),
        ("it", {"whole": "chair", "part": "leg"}),
    ):
        same = query(room, text, strategy="part-in-whole", **options)
        np.testing.assert_array_equal(same.scores, found.scores)


def test_a_pot_of_the_plant_is_no_pot_plant():
    room = lexicon_room([{"plant": 1}, {"plant": 0.5, "pot": 0.5}], [0, 0])
    found = query(room, "the pot of the plant", strategy="part-in-whole")
    np.testing.assert_allclose(found.scores, [0, 1], atol=1e-3)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("chair", {}, "a part and its whole"),
        ("chair leg", {"weight": 1.5}, "not between"),
        ("chair leg", {"steps": "one"}, "no vectors"),
    ],
)
def test_texts_without_a_part_are_refused(text, options, message):
    with pytest.raises(UsageError, match=message):
        query(lexicon_room([{"chair": 1}]), text, strategy="part-in-whole", **options)
