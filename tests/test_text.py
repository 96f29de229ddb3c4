import json
import sys

import numpy as np
import pytest

from ffsplat.codebook import lexicon_rows
from ffsplat.errors import UnknownWord, UsageError, WeightsMissing
from ffsplat.text import LexiconSpace, OpenClipSpace, plural_of, rows_under, text_space

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


def test_unknown_open_clip_weights_are_refused():
    with pytest.raises(UsageError, match="no model"):
        OpenClipSpace("ViT-B-32", "no-such-tag").encode(["chair"])


def test_missing_open_clip_weights_are_named(monkeypatch):
    import open_clip

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(WeightsMissing, match="no network"):
        OpenClipSpace("ViT-B-32", "laion2b_s34b_b79k").encode(["chair"])


def test_open_clip_encodes_with_the_text_tower(tmp_path, monkeypatch):
    import open_clip
    import torch

    tower = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 8, "head_width": 4, "patch_size": 16}
    config = {"embed_dim": 6, "vision_cfg": vision, "text_cfg": tower}
    (tmp_path / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    model = open_clip.create_model("tiny-clip").eval()
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda _: ["random"])
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: model)

    space = text_space("open_clip:tiny-clip/random")
    vectors = space.encode(["a red chair", "sofa"])
    with torch.inference_mode():
        raw = model.encode_text(open_clip.get_tokenizer("tiny-clip")(["sofa"])).numpy()
    assert vectors.shape == (2, 6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[1:], raw / np.linalg.norm(raw), atol=1e-5)


def test_the_lexicon_needs_neither_torch_nor_numba():
    import subprocess

    program = (
        "import sys, ffsplat.query, ffsplat.text as t; t.LexiconSpace().encode(['chair']);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numba', 'open_clip')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
