import numpy as np
import pytest

from ffsplat import codebook as cb
from ffsplat import codes
from ffsplat.errors import SceneFileError
from ffsplat.types import LEVELS, Codebook


def small(names: str, space: str = "s", level: int = 0, seed: int = 0) -> Codebook:
    """A codebook with one row a letter and random rows in one space; "-" is a row without name."""
    n = len(names)
    book = Codebook(
        names=tuple(name.replace("-", "") for name in names),
        levels=np.full(n, level, np.int8),
        parents=np.arange(-1, n - 1, dtype=np.int16),
        counts=np.arange(1, n + 1, dtype=np.float32),
        spaces={},
    )
    return cb.add_space(book, space, np.random.default_rng(seed).standard_normal((n, 5)))


def test_the_lexicon_has_the_levels_in_order():
    levels = [row.level for row in cb.lexicon_rows()]
    assert levels == sorted(levels, key=LEVELS.index)
    assert [levels.count(level) for level in LEVELS] == [58, 62, 11, 0]


def test_terms_of_the_lexicon_are_unambiguous():
    """A name or synonym belongs to one row; a hypernym that is also a name is of the same level."""
    rows = cb.lexicon_rows()
    terms = [term for row in rows for term in (row.name, *row.synonyms)]
    assert len(terms) == len(set(terms))
    level_of = {term: row.level for row in rows for term in (row.name, *row.synonyms)}
    for row in rows:
        for hypernym in row.hypernyms:
            assert level_of.setdefault(hypernym, row.level) == row.level


def test_the_lexicon_codebook_is_orthonormal_and_valid():
    book = cb.lexicon_codebook()
    cb.validate(book)
    np.testing.assert_array_equal(cb.gram(book, "lexicon"), np.eye(len(book)))
    assert book.names[0] == "wall"


def test_rows_of_level():
    book = cb.lexicon_codebook()
    parts = cb.rows_of_level(book, "part")
    assert (book.names[parts[0]], book.names[parts[-1]]) == ("surface", "fin")
    levels = [cb.rows_of_level(book, level) for level in LEVELS]
    np.testing.assert_array_equal(np.concatenate(levels), np.arange(len(book)))


def test_gram_holds_the_cosines():
    book = small("abc")
    rows = book.spaces["s"].astype(np.float64)
    np.testing.assert_allclose(cb.gram(book, "s"), rows @ rows.T, atol=1e-6)


def test_add_space_scales_to_unit_length():
    book = cb.add_space(small("ab"), "t", np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(book.spaces["t"], [[0.6, 0.8], [0, 0]], atol=5e-4)
    assert list(book.spaces) == ["s", "t"]


def test_add_space_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="already"):
        cb.add_space(small("ab"), "s", np.ones((2, 5)))
    with pytest.raises(ValueError, match="3 embeddings for 2 rows"):
        cb.add_space(small("ab"), "t", np.ones((3, 5)))


def test_join_finds_equal_rows_and_moves_the_rest():
    a, b = small("abc"), small("c-ad", seed=1)
    joined, map_a, map_b = cb.join(a, b)
    assert joined.names == ("a", "b", "c", "", "d")
    np.testing.assert_array_equal(map_a, [0, 1, 2])
    np.testing.assert_array_equal(map_b, [2, 3, 0, 4])
    np.testing.assert_array_equal(joined.counts, [1 + 3, 2, 3 + 1, 2, 4])
    np.testing.assert_array_equal(joined.parents, [-1, 0, 1, map_b[0], map_b[2]])
    np.testing.assert_array_equal(joined.spaces["s"][:3], a.spaces["s"])
    np.testing.assert_array_equal(joined.spaces["s"][3:], b.spaces["s"][[1, 3]])
    cb.validate(joined)


def test_join_keeps_the_scores_of_moved_codes():
    a, b = small("abc"), small("xyz", seed=1)
    joined, _, map_b = cb.join(a, b)
    code = codes.from_pairs(np.array([[0, 2], [1, -1]]), np.array([[0.5, 0.5], [1.0, 0.0]]))
    text = np.random.default_rng(2).standard_normal(5)
    np.testing.assert_allclose(
        codes.score(codes.remap(code, map_b), joined.spaces["s"] @ text),
        codes.score(code, b.spaces["s"] @ text),
        atol=1e-6,
    )


def test_a_codebook_joined_with_itself_stays():
    book = cb.lexicon_codebook()
    joined, map_a, map_b = cb.join(book, book)
    assert joined.names == book.names
    np.testing.assert_array_equal(map_a, map_b)


def test_equal_names_on_two_levels_are_two_rows():
    joined, _, map_b = cb.join(small("a"), small("a", level=1))
    assert len(joined) == 2
    np.testing.assert_array_equal(map_b, [1])


def test_join_refuses_foreign_spaces_and_too_many_rows():
    with pytest.raises(SceneFileError, match="share no space"):
        cb.join(small("a"), small("a", space="t"))
    with pytest.raises(SceneFileError, match="over 32768"):
        cb.join(small("-" * 20000), small("-" * 20000))


def test_validate_takes_a_sound_codebook():
    cb.validate(small("ab-"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"names": ()}, "rows"),
        ({"levels": np.zeros(2, np.int8)}, "length"),
        ({"levels": np.full(3, 4, np.int8)}, "level or parent"),
        ({"parents": np.array([-1, 0, 3], np.int16)}, "level or parent"),
        ({"parents": np.array([-2, 0, 0], np.int16)}, "level or parent"),
        ({"parents": np.array([2, 0, 1], np.int16)}, "circle"),
        ({"parents": np.array([0, -1, -1], np.int16)}, "circle"),
        ({"counts": np.array([1, -1, 0], np.float32)}, "count"),
        ({"counts": np.array([1, np.nan, 0], np.float32)}, "count"),
        ({"spaces": {}}, "no space"),
        ({"spaces": {"s": np.ones((2, 1), np.float16)}}, "shape"),
        ({"spaces": {"s": np.full((3, 1), 2, np.float16)}}, "length 1"),
        ({"spaces": {"s": np.full((3, 1), np.nan, np.float16)}}, "length 1"),
    ],
)
def test_validate_names_the_breach(change, problem):
    broken = object.__new__(Codebook)  # as a reader without shape checks would make it
    broken.__dict__.update(small("abc").__dict__ | change)
    with pytest.raises(SceneFileError, match=problem):
        cb.validate(broken)
