"""Meaning lifted from another network: labels that are known come back, in one pass or several."""

import numpy as np
import pytest
import torch

from ffsplat import api
from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.embeddings import TextEmbedding
from ffsplat.errors import UsageError
from ffsplat.images import load_views
from ffsplat.model import FFSplat
from ffsplat.semantics.dense import DenseClip
from ffsplat.semantics.vocabulary import OpenVocabulary, dense_clip
from tests.semantics.test_dense import clip, dense

CONFIG = ModelConfig(
    name="tiny", resolution=48, width=16, heads=1, view_blocks=1, cross_blocks=2, match_block=2,
    registers=1, decoder=(8, 8, 8), match_width=8, code_width=8,
)  # fmt: skip
SPACE = "open_clip:toy/own"


class Painted(DenseClip):
    """Sees two things without a network: one in the left half of a view, one in the right."""

    name = SPACE  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    things = np.eye(6, dtype=np.float32)[:2]

    def __init__(self):
        pass

    def features(self, images, valid, affinity):
        views, _, height, width = images.shape
        half = np.arange(width // 8) * 8 >= width // 2
        return np.broadcast_to(self.things[half.astype(int)], (views, height // 8, width // 8, 6))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return FFSplat(CONFIG)


def photos(count: int = 2) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    left_right = np.repeat(np.array([[40, 200]], np.uint8), 24, axis=1)[None, ..., None]
    noise = generator.integers(0, 20, (count, 48, 48, 3), dtype=np.uint8)
    return list(np.broadcast_to(left_right, (count, 48, 48, 3)) + noise)


def model(network, features) -> api.Model:
    return api.Model(network, lexicon_codebook(), dtype="float32", device="cpu", dense=features)


def in_order(scene) -> np.ndarray:
    """0 for Gaussians that are most of all the first painted thing, 1 for the second."""
    rows = scene.codebook.spaces[SPACE].astype(np.float32)
    return rows[scene.codes.ids[:, 0]].argmax(axis=1)


def test_what_was_painted_comes_back_on_the_gaussians(network):
    options = {"refine": False, "min_confidence": 0.0, "prune_edges": False}
    result = model(network, Painted()).infer_with_report(photos(), **options)
    scene = result.scene
    assert len(scene.codebook) == 2
    assert scene.codebook.names == ("", "")
    np.testing.assert_allclose(np.sort(scene.codebook.spaces[SPACE].argmax(1)), [0, 1])
    bright = scene.gaussians.colors.mean(axis=1) > 0.5
    assert (in_order(scene) == bright).mean() > 0.97
    assert "meaning" in result.report.seconds


def test_rows_keep_their_ids_from_pass_to_pass(network):
    options = {"refine": False, "min_confidence": 0.0, "prune_edges": False}
    one = model(network, Painted()).infer(photos(6), chunk_views=6, **options)
    several = model(network, Painted()).infer(photos(6), chunk_views=3, **options)
    assert len(several.codebook) == len(one.codebook) == 2
    bright = several.gaussians.colors.mean(axis=1) > 0.5
    assert (in_order(several) == bright).mean() > 0.97
    np.testing.assert_allclose(several.codes.norms[several.codes.ids[:, 1] < 0], 1, atol=2e-3)


def test_an_embedded_text_finds_what_it_is_like(network):
    scene = model(network, Painted()).infer(photos(), refine=False, min_confidence=0.0)
    right = TextEmbedding("right", SPACE, Painted.things[1], np.zeros((0, 6), np.float32))
    found = scene.query(right, threshold=0.9, max_hits=1000)
    rows = np.concatenate([hit.rows for hit in found.hits])
    assert (in_order(scene)[rows] == 1).all()
    assert len(rows) > 0.3 * len(scene)


class Halves:
    """A generator of masks that cuts every photo in two, a little left of where the things meet."""

    def generate(self, image):
        left = np.zeros(image.shape[:2], bool)
        left[:, : image.shape[1] // 2 - 2] = True
        return [{"segmentation": left}, {"segmentation": ~left}]


def test_masks_say_where_a_thing_ends(network):
    masked = model(network, Painted())
    masked.masks = Halves()
    options = {"refine": False, "min_confidence": 0.0, "prune_edges": False, "consistent": False}
    scene = masked.infer(photos(1), **options)
    columns = np.tile(np.arange(48), 48)
    apart = np.abs(columns - 21.5) > 2  # cells in which views vote reach across an edge
    np.testing.assert_array_equal(in_order(scene)[apart], columns[apart] >= 22)
    assert len(np.unique(scene.instances)) == 2


@pytest.mark.parametrize("chunk_views", [6, 3])
def test_hard_ids_give_each_object_a_row_of_its_own(network, chunk_views):
    hard = model(network, Painted())
    hard.masks = Halves()
    options = {"refine": False, "min_confidence": 0.0, "prune_edges": False, "hard_ids": True}
    scene = hard.infer(photos(6), chunk_views=chunk_views, **options)
    assert (scene.codes.ids[:, 1:] == -1).all()
    rows_of_object = {
        number: set(scene.codes.ids[scene.instances == number, 0])
        for number in np.unique(scene.instances)
    }
    if chunk_views == 6:  # later passes bring rows of their own for objects that go on
        assert all(len(rows) == 1 for rows in rows_of_object.values())
    bright = scene.gaussians.colors.mean(axis=1) > 0.5
    assert (in_order(scene) == bright).mean() > 0.9


def test_hard_ids_need_something_that_lifts_meaning(network):
    plain = api.Model(network, lexicon_codebook(), dtype="float32", device="cpu")
    with pytest.raises(UsageError, match="no objects to name"):
        plain.infer(photos(), hard_ids=True)


def test_a_random_network_gives_a_valid_scene(network, tmp_path):
    scene = model(network, dense()).infer(photos(3))
    assert scene.codebook.spaces[SPACE].shape[1] == clip().model.visual.output_dim
    assert ((scene.codes.ids >= -1) & (scene.codes.ids < len(scene.codebook))).all()
    scene.save(tmp_path / "scene.ply")
    again = type(scene).load(tmp_path / "scene.ply")
    np.testing.assert_array_equal(again.codes.ids, scene.codes.ids)


def test_finish_lets_rows_go_that_were_merged(network):
    vocabulary = OpenVocabulary(Painted())
    net = model(network, Painted())
    views = load_views(photos(), resolution=48, patch=8).views
    prediction = net.predict(views)
    sure = np.ones(views.valid.shape, np.float32)
    meaning = vocabulary.label(prediction, views, sure)
    vocabulary.bank._take_in(0, np.array([1]))
    code = api.to_scene(prediction, views, None, meaning=meaning)
    finished = vocabulary.finish(code)
    assert len(finished.codebook) == 1
    assert set(np.unique(finished.codes.ids)) <= {-1, 0}


def test_the_lexicon_sees_no_photos():
    with pytest.raises(UsageError, match="lexicon"):
        dense_clip("lexicon")
