"""The rooms that strategies are compared on, and what is counted."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from data.rooms import WHOLE_NAMES
from tests.query.rooms import lexicon_room
from train.clips import batch_from_clip
from train.evaluation import asking
from train.evaluation.clips import RoomClips
from train.evaluation.label_features import Corruption, label_vectors


def test_texts_are_as_far_from_images_as_those_of_clip():
    random = np.random.default_rng(0)
    vectors = label_vectors(60, asking.WIDTH, random)
    texts = asking.texts_of(vectors[: len(WHOLE_NAMES)], random)
    cosines = np.stack([text.vector for text in texts]) @ vectors[: len(texts)].T
    own = np.eye(len(texts), dtype=bool)
    assert cosines[own].mean() == pytest.approx(asking.OWN, abs=0.01)
    assert cosines[~own].mean() == pytest.approx(asking.OTHER, abs=0.01)
    canon = texts[0].canon @ vectors[: len(texts)].T
    assert canon.mean() == pytest.approx(asking.OTHER, abs=0.02)
    assert canon.std() == pytest.approx(asking.CANON_SPREAD, abs=0.02)
    for text in texts[:3]:
        np.testing.assert_allclose(np.linalg.norm([text.vector, *text.canon], axis=1), 1, rtol=1e-5)


def test_overlap_is_of_union():
    found, meant = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 0], bool)
    assert asking.overlap(found, meant) == pytest.approx(1 / 3)
    assert asking.overlap(~found & found, ~meant & meant) == 0


def test_the_mean_is_over_the_labels_that_are_there(monkeypatch):
    """Ten of forty tables are called chairs: 40 of 50 and 30 of 40 are right."""
    scene = lexicon_room([{"chair": 1.0}] * 50 + [{"table": 1.0}] * 30)
    chair, table = WHOLE_NAMES.index("chair"), WHOLE_NAMES.index("table")
    whole = np.repeat([chair, table], 40)
    room = asking.Room(scene, whole, np.zeros(80, int), WHOLE_NAMES)
    monkeypatch.setitem(asking.WAYS, "words", {"lexicon": ("lexicon", {})})
    (measured,) = asking.measure([room], "words").values()
    assert measured == (pytest.approx((40 / 50 + 30 / 40) / 2), 0.0)


def test_a_lifted_room_has_one_gaussian_a_pixel_and_says_something_of_each():
    clips = RoomClips(range(2**30 + 4096, 2**30 + 4097), 2, 64, None, torch.device("cpu"))
    batch = batch_from_clip(clips[0], np.arange(2), (64, 64))
    room = asking.lifted_room(batch, Corruption(), np.random.default_rng(0))
    assert len(room.scene) == len(room.whole) == len(room.part) == 2 * 64 * 64
    assert (room.scene.codes.norms > 0).mean() > 0.99
    assert np.bincount(room.whole).argmax() == WHOLE_NAMES.index("wall")


def test_the_command_prints_a_row_a_way(monkeypatch):
    for kind, ways in asking.WAYS.items():
        monkeypatch.setitem(asking.WAYS, kind, dict(list(ways.items())[:2]))
    arguments = ["--count", "1", "--views", "2", "--size", "64"]
    outcome = CliRunner().invoke(asking.main, arguments)
    assert outcome.exit_code == 0, outcome.output
    rows = [line for line in outcome.output.splitlines() if line.count("|") == 4]
    assert len(rows) == 3 * (2 + 2)  # a head and two ways of each kind
