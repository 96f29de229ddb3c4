import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from ffsplat import text as text_module
from ffsplat.codebook import lexicon_rows
from ffsplat.embeddings import EmbeddingCache
from ffsplat.errors import UnknownWord, UsageError, WeightsMissing
from ffsplat.text import (
    LexiconSpace,
    OpenClipSpace,
    add_text_space,
    counted,
    embed,
    plural_of,
    rows_under,
    text_space,
)
from ffsplat.types import Codebook

SPACE = LexiconSpace()


def names(text: str) -> dict[str, set[str]]:
    """Names of the rows that a phrase asks for, by level."""
    rows = SPACE.parse(text).rows
    return {level: {lexicon_rows()[row].name for row in ids} for level, ids in rows.items()}


@pytest.mark.parametrize("row", lexicon_rows(), ids=lambda row: row.name)
def test_every_name_and_synonym_finds_its_row(row):
    for term in (row.name, row.plural or row.name, *row.synonyms, *map(plural_of, row.synonyms)):
        assert row.name in names(f"the {term.upper()}!")[row.level]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a couch", {"whole": {"sofa"}}),
        ("TV-sets", {"whole": {"television"}}),
        ("all the bookshelves", {"whole": {"bookshelf"}}),
        ("chest of drawers", {"whole": {"dresser"}}),
        ("drawers", {"part": {"drawer"}}),
        ("table lamp", {"whole": {"table lamp"}}),
        ("lamps", {"whole": {"table lamp", "floor lamp", "ceiling lamp"}}),
        ("chairs", {"whole": {"chair", "armchair"}}),
        ("dining chair", {"whole": {"chair"}}),
        ("structure", {"whole": {"wall", "floor", "ceiling", "door", "window"}}),
        ("red chair", {"whole": {"chair", "armchair"}, "appearance": {"red"}}),
        ("light grey things", {"appearance": {"gray"}}),
        ("black white clock", {"whole": {"clock"}, "appearance": {"black", "white"}}),
        ("chair leg", {"whole": {"chair", "armchair"}, "part": {"leg"}}),
        ("the leg of a chair", {"whole": {"chair", "armchair"}, "part": {"leg"}}),
        ("the sofa\u2019s armrests", {"whole": {"sofa"}, "part": {"armrest"}}),
        ("  SETT\u00c9E  ", {"whole": {"sofa"}}),
    ],
)
def test_phrases(text, expected):
    assert names(text) == expected


def test_colors_of_a_phrase():
    assert SPACE.parse("navy blue crimson rug").colors == ("red", "blue")
    assert SPACE.parse("rug").colors == ()


def test_encode_marks_the_rows():
    marks = SPACE.encode(["red sofa leg", "furniture"])
    assert marks.shape == (2, len(lexicon_rows()))
    assert {lexicon_rows()[i].name for i in np.flatnonzero(marks[0])} == {"red", "sofa", "leg"}
    assert {lexicon_rows()[i].name for i in np.flatnonzero(marks[1])} == rows_under("furniture")
    assert set(marks.ravel()) == {0, 1}


@pytest.mark.parametrize(
    ("text", "word", "hint"),
    [
        ("chiar", "'chiar'", "chair"),
        ("red sofaa", "'sofaa'", "sofa"),
        ("chair on floor", "'on'", "known are words|did you mean"),
        ("\u6905\u5b50", "\u6905\u5b50", "known are words"),
    ],
)
def test_unknown_words_list_the_nearest(text, word, hint):
    with pytest.raises(UnknownWord, match=word) as caught:
        SPACE.parse(text)
    assert caught.value.hint is not None
    assert any(part in caught.value.hint for part in hint.split("|"))


def test_an_unknown_word_is_said_once():
    with pytest.raises(UnknownWord) as caught:
        SPACE.parse("tabel on a tabel")
    assert str(caught.value).count("tabel") == 1
    assert str(caught.value.hint).count("table") == 1


@pytest.mark.parametrize("text", ["", "?!", "the things", "chair table", "leg handle", "a" * 501])
def test_phrases_without_one_meaning_are_refused(text):
    with pytest.raises(UsageError):
        SPACE.parse(text)


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        ("wall", "walls"),
        ("bench", "benches"),
        ("box", "boxes"),
        ("glass", "glasses"),
        ("body", "bodies"),
        ("key", "keys"),
        ("book shelf", "book shelves"),
    ],
)
def test_plurals(singular, plural):
    assert plural_of(singular) == plural


def test_one_is_no_plural():
    said = [counted(count, "match") for count in (0, 1, 2, 12345)]
    assert said == ["0 matches", "1 match", "2 matches", "12,345 matches"]


def test_the_table_departs_from_the_rules_only_where_english_does():
    odd = [r.name for r in lexicon_rows() if r.plural and r.plural != plural_of(r.name)]
    assert odd == ["bookshelf", "keys", "foliage"]


@pytest.mark.parametrize("name", ["", "clip", "open_clip:ViT-B-32", "open_clip:/tag"])
def test_unknown_spaces_are_refused(name):
    with pytest.raises(UsageError, match="unknown text space"):
        text_space(name)


def test_spaces_by_name():
    assert text_space("lexicon").name == "lexicon"
    assert text_space("open_clip:ViT-B-32/laion2b_s34b_b79k").name.endswith("laion2b_s34b_b79k")


def test_unknown_open_clip_weights_are_refused(cache):
    with pytest.raises(UsageError, match="no weights 'no-such-tag' of ViT-B-32"):
        OpenClipSpace("ViT-B-32", "no-such-tag", cache=cache).encode(["chair"])


@pytest.fixture
def cache(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A tiny OpenCLIP with random weights as a folder of files."""
    import open_clip
    import safetensors.torch
    import torch

    tower = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 8, "head_width": 4, "patch_size": 16}
    config = {"embed_dim": 6, "vision_cfg": vision, "text_cfg": tower}
    path = tmp_path / "tiny-clip"
    path.mkdir()
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.manual_seed(0)
    weights = open_clip.CLIP(**config).state_dict()
    safetensors.torch.save_file(weights, path / "open_clip_model.safetensors")
    return path


def test_open_clip_encodes_with_the_text_tower(folder, cache):
    import open_clip
    import safetensors.torch
    import torch

    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    model = open_clip.CLIP(**config).eval()
    model.load_state_dict(safetensors.torch.load_file(folder / "open_clip_model.safetensors"))
    space = OpenClipSpace("", "", folder=folder, cache=cache)
    vectors = space.encode(["a red chair", "sofa", "a red chair"])
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a red chair", "sofa", "a red chair"])
    with torch.inference_mode():
        raw = model.encode_text(tokens).numpy()
    assert vectors.shape == (3, 6)
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert space.encode([]).shape[0] == 0


def test_a_folder_names_its_space_by_its_weights(folder, cache):
    space = OpenClipSpace("", "", folder=folder, cache=cache)
    digest = hashlib.sha256((folder / "open_clip_model.safetensors").read_bytes()).hexdigest()
    assert space.name == f"open_clip:tiny-clip/sha256-{digest[:16]}"
    assert OpenClipSpace.of_folder(folder).name == space.name


def test_a_phrase_is_embedded_once(folder, cache, monkeypatch):
    first = OpenClipSpace("", "", folder=folder, cache=cache).encode(["sofa", "lamp"])
    asked = []
    space = OpenClipSpace("", "", folder=folder, cache=cache)
    embedded = space._embedded
    monkeypatch.setattr(space, "_embedded", lambda some: asked.append(some) or embedded(some))
    again = space.encode(["lamp", "rug", "sofa"])
    assert asked == [["rug"]]
    np.testing.assert_array_equal(again[[2, 0]], first)


def test_a_text_tower_stays_loaded(folder, cache, monkeypatch):
    OpenClipSpace("", "", folder=folder, cache=cache).encode(["sofa"])
    monkeypatch.setattr(text_module, "load_clip_folder", None)
    assert OpenClipSpace("", "", folder=folder, cache=cache).encode(["lamp"]).shape == (1, 6)


def test_a_known_phrase_needs_no_weights(cache):
    """Neither the network nor open_clip is there: the cache answers."""
    vector = np.float32([0.6, 0.8])
    space = OpenClipSpace("ViT-B-32", "laion2b_s34b_b79k", cache=cache, offline=True)
    cache.put(space.name, {"sofa": vector})
    np.testing.assert_array_equal(space.encode(["sofa"]), [vector])
    with pytest.raises(WeightsMissing, match="not in the local cache"):
        space.encode(["lamp"])


@pytest.mark.parametrize(
    ("phrase", "message"),
    [("", "letters"), ("  ", "letters"), ("a" * 501, "letters"), ("s\udcf6fa", "is not text")],
)
def test_phrases_that_are_no_phrases_are_refused(phrase, message, cache):
    with pytest.raises(UsageError, match=message):
        OpenClipSpace("ViT-B-32", "laion2b_s34b_b79k", cache=cache).encode([phrase])


class Letters:
    """A space of letter counts, which can be added up by hand."""

    name = "open_clip:letters/2"

    def encode(self, phrases):
        counts = np.float32([[phrase.count("a"), phrase.count("o")] for phrase in phrases])
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_rows_are_made_of_their_names():
    book = Codebook(
        ("sofa", "", "sofa"),
        np.zeros(3, np.int8),
        np.full(3, -1, np.int16),
        np.zeros(3, np.float32),
        {"timm:x": np.eye(3, dtype=np.float16)},
    )
    rows = add_text_space(book, Letters()).spaces[Letters.name]
    # "sofa" has one of each letter, "a photo of a sofa." three of each: a, a, a and o, o, o, o.
    plain, prompt = np.array([1, 1]) / 2**0.5, np.array([3, 4]) / 5
    expected = (plain + prompt) / np.linalg.norm(plain + prompt)
    np.testing.assert_allclose(rows[[0, 2]], [expected] * 2, atol=1e-3)
    np.testing.assert_array_equal(rows[1], 0)


def test_rows_without_any_name_cannot_be_made():
    book = Codebook(
        ("",),
        np.zeros(1, np.int8),
        np.full(1, -1, np.int16),
        np.zeros(1, np.float32),
        {"open_clip:a/b": np.eye(1, dtype=np.float16)},
    )
    with pytest.raises(UsageError, match="no rows in open_clip:letters/2 and no names") as caught:
        add_text_space(book, Letters())
    assert caught.value.hint == "it has open_clip:a/b"


def test_canonical_phrases_come_with_free_text_alone():
    assert embed("sofa", LexiconSpace()).canon.shape[0] == 0

    class Fixed(Letters):
        def encode(self, phrases):
            return np.eye(len(phrases), dtype=np.float32)

    embedding = embed("sofa", Fixed())
    assert (embedding.text, embedding.space) == ("sofa", Fixed.name)
    np.testing.assert_array_equal(embedding.vector, np.eye(5)[0])
    np.testing.assert_array_equal(embedding.canon, np.eye(5)[1:])


def test_the_lexicon_needs_neither_torch_nor_numba():
    import subprocess

    program = (
        "import sys, ffsplat.query, ffsplat.text as t; t.LexiconSpace().encode(['chair']);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numba', 'open_clip')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
