"""Labels: the row, its embeddings, the evidence of other levels, and finding it again."""

from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat import codes
from ffsplat.codebook import LEXICON, lexicon_codebook, validate
from ffsplat.edit import Label, select
from ffsplat.edit.labels import embedding_of, missing_spaces, row_of
from ffsplat.errors import UsageError, WeightsMissing
from ffsplat.text import OpenClipSpace
from ffsplat.types import NO_ID, Scene

TABLE = np.arange(1000) < 300


def coded(pairs: list[list[tuple[str, float]]]) -> Scene:
    """A Gaussian for each list of names and weights."""
    book = lexicon_codebook()
    ids = np.array([[book.names.index(name) for name, _ in one] for one in pairs], np.int16)
    weights = np.array([[weight for _, weight in one] for one in pairs], np.float32)
    room = small_room()[: len(pairs)]
    return replace(room, codes=codes.from_pairs(ids, weights, 4), instances=None)


def test_a_known_name_is_the_row_that_there_is():
    room = small_room()
    after = Label("desk").apply(room, TABLE)
    assert after.codebook is not None
    assert after.codes is not None
    assert room.codebook is not None
    assert room.codes is not None
    assert after.codebook.names == room.codebook.names
    row = room.codebook.names.index("desk")
    assert (after.codes.ids[:300, 0] == row).all()
    assert (after.codes.weights[:300, 0] == 1).all()
    assert after.codebook.counts[row] == room.codebook.counts[row] + 300
    for name, old in vars(room.codes).items():
        np.testing.assert_array_equal(getattr(after.codes, name)[300:], old[300:])
    np.testing.assert_array_equal(select(after, "desk"), TABLE)
    assert not select(after, "sofa")[:300].any()


def test_a_word_that_the_lexicon_knows_makes_a_row_that_its_words_find():
    book = lexicon_codebook()
    assert "couch" not in book.names
    after = Label("couch").apply(small_room(), TABLE)
    assert after.codebook is not None
    validate(after.codebook)
    assert after.codebook.names[-1] == "couch"
    assert missing_spaces(after.codebook, "couch") == []
    found = after.query("sofa")
    assert {hit.name for hit in found.hits} == {"couch", "sofa"}
    assert select(after, "couch")[:300].all()


def test_a_word_for_several_rows_is_found_by_each():
    after = Label("lamp").apply(small_room(), TABLE)
    for word in ("lamp", "floor lamp", "ceiling light"):
        np.testing.assert_array_equal(select(after, word), TABLE)
    assert not select(after, "sofa")[:300].any()


@pytest.mark.parametrize("name", ["Bob's gizmo", "piano", "椅子", "🪑", "chair table", "(.*"])
def test_a_name_that_only_the_scene_has_is_found_to_the_letter(name):
    after = Label(name).apply(small_room(), TABLE)
    assert after.codebook is not None
    assert after.codes is not None
    validate(after.codebook)
    assert missing_spaces(after.codebook, name) == []
    assert not after.codebook.spaces[LEXICON][-1].any()
    for asked in (name, f" {name.upper()} "):
        np.testing.assert_array_equal(select(after, asked), TABLE)
    assert [hit.name for hit in after.query(name).hits] == [name]
    assert select(after, name, level="whole").any()
    for other in ({"text": f"{name} x"}, {"text": name, "level": "part"}):
        with pytest.raises(UsageError):
            select(after, **other)
    assert (after.codes.ids[:300, 0] == len(after.codebook) - 1).all()
    # The same name again is the same row.
    again = Label(name).apply(after, ~TABLE)
    assert again.codebook is not None
    assert again.codebook.names == after.codebook.names


def test_spaces_of_no_known_tower_get_no_embedding():
    room = small_room()
    assert room.codebook is not None
    toy = np.zeros((len(room.codebook), 3), np.float16)
    toy[:, 0] = 1
    book = replace(room.codebook, spaces={**room.codebook.spaces, "toy": toy})
    after = Label("couch").apply(replace(room, codebook=book), TABLE)
    assert after.codebook is not None
    assert missing_spaces(after.codebook, "couch") == ["toy"]
    assert missing_spaces(after.codebook, "sofa") == []
    assert after.codebook.spaces["toy"].shape == (len(book) + 1, 3)


def test_evidence_of_other_levels_stays():
    scene = coded(
        [
            [("chair", 0.5), ("table", 0.25), ("leg", 0.25)],
            [("leg", 0.75), ("red", 0.25), ("seat", 0.0)],
        ]
    )
    after = Label("sofa").apply(scene, np.ones(2, bool))
    assert after.codes is not None
    assert after.codebook is not None
    names = np.array([*after.codebook.names, ""])[after.codes.ids]
    assert names[0, :2].tolist() == ["sofa", "leg"]
    np.testing.assert_allclose(after.codes.weights[0], [0.75, 0.25, 0, 0], atol=1e-3)
    # Nothing was known of the whole: half of all evidence is now the label's.
    assert names[1, :3].tolist() == ["sofa", "leg", "red"]
    np.testing.assert_allclose(after.codes.weights[1], [0.5, 0.375, 0.125, 0], atol=1e-3)
    part = Label("arm").apply(scene, np.ones(2, bool))
    assert part.codes is not None
    assert part.codebook is not None
    row = row_of(part.codebook, "arm", "part")
    assert row is not None
    assert (part.codes.ids == row).any(axis=1).all()
    assert (part.codes.ids == part.codebook.names.index("chair")).any()


def test_norms_follow_the_new_codes():
    scene = coded([[("chair", 0.5), ("leg", 0.5)]])
    after = Label("sofa").apply(scene, np.ones(1, bool))
    assert after.codes is not None
    np.testing.assert_allclose(after.codes.norms, [np.sqrt(0.5)], atol=1e-3)


def test_a_new_instance_has_a_number_of_its_own():
    room = small_room()
    after = Label("lamp", new_instance=True).apply(room, TABLE)
    assert after.instances is not None
    assert room.instances is not None
    assert (after.instances[TABLE] == 3).all()
    np.testing.assert_array_equal(after.instances[~TABLE], room.instances[~TABLE])
    bare = Label("lamp", new_instance=True).apply(replace(room, instances=None), TABLE)
    assert bare.instances is not None
    np.testing.assert_array_equal(bare.instances, np.where(TABLE, 0, NO_ID))


def test_a_scene_without_meaning_begins_with_the_lexicon():
    bare = replace(small_room(), codes=None, codebook=None, instances=None)
    after = Label("lamp").apply(bare, TABLE)
    assert after.codes is not None
    np.testing.assert_array_equal(select(after, "lamp"), TABLE)
    assert (after.codes.ids[~TABLE] == NO_ID).all()
    assert Label("lamp").apply(bare, np.zeros(1000, bool)) is bare


def test_embeddings_are_those_of_the_lexicon():
    book = lexicon_codebook()
    sofa = embedding_of("couch", LEXICON, len(book))
    assert sofa is not None
    np.testing.assert_array_equal(sofa, np.eye(len(book))[book.names.index("sofa")])
    assert embedding_of("sofa", LEXICON, 3) is None  # a table that did not have the word yet


def test_embeddings_of_a_text_tower_are_the_mean_of_its_prompts(monkeypatch, tmp_path):
    monkeypatch.setenv("FFSPLAT_CACHE", str(tmp_path))
    space = "open_clip:ViT-B-32/openai"

    def tower(self, phrases):
        assert self.offline
        return np.eye(4, dtype=np.float32)[[0 if phrase == "piano" else 1 for phrase in phrases]]

    monkeypatch.setattr(OpenClipSpace, "_embedded", tower)
    found = embedding_of("piano", space, 4)
    assert found is not None
    np.testing.assert_allclose(found, np.sqrt([0.5, 0.5, 0, 0]), atol=1e-6)
    assert embedding_of("piano", space, 3) is None

    def absent(self, phrases):
        raise WeightsMissing("no weights here")

    monkeypatch.setattr(OpenClipSpace, "_embedded", absent)
    assert embedding_of("harp", space, 4) is None
    assert embedding_of("x" * 501, space, 4) is None


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 501])
def test_names_that_are_none_are_refused(name):
    with pytest.raises(UsageError, match="no name"):
        Label(name)
    with pytest.raises(UsageError, match="level"):
        Label("chair", level="appearance")
