"""One codebook of two: which rows are one, which spaces stay, and codes that keep their bits."""

from collections.abc import Sequence

import numpy as np
import pytest

from ffsplat import codes
from ffsplat.codebook import LEXICON, lexicon_codebook, validate
from ffsplat.edit.codebooks import join_codebooks, with_rows
from ffsplat.errors import SceneFileError
from ffsplat.types import LEVELS, NO_ID, Codebook, SparseCode

TOY = "toy"


def book(rows: Sequence[tuple[str, str, int]], *, space: str = TOY, parents=None) -> Codebook:
    """Rows of (name, level, axis): the embedding is that axis of four."""
    count = len(rows)
    return Codebook(
        tuple(name for name, _, _ in rows),
        np.array([LEVELS.index(level) for _, level, _ in rows], np.int8),
        np.array(parents or [NO_ID] * count, np.int16),
        np.arange(1, count + 1, dtype=np.float32),
        {space: np.eye(4, dtype=np.float16)[[axis for _, _, axis in rows]]},
    )


def lexicon(*names: str) -> Codebook:
    """Some rows of the lexicon, with its embeddings."""
    whole = lexicon_codebook()
    rows = [whole.names.index(name) for name in names]
    return Codebook(
        names,
        whole.levels[rows],
        np.full(len(rows), NO_ID, np.int16),
        np.ones(len(rows), np.float32),
        {LEXICON: whole.spaces[LEXICON][rows]},
    )


def test_rows_of_one_name_and_level_are_one():
    a = book([("chair", "whole", 0), ("leg", "part", 1)])
    b = book([("lamp", "whole", 2), ("chair", "whole", 3), ("leg", "whole", 1)], parents=[1, -1, 0])
    joined = join_codebooks(a, b)
    validate(joined.codebook)
    assert joined.codebook.names == ("chair", "leg", "lamp", "leg")
    assert joined.rows_b.tolist() == [2, 0, 3]
    assert joined.codebook.counts.tolist() == [1 + 2, 2, 1, 3]
    assert joined.codebook.parents.tolist() == [-1, -1, 0, 2]
    # The chair keeps the embedding that it has in the first.
    np.testing.assert_array_equal(joined.codebook.spaces[TOY], np.eye(4)[[0, 1, 2, 1]])
    assert (joined.completed, joined.dropped) == ((), ())


def test_rows_without_a_name_are_one_if_their_embeddings_are_the_same():
    a = book([("", "whole", 0), ("", "whole", 1), ("chair", "whole", 2)])
    b = book([("", "whole", 1), ("", "part", 0), ("sofa", "whole", 0), ("", "whole", 2),
              ("table", "whole", 2)])  # fmt: skip
    joined = join_codebooks(a, b)
    assert joined.rows_b.tolist() == [1, 3, 0, 2, 4]
    assert joined.codebook.names == ("sofa", "", "chair", "", "table")


def test_two_books_that_are_the_same_stay_as_they_are():
    a = lexicon_codebook()
    joined = join_codebooks(a, lexicon_codebook())
    assert joined.codebook.names == a.names
    np.testing.assert_array_equal(joined.rows_b, np.arange(len(a)))
    np.testing.assert_array_equal(joined.codebook.spaces[LEXICON], a.spaces[LEXICON])


def test_a_space_that_one_lacks_is_made_of_names_where_it_can_be():
    toy = book([("sofa", "whole", 0), ("desk", "whole", 1)])
    known = lexicon("desk", "wall")
    both = Codebook(known.names, known.levels, known.parents, known.counts,
                    {**known.spaces, TOY: np.eye(4, dtype=np.float16)[2:]})  # fmt: skip
    joined = join_codebooks(both, toy)
    assert joined.codebook.names == ("desk", "wall", "sofa")
    assert joined.completed == (LEXICON,)
    expected = lexicon("desk", "wall", "sofa").spaces[LEXICON]
    np.testing.assert_array_equal(joined.codebook.spaces[LEXICON], expected)
    # The other way round it is the first one that is completed, and what it has comes first.
    joined = join_codebooks(toy, both)
    assert tuple(joined.codebook.spaces) == (TOY, LEXICON)
    expected = lexicon("sofa", "desk", "wall").spaces[LEXICON]
    np.testing.assert_array_equal(joined.codebook.spaces[LEXICON], expected)


def test_a_space_that_names_cannot_make_is_dropped():
    toy = book([("", "whole", 0), ("gizmo", "whole", 1)])
    known = lexicon("desk", "wall")
    both = Codebook(known.names, known.levels, known.parents, known.counts,
                    {**known.spaces, TOY: np.eye(4, dtype=np.float16)[2:]})  # fmt: skip
    joined = join_codebooks(both, toy)
    assert joined.dropped == (LEXICON,)
    assert tuple(joined.codebook.spaces) == (TOY,)
    validate(joined.codebook)


def test_an_older_lexicon_is_widened():
    new, old = lexicon("wall", "desk"), lexicon("wall", "floor")
    narrow = Codebook(old.names, old.levels, old.parents, old.counts,
                      {LEXICON: old.spaces[LEXICON][:, :50]})  # fmt: skip
    joined = join_codebooks(narrow, new)
    expected = lexicon("wall", "floor", "desk").spaces[LEXICON]
    np.testing.assert_array_equal(joined.codebook.spaces[LEXICON], expected)


def test_books_without_a_common_space_are_refused():
    with pytest.raises(SceneFileError, match="share no space"):
        join_codebooks(book([("x", "whole", 0)]), book([("", "whole", 0)], space="other"))
    wide = Codebook(("x",), np.zeros(1, np.int8), np.full(1, -1, np.int16), np.ones(1, np.float32),
                    {TOY: np.eye(5, dtype=np.float16)[:1]})  # fmt: skip
    with pytest.raises(SceneFileError, match="sizes differ"):
        join_codebooks(book([("x", "whole", 0)]), wide)


def test_codes_keep_their_bits():
    random = np.random.default_rng(0)
    ids = np.stack([random.permutation(20)[:4] for _ in range(500)]).astype(np.int16)
    code = codes.from_pairs(ids, random.random((500, 4)).astype(np.float32), 4)
    rows = (random.permutation(20) + 100).astype(np.int16)
    found = with_rows(code, rows)
    np.testing.assert_array_equal(found.ids, rows[code.ids])
    assert found.weights is code.weights
    unused = SparseCode(
        np.full((2, 4), NO_ID, np.int16), np.zeros((2, 4), np.float16), np.zeros(2, np.float16)
    )
    assert (with_rows(unused, rows).ids == NO_ID).all()


def test_weights_of_ids_that_become_one_add_up():
    ids = np.array([[0, 1, 2], [2, 0, NO_ID]], np.int16)
    weights = np.array([[0.5, 0.25, 0.25], [0.75, 0.25, 0]], np.float16)
    found = with_rows(
        SparseCode(ids, weights, np.ones(2, np.float16)), np.array([7, 8, 8], np.int16)
    )
    assert found.ids.tolist() == [[7, 8, NO_ID], [8, 7, NO_ID]]
    assert found.weights.tolist() == [[0.5, 0.5, 0], [0.75, 0.25, 0]]
