"""Checkpoints of LangSplatV2, made in its layout, and what becomes of them."""

import os
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from ffsplat import codes
from ffsplat.embeddings import TextEmbedding
from ffsplat.errors import CheckpointError, SceneFileError
from ffsplat.formats import read_scene
from ffsplat.formats.langsplat_v2 import sparse_codes
from ffsplat.query import query
from ffsplat.types import LEVELS
from tests.formats.foreign import (
    COUNT,
    RANDOM,
    assert_same_shapes,
    decoded,
    foreign_gaussians,
    langsplat,
)


@pytest.fixture
def gaussians():
    return foreign_gaussians()


def their_feature(logits, books, k=4):
    """softmax_to_topk_soft_code, layer by layer, times the codebooks, added."""
    features = 0
    for layer, book in enumerate(books):
        part = torch.from_numpy(logits[:, layer * len(book) : (layer + 1) * len(book)]).softmax(1)
        values, places = part.topk(k, dim=1)
        sparse = torch.zeros_like(part).scatter(1, places, values)
        sparse = sparse / (sparse.sum(1, keepdim=True) + 1e-10)
        features = features + sparse @ torch.from_numpy(book)
    return features.numpy()


@pytest.mark.parametrize("layers", [1, 3])
def test_features_of_langsplat_v2_have_the_same_direction(tmp_path, gaussians, layers):
    logits = RANDOM.normal(size=(COUNT, 64 * layers)).astype(np.float32) * 3
    books = RANDOM.normal(size=(layers, 64, 512)).astype(np.float32) * RANDOM.uniform(0.2, 3)
    books *= RANDOM.uniform(0.3, 2, (layers, 64, 1)).astype(np.float32)
    saved = langsplat(tmp_path / "chkpnt10000.pth", gaussians, logits, books)
    scene = read_scene(tmp_path / "chkpnt10000.pth")
    assert_same_shapes(scene, gaussians)
    theirs = their_feature(saved[6], saved[7])
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    np.testing.assert_allclose((decoded(scene) * theirs).sum(1), 1, atol=1e-5)
    assert list(scene.codebook.spaces) == ["open_clip:ViT-B-16/laion2b_s34b_b88k"]
    text = RANDOM.normal(size=512).astype(np.float32)
    rows = scene.codebook.spaces["open_clip:ViT-B-16/laion2b_s34b_b88k"].astype(np.float32)
    cosines = codes.cosine(scene.codes, rows @ text)
    np.testing.assert_allclose(cosines, theirs @ text, atol=0.02)


def test_levels_in_folders_of_one_name_become_one_scene(tmp_path, gaussians):
    space, saved = "open_clip:ViT-B-16/laion2b_s34b_b88k", {}
    for level in (1, 2, 3):
        (tmp_path / f"room_0_{level}").mkdir()
        logits = RANDOM.normal(size=(COUNT, 64)).astype(np.float32) * 3
        books = RANDOM.normal(size=(1, 64, 512)).astype(np.float32)
        file = tmp_path / f"room_0_{level}" / "chkpnt10000.pth"
        saved[level] = langsplat(file, gaussians, logits, books)
    scene = read_scene(tmp_path / "room_0_2" / "chkpnt10000.pth")
    assert scene.codes.ids.shape == (COUNT, 12)
    assert np.bincount(scene.codebook.levels).tolist() == [64, 64, 0, 64]
    table = scene.codebook.spaces[space].astype(np.float32)
    for name, level in (("whole", 3), ("part", 2), ("subpart", 1)):
        counted = np.append(scene.codebook.levels == LEVELS.index(name), False)[scene.codes.ids]
        weights = np.where(counted, scene.codes.weights, 0).astype(np.float32)
        ours = np.einsum("nk,nkd->nd", weights, table[scene.codes.ids])
        theirs = their_feature(saved[level][6], saved[level][7])
        cosine = (ours * theirs).sum(1)
        cosine /= np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        np.testing.assert_allclose(cosine, 1, atol=1e-5)
    phrases = RANDOM.normal(size=(5, 512)).astype(np.float32)
    phrases /= np.linalg.norm(phrases, axis=1, keepdims=True)
    assert_the_level_is_langsplats(scene, saved, space, phrases)
    other = gaussians.means + 1
    langsplat(tmp_path / "room_0_1" / "chkpnt10000.pth", replace(gaussians, means=other),
                 *saved[1][6:])  # fmt: skip
    with pytest.raises(SceneFileError, match="has other Gaussians than"):
        read_scene(tmp_path / "room_0_3" / "chkpnt10000.pth")


def assert_the_level_is_langsplats(scene, saved, space, phrases):
    """LangSplat takes the level with the highest relevancy, of features of length 1."""
    relevancies = {}
    for level, name in ((3, "whole"), (2, "part"), (1, "subpart")):
        feature = their_feature(saved[level][6], saved[level][7])
        cosines = feature / np.linalg.norm(feature, axis=1, keepdims=True) @ phrases.T
        relevancies[name] = 1 / (1 + np.exp(-10 * (cosines[:, 0] - cosines[:, 1:].max(1))))
    text = TextEmbedding("a thing", space, phrases[0], phrases[1:])
    for name, expected in relevancies.items():
        alone = query(scene, text, strategy="relevancy", level=name)
        np.testing.assert_allclose(alone.scores, expected, atol=5e-3)
    best = query(scene, text, strategy="relevancy", levels="best")
    highest = max(relevancies.values(), key=np.max)
    np.testing.assert_allclose(best.scores, highest, atol=5e-3)


def test_logits_that_underflow_still_have_four_rows():
    """A softmax of them has one row above 0, at which the original's own function fails."""
    logits = np.full((2, 64), -300, np.float32)
    logits[:, 5] = 300
    found, _ = sparse_codes(logits, RANDOM.normal(size=(1, 64, 8)).astype(np.float32))
    np.testing.assert_array_equal(found.ids[:, 0], [5, 5])
    assert (found.weights[:, 1:] == 0).all()


def test_numbers_of_an_older_numpy_are_read_too(tmp_path, gaussians):
    """numpy 1 calls the module that builds them numpy.core, numpy 2 numpy._core."""
    path = tmp_path / "chkpnt1.pth"
    books = RANDOM.normal(size=(1, 64, 8)).astype(np.float32)
    for extent in (np.float32(3), np.float64(3)):
        langsplat(path, gaussians, np.zeros((COUNT, 64), np.float32), books, extent=extent)
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        (table,) = [name for name in entries if name.endswith("data.pkl")]
        assert b"numpy._core.multiarray\nscalar" in entries[table]
        entries[table] = entries[table].replace(b"numpy._core.multi", b"numpy.core.multi")
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        assert len(read_scene(path)) == COUNT


class Hostile:
    def __reduce__(self):
        return os.system, ("exit 1",)


def test_checkpoints_that_could_run_code_are_refused(tmp_path, gaussians):
    path = tmp_path / "chkpnt1.pth"
    logits, books = np.zeros((COUNT, 64), np.float32), np.ones((1, 64, 8), np.float32)
    langsplat(path, gaussians, logits, books, extent=Hostile())
    with pytest.raises(CheckpointError, match="could run any code"):
        read_scene(path)
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError, match="not an archive"):
        read_scene(path)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path, gaussians):
    path = tmp_path / "chkpnt1.pth"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(SceneFileError, match="no checkpoint of LangSplat or LangSplatV2"):
        read_scene(path)
    for logits, books in (((COUNT, 63), (1, 64, 8)), ((COUNT, 64 * 5), (5, 64, 8))):
        langsplat(path, gaussians, np.zeros(logits, np.float32), np.ones(books, np.float32))
        with pytest.raises(SceneFileError, match=r"fit together|layers of codes"):
            read_scene(path)
    unknown = np.full((COUNT, 64), np.nan, np.float32)
    langsplat(path, gaussians, unknown, np.ones((1, 64, 8), np.float32))
    with pytest.raises(SceneFileError, match="not finite"):
        read_scene(path)
    huge = np.full((1, 64, 8), 1e30, np.float32)
    langsplat(path, gaussians, np.zeros((COUNT, 64), np.float32), huge)
    with pytest.raises(SceneFileError, match="too large"):
        read_scene(path)
