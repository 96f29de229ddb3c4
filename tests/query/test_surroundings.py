import gc
from dataclasses import replace

import numpy as np
from small_room import small_room

from ffsplat.codebook import add_space
from ffsplat.grouping.smoothing import smoothed_codes
from ffsplat.query.question import Question
from ffsplat.query.scoring import in_space
from ffsplat.query.surroundings import _placed, surroundings


def test_surroundings_are_smoothed_codes_in_the_space_of_the_text():
    room = small_room(200)
    vectors = np.random.default_rng(0).standard_normal((len(room.codebook), 8))
    room = replace(room, codebook=add_space(room.codebook, "other", vectors))
    asked = Question(room, "table")
    expected = in_space(smoothed_codes(room, room.codes), asked.embeddings)
    found = surroundings(asked)
    np.testing.assert_array_equal(found.norms, expected.norms)
    assert surroundings(Question(room, "sofa")) is found
    other = replace(room, codebook=replace(room.codebook))
    assert surroundings(Question(other, "sofa")) is not found


def test_surroundings_are_forgotten_with_their_scene():
    room = small_room(150)
    surroundings(Question(room, "table"))
    known = len(_placed)
    del room
    gc.collect()
    assert len(_placed) < known
