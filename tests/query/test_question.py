"""Codes of a question: cut to levels, and kept for the next question."""

import gc
from dataclasses import replace

import numpy as np
import pytest

from ffsplat import codes
from ffsplat.query import question as questions
from ffsplat.query.question import MOST_CUTS, Question
from tests.toyscenes import SPACE, features, saved, unit, vector_book, vector_scene

RANDOM = np.random.default_rng(3)
NAMES = ("chair", "table", "leg")
V = dict(zip(NAMES, unit(RANDOM.standard_normal((3, 5))), strict=True))
TEXT = saved("leg", V["leg"])


@pytest.fixture
def scene():
    book = vector_book(V, {"leg": "part"})
    return vector_scene(book, [dict(zip(NAMES, RANDOM.random(3), strict=True)) for _ in range(9)])


def test_a_cut_is_made_once_for_all_texts_of_a_scene(scene):
    first = Question(scene, TEXT, level="part").code
    assert Question(scene, saved("other", V["chair"]), level="part").code is first
    assert Question(scene, TEXT, level="whole").code is not first


def test_a_cut_has_the_lengths_of_what_it_keeps(scene):
    cut = Question(scene, TEXT, level="whole").code
    dense = codes.to_dense(scene.codes, 3)[:, :2]
    lengths = np.linalg.norm(dense @ np.stack([V["chair"], V["table"]]), axis=1)
    np.testing.assert_allclose(cut.norms, lengths, atol=1e-3)


def test_another_codebook_of_the_same_codes_is_cut_anew(scene):
    first = Question(scene, TEXT, level="part").code
    levels = 1 - scene.codebook.levels
    other = replace(scene, codebook=replace(scene.codebook, levels=levels))
    assert (Question(other, TEXT, level="part").code.ids >= 0).sum() != (first.ids >= 0).sum()


def test_few_cuts_are_kept_and_none_of_a_scene_that_is_gone(scene):
    one, kept = Question(scene, TEXT), questions._cuts
    for levels in ((0,), (1,), (0, 1), (2,), (1, 2), (0, 2)):
        one.cut(levels)
    assert len(kept[scene.codes][1]) == MOST_CUTS
    assert (SPACE, (0, 2)) in kept[scene.codes][1]
    before = len(kept)
    bare = replace(scene, codes=replace(scene.codes, norms=scene.codes.norms.copy()))
    assert len(features(bare)) == 9
    Question(bare, TEXT).cut((0,))
    assert len(kept) == before + 1
    del bare
    gc.collect()
    assert len(kept) == before
