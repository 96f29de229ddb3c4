from dataclasses import replace

import numpy as np
import pytest

from ffsplat import codes, query, text
from ffsplat.codebook import add_space, lexicon_codebook, lexicon_rows
from ffsplat.errors import SceneFileError, UnknownWord, UsageError
from ffsplat.query import question
from ffsplat.types import SH_C0, Codebook, Gaussians, Scene
from tests.toyspaces import FakeSpace, Words

ROW = {row.name: i for i, row in enumerate(lexicon_rows())}
RED, BLUE = (0.8, 0.1, 0.1), (0.1, 0.2, 0.8)


def thing(pairs: dict[str, float], instance=-1, color=RED, count=10, at=(0.0, 0.0, 0.0)) -> dict:
    """`count` equal Gaussians around a place."""
    return {"pairs": pairs, "instance": instance, "color": color, "count": count, "at": at}


def scene_of(*things: dict, codebook: Codebook | None = None, k: int = 4) -> Scene:
    """A scene of such things, one after the other, each Gaussian one step further along x."""
    counts = [t["count"] for t in things]
    n = sum(counts)
    ids, weights = np.full((len(things), k), -1), np.zeros((len(things), k))
    for i, t in enumerate(things):
        ids[i, : len(t["pairs"])] = [ROW[name] for name in t["pairs"]]
        weights[i, : len(t["pairs"])] = list(t["pairs"].values())
    means = np.repeat([t["at"] for t in things], counts, axis=0).astype(np.float32)
    means[:, 0] += np.concatenate([np.arange(count) for count in counts])
    colors = np.repeat([t["color"] for t in things], counts, axis=0)
    return Scene(
        gaussians=Gaussians(
            means=means,
            scales=np.ones((n, 3), np.float32),
            quaternions_wxyz=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
            opacities=np.ones(n, np.float32),
            sh=((colors - 0.5) / SH_C0)[:, None].astype(np.float32),
        ),
        codes=codes.from_pairs(ids, weights, k)[np.repeat(np.arange(len(things)), counts)],
        instances=np.repeat([t["instance"] for t in things], counts).astype(np.int32),
        codebook=codebook or lexicon_codebook(),
    )


def found(result) -> list[tuple[str, int]]:
    return [(hit.name, hit.instance) for hit in result.hits]


@pytest.fixture
def room() -> Scene:
    return scene_of(
        thing({"wall": 0.5, "surface": 0.5}, color=(0.9, 0.9, 0.9), count=40),
        thing({"chair": 0.5, "seat": 0.5}, instance=3, at=(0, 1, 0)),
        thing({"chair": 0.3, "sofa": 0.2, "leg": 0.5}, instance=3, at=(0, 2, 0)),
        thing({"armchair": 0.5, "seat": 0.5}, instance=8, color=BLUE, at=(0, 3, 0)),
        thing({"table": 0.5, "leg": 0.5}, instance=5, at=(0, 4, 0)),
    )


def test_score_is_the_share_of_a_level(room):
    scores = query.query(room, "chair").scores
    np.testing.assert_allclose(scores[40:70:10], [1, 0.6, 1], atol=1e-3)
    np.testing.assert_array_equal(scores[:40], 0)


def test_score_equals_that_of_the_code_cut_to_the_level(room):
    """Two ways to the same share: a ratio of scores, or the score of the rescaled code."""
    rng = np.random.default_rng(0)
    code = codes.from_pairs(rng.integers(0, 120, (80, 6)), rng.random((80, 6)), 6)
    scene = Scene(room.gaussians, code, room.instances, room.codebook)
    whole = codes.keep_rows(code, room.codebook.levels == 0)
    marks = text.LexiconSpace().encode(["furniture"])[0]
    np.testing.assert_allclose(
        query.query(scene, "furniture").scores, codes.score(whole, marks), atol=2e-3
    )


def test_hits_are_instances_ranked_by_their_mean(room):
    result = query.query(room, "chair")
    assert found(result) == [("armchair", 8), ("chair", 3)]
    assert [hit.count for hit in result.hits] == [10, 20]
    np.testing.assert_allclose([hit.score for hit in result.hits], [1, 0.8], atol=1e-3)


def test_a_hit_says_where_it_is(room):
    hit = query.query(room, "table").hits[0]
    np.testing.assert_array_equal(hit.rows, np.arange(70, 80))
    np.testing.assert_array_equal(hit.minimum, [0, 4, 0])
    np.testing.assert_array_equal(hit.maximum, [9, 4, 0])
    np.testing.assert_allclose(hit.center, [4.5, 4, 0])


def test_center_is_weighted_by_opacity(room):
    room.gaussians.opacities[71:80] = 0
    np.testing.assert_allclose(query.query(room, "table").hits[0].center, [0, 4, 0])


def with_meaning(room: Scene, opacities: np.ndarray) -> Scene:
    return replace(room, gaussians=replace(room.gaussians, meaning_opacities=opacities))


def test_center_is_weighted_by_the_opacity_for_meaning_where_there_is_one(room):
    room.gaussians.opacities[70:79] = 0
    opacities = np.ones(len(room), np.float32)
    opacities[71:80] = 0
    found = query.query(with_meaning(room, opacities), "table")
    np.testing.assert_allclose(found.hits[0].center, [0, 4, 0])


def test_a_part_of_a_whole_is_the_product(room):
    result = query.query(room, "chair leg")
    assert found(result) == [("chair leg", 3)]
    np.testing.assert_array_equal(result.hits[0].rows, np.arange(50, 60))
    assert result.hits[0].score == pytest.approx(0.6, abs=1e-3)
    assert found(query.query(room, "legs")) == [("leg", 3), ("leg", 5)]


def test_level_narrows_a_phrase(room):
    assert found(query.query(room, "chair leg", level="whole"))[0] == ("armchair", 8)
    assert found(query.query(room, "chair leg", level="part")) == [("leg", 3), ("leg", 5)]
    with pytest.raises(UsageError, match="nothing of level part"):
        query.query(room, "chair", level="part")
    with pytest.raises(UsageError, match="unknown level"):
        query.query(room, "chair", level="appearance")


def test_color_must_match_too(room):
    assert found(query.query(room, "red chair")) == [("red chair", 3)]
    assert found(query.query(room, "blue chair")) == [("blue armchair", 8)]
    assert found(query.query(room, "green chair")) == []


def test_color_is_voted_by_the_instance():
    scene = scene_of(
        thing({"sofa": 1}, instance=0, color=RED, count=8),
        thing({"sofa": 1}, instance=0, color=BLUE, count=2),
        thing({"cushion": 1}, instance=0, color=BLUE, count=30),
    )
    red = query.query(scene, "red sofa")
    np.testing.assert_allclose(red.scores[:10], 0.8, atol=1e-6)
    assert [(hit.name, hit.count) for hit in red.hits] == [("red sofa", 10)]
    assert query.query(scene, "blue sofa").hits == ()


def test_a_bare_color_finds_things_of_it(room):
    assert found(query.query(room, "blue")) == [("blue armchair", 8)]


def test_without_instance_one_hit_a_name(room):
    scene = scene_of(thing({"sofa": 1}), thing({"table": 1}), thing({"sofa": 1}))
    assert found(query.query(scene, "furniture")) == [("sofa", -1), ("table", -1)]
    bare = Scene(scene.gaussians, scene.codes, None, scene.codebook)
    assert [hit.count for hit in query.query(bare, "furniture").hits] == [20, 10]
    np.testing.assert_array_equal(
        query.query(bare, "sofa").hits[0].rows, [*range(10), *range(20, 30)]
    )


def test_little_support_is_no_hit():
    scene = scene_of(
        thing({"chair": 1}, instance=1, count=4),
        thing({"chair": 1}, instance=2, count=9),
        thing({"table": 1}, instance=2, count=91),
        thing({"chair": 1}, instance=3, count=11),
        thing({"table": 1}, instance=3, count=89),
    )
    assert found(query.query(scene, "chair")) == [("chair", 3)]
    assert found(query.query(scene, "chair", min_count=1)) == [("chair", 1), ("chair", 3)]
    assert found(query.query(scene, "chair", min_count=1, max_hits=1)) == [("chair", 1)]


def test_threshold_is_the_users(room):
    assert found(query.query(room, "sofa")) == []
    result = query.query(room, "sofa", threshold=0.35)
    assert (found(result), result.threshold) == ([("sofa", 3)], 0.35)


@pytest.mark.parametrize("threshold", [np.nan, np.inf, -np.inf])
def test_a_threshold_is_a_number(room, threshold):
    with pytest.raises(UsageError, match="threshold"):
        query.query(room, "chair", threshold=threshold)


def test_the_centre_of_a_hit_far_away_is_finite():
    scene = scene_of(thing({"chair": 1}, at=(3e38, -3e38, 0)))
    (hit,) = query.query(scene, "chair").hits
    np.testing.assert_allclose(hit.center, [3e38, -3e38, 0], rtol=1e-6)


def test_huge_instance_numbers_take_no_memory(room):
    room.instances[room.instances == 8] = 2**31 - 1
    assert ("armchair", 2**31 - 1) in found(query.query(room, "chair"))


def test_hard_ids_work(room):
    scene = Scene(room.gaussians, codes.truncate(room.codes, 1), room.instances, room.codebook)
    assert ("table", 5) in found(query.query(scene, "table"))


def test_no_evidence_never_matches():
    scene = scene_of(thing({}, count=10), thing({"sofa": 1}, instance=2))
    result = query.query(scene, "sofa", threshold=0.0)
    np.testing.assert_array_equal(result.scores[:10], 0)
    assert found(result) == [("sofa", 2)]


def test_an_empty_scene_has_no_hits(room):
    empty = room[np.zeros(len(room), bool)]
    assert query.query(empty, "chair").hits == ()
    assert query.most_common(empty) == []


def test_scenes_without_codes_are_refused(room):
    for scene in (Scene(room.gaussians), Scene(room.gaussians, room.codes)):
        with pytest.raises(SceneFileError) as caught:
            query.query(scene, "chair")
        assert "codebook" in (caught.value.hint or "")
        with pytest.raises(SceneFileError):
            query.most_common(scene)


def test_bad_texts_and_spaces_are_refused(room):
    with pytest.raises(UnknownWord):
        query.query(room, "chiar")
    with pytest.raises(UsageError, match="no text space"):
        query.query(room, "chair", space="colors")


def test_other_spaces_score_by_cosine(room, monkeypatch):
    rng = np.random.default_rng(0)
    book = add_space(room.codebook, "fake", rng.standard_normal((len(room.codebook), 16)))
    scene = Scene(room.gaussians, room.codes, room.instances, book)
    rows = book.spaces["fake"].astype(np.float64)
    vector = rows[ROW["table"]] / np.linalg.norm(rows[ROW["table"]])
    monkeypatch.setattr(question, "text_space", lambda _: FakeSpace(vector))

    def explicit(code):
        features = codes.to_dense(code, len(book)) @ rows
        return features @ vector / np.linalg.norm(features, axis=1)

    result = query.query(scene, "anything", space="fake")
    np.testing.assert_allclose(result.scores, explicit(scene.codes), atol=1e-3)
    assert result.threshold == query.COSINE_THRESHOLD
    whole = query.query(scene, "anything", space="fake", level="whole", threshold=0.9)
    cut = codes.keep_rows(scene.codes, book.levels == 0)
    np.testing.assert_allclose(whole.scores, explicit(cut), atol=1e-3)
    assert found(whole) == [("table", 5)]


def test_relevancy_is_the_least_softmax_against_a_canonical_phrase():
    rng = np.random.default_rng(1)
    positive, canon = rng.uniform(-1, 1, 30), rng.uniform(-1, 1, (30, 4))
    pairs = np.exp(10 * np.stack([np.repeat(positive[:, None], 4, 1), canon]))
    expected = (pairs[0] / pairs.sum(0)).min(1)
    found = query.relevancy(positive.astype(np.float32), canon.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    even = query.relevancy(np.float32([0.3]), np.float32([[0.3, 0.1]]))
    np.testing.assert_allclose(even, [0.5])


def test_an_open_clip_space_is_made_of_names_and_scored_by_relevancy(room):
    space = Words()
    result = query.query(room, "table", space=space)
    assert result.threshold == query.RELEVANCY_THRESHOLD
    prompts = [[template.format(name) for template in text.TEMPLATES] for name in ROW]
    rows = np.array([space.encode(two).mean(0) for two in prompts])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    features = codes.to_dense(room.codes, len(room.codebook)) @ rows
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    positive = features @ space.encode(["table"])[0]
    canon = features @ space.encode(["object", "things", "stuff", "texture"]).T
    expected = 1 / (1 + np.exp(-10 * (positive - canon.max(1))))
    np.testing.assert_allclose(result.scores, expected, atol=5e-3)
    assert found(result)[0] == ("table", 5)


def test_gaussians_without_evidence_are_never_relevant():
    scene = scene_of(thing({}, count=10), thing({"sofa": 1}, instance=2))
    result = query.query(scene, "sofa", space=Words(), threshold=0.0)
    np.testing.assert_array_equal(result.scores[:10], 0)


def test_a_saved_text_gives_what_the_text_gives(room):
    book = query.with_space(room.codebook, Words())
    scene = replace(room, codebook=book)
    saved = text.embed("table", Words())
    expected = query.query(scene, "table", space=Words())
    for space in (None, Words.name, Words()):
        result = query.query(scene, saved, space=space)
        np.testing.assert_array_equal(result.scores, expected.scores)
        assert result.threshold == expected.threshold


def test_a_saved_vector_alone_is_scored_by_cosine_in_the_one_space_that_it_can_be_of(room):
    scene = replace(room, codebook=query.with_space(room.codebook, Words()))
    vector = Words().encode(["table"])
    bare = text.TextEmbedding("table", "", vector[0], vector[1:])
    result = query.query(scene, bare)
    assert result.threshold == query.COSINE_THRESHOLD
    assert found(result)[0] == ("table", 5)


@pytest.mark.parametrize(
    ("changes", "space", "error", "message"),
    [
        ({"space": "other"}, Words.name, UsageError, "embedded in 'other'"),
        ({"space": "other"}, None, UsageError, "unknown text space 'other'"),
        ({"vector": np.ones(8), "canon": np.ones((4, 8))}, None, SceneFileError, "64 numbers"),
        ({"space": ""}, None, UsageError, "does not say"),
    ],
)
def test_a_saved_text_of_another_space_is_refused(room, changes, space, error, message):
    book = room.codebook
    if changes != {"space": ""}:
        book = query.with_space(book, Words())
    saved = replace(text.embed("table", Words()), **{
        key: np.asarray(value, np.float32) if key != "space" else value
        for key, value in changes.items()
    })  # fmt: skip
    with pytest.raises(error, match=message):
        query.query(replace(room, codebook=book), saved, space=space)


def test_a_text_of_another_size_is_refused(room, monkeypatch):
    book = add_space(room.codebook, "fake", np.ones((len(room.codebook), 16)))
    monkeypatch.setattr(question, "text_space", lambda _: FakeSpace(np.ones(8)))
    with pytest.raises(SceneFileError, match="16 numbers, its texts 8"):
        query.query(Scene(room.gaussians, room.codes, None, book), "x", space="fake")


def test_a_codebook_of_fewer_lexicon_rows_still_answers(room):
    """An older scene: its lexicon ends before the rows that were appended since."""
    full = room.codebook
    old = Codebook(
        full.names[:120],
        full.levels[:120],
        full.parents[:120],
        full.counts[:120],
        {"lexicon": full.spaces["lexicon"][:120, :120]},
    )
    scene = Scene(room.gaussians, room.codes, room.instances, old)
    assert found(query.query(scene, "red chair leg")) == [("red chair leg", 3)]


def test_most_common_things_leave_structure_out(room):
    names, shares = zip(*query.most_common(room, n=3), strict=True)
    assert names == ("chair", "armchair", "table")
    np.testing.assert_allclose(shares, [16 / 80, 10 / 80, 10 / 80], atol=2e-3)


def test_most_common_counts_opacity(room):
    room.gaussians.opacities[40:60] = 0.01
    assert query.most_common(room, n=1)[0][0] == "armchair"


def test_most_common_counts_the_opacity_for_meaning_where_there_is_one(room):
    opacities = np.ones(len(room), np.float32)
    opacities[40:60] = 0.01
    assert query.most_common(with_meaning(room, opacities), n=1)[0][0] == "armchair"
    room.gaussians.opacities[40:60] = 0.01
    visible = with_meaning(room, np.ones(len(room), np.float32))
    assert query.most_common(visible, n=1)[0][0] == "chair"


def test_most_common_falls_back_to_structure():
    scene = scene_of(thing({"wall": 1}), thing({"floor": 1}, count=20))
    assert [name for name, _ in query.most_common(scene)] == ["floor", "wall"]


def test_a_sure_handful_comes_after_a_thing_of_many():
    scene = scene_of(
        thing({"chair": 0.5, "seat": 0.5}, instance=1, count=8),
        thing({"chair": 0.4, "sofa": 0.1, "seat": 0.5}, instance=0, count=500),
        thing({"wall": 0.5, "surface": 0.5}, count=4492),
    )
    hits = query.query(scene, "chair").hits
    # Counts half at 0.2 % of 5000 Gaussians: 0.8 * 500 / 510 against 1 * 8 / 18.
    assert [(hit.instance, hit.count) for hit in hits] == [(0, 500), (1, 8)]
    np.testing.assert_allclose([hit.score for hit in hits], [0.8, 1], atol=1e-3)


@pytest.mark.parametrize("strategy", [None, "cosine", "hyperplane", "part-in-whole"])
def test_words_of_place_lead_to_referring(strategy):
    text = "the chair left of the table"
    with pytest.raises(UnknownWord, match="'left'") as caught:
        query.query(scene_of(thing({"chair": 1})), text, strategy=strategy)
    assert "--strategy refer" in str(caught.value.hint)


def test_who_does_not_know_a_thing_is_led_to_its_neighbours():
    with pytest.raises(UnknownWord, match="'zebra'") as caught:
        query.query(scene_of(thing({"chair": 1})), "the chair left of a zebra", strategy="refer")
    assert "refer" not in str(caught.value.hint)
    with pytest.raises(UnknownWord) as caught:
        query.query(scene_of(thing({"chair": 1})), "tabel")
    assert "table" in str(caught.value.hint)
