"""Scenes of other systems, made in the layouts that these write, and what becomes of them."""

import os
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch
from command import run
from plyfile import PlyData, PlyElement
from small_room import small_room

from ffsplat import codes
from ffsplat.codebook import lexicon_rows
from ffsplat.errors import CheckpointError, FFSplatError, SceneFileError
from ffsplat.formats import format_to_read, read_scene
from ffsplat.formats.feature_3dgs import SPACE
from ffsplat.formats.foreign import cluster, instances_of
from ffsplat.formats.langsplat_v2 import sparse_codes
from ffsplat.formats.siu3r import CLASSES
from ffsplat.io import load_scene
from ffsplat.query import query
from tests.io.scenes import random_gaussians

COUNT = 60
RANDOM = np.random.default_rng(11)


def base_columns(gaussians, degree=3):
    """The columns of the reference 3DGS up to the rotation, as every one of these has them."""
    n, rest = len(gaussians), (degree + 1) ** 2 - 1
    detail = gaussians.sh[:, 1:].transpose(0, 2, 1).reshape(n, 3 * rest)
    opacity = np.log(gaussians.opacities / (1 - gaussians.opacities))
    named = {"x": gaussians.means[:, 0], "y": gaussians.means[:, 1], "z": gaussians.means[:, 2]}
    named |= {name: np.zeros(n) for name in ("nx", "ny", "nz")}
    named |= {f"f_dc_{i}": gaussians.sh[:, 0, i] for i in range(3)}
    named |= {f"f_rest_{i}": detail[:, i] for i in range(3 * rest)}
    named |= {"opacity": opacity}
    named |= {f"scale_{i}": np.log(gaussians.scales[:, i]) for i in range(3)}
    return named | {f"rot_{i}": gaussians.quaternions_wxyz[:, i] for i in range(4)}


def save(path, named, integers=()):
    """As plyfile writes it for all of them: one element, float columns unless told."""
    kinds = [(name, "i4" if name in integers else "f4") for name in named]
    rows = np.empty(len(next(iter(named.values()))), kinds)
    for name, values in named.items():
        rows[name] = values
    PlyData([PlyElement.describe(rows, "vertex")]).write(path)
    return path


@pytest.fixture
def gaussians():
    made = random_gaussians(COUNT, sh=16, seed=3)
    return replace(made, opacities=made.opacities.clip(0.01, 0.99))


def assert_same_shapes(scene, gaussians):
    for name in ("means", "scales", "opacities", "sh"):
        ours, theirs = getattr(scene.gaussians, name), getattr(gaussians, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name)
    turn = np.abs((scene.gaussians.quaternions_wxyz * gaussians.quaternions_wxyz).sum(1))
    np.testing.assert_allclose(turn, 1, atol=1e-6)


def decoded(scene):
    """The unit feature that a scene's codes stand for, in its codebook's first space."""
    rows = next(iter(scene.codebook.spaces.values())).astype(np.float32)
    features = codes.to_dense(scene.codes, len(rows)) @ rows
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-9)


def clear_features(size, kinds=5):
    """Features of a few kinds with a little noise, of any length, and the kind of each."""
    centers = RANDOM.normal(size=(kinds, size))
    kind = RANDOM.integers(0, kinds, COUNT)
    lengths = RANDOM.uniform(0.5, 4, (COUNT, 1))
    noise = 0.01 * RANDOM.normal(size=(COUNT, size))
    return (lengths * (centers[kind] + noise)).astype(np.float32), kind


# Feature 3DGS and LSM


def semantic_file(path, gaussians, features):
    named = base_columns(gaussians)
    named |= {f"semantic_{i}": features[:, i] for i in range(features.shape[1])}
    return save(path, named)


def test_dense_features_keep_their_directions(tmp_path, gaussians, caplog):
    features, _ = clear_features(64)
    path = semantic_file(tmp_path / "gaussians.ply", gaussians, features)
    scene = read_scene(path)
    assert_same_shapes(scene, gaussians)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine = (decoded(scene) * unit).sum(1)
    assert cosine.min() > 0.99
    assert list(scene.codebook.spaces) == ["features:64"]
    assert "mean cosine of" in caplog.text
    told = float(scene.provenance["codes"].rpartition(" ")[2])
    np.testing.assert_allclose(told, cosine.mean(), atol=1e-3)


@pytest.mark.parametrize("place", ["decoder_chkpnt7000.pth", "../../decoder_chkpnt7000.pth"])
def test_a_decoder_of_feature_3dgs_puts_rows_into_the_space_of_texts(tmp_path, gaussians, place):
    features, _ = clear_features(128)
    folder = tmp_path / "point_cloud" / "iteration_7000"
    folder.mkdir(parents=True)
    path = semantic_file(folder / "point_cloud.ply", gaussians, features)
    conv = torch.nn.Conv2d(128, 512, 1)
    state = {f"conv.{name}": value for name, value in conv.state_dict().items()}
    torch.save(state, folder / place)
    scene = read_scene(path)
    with torch.no_grad():
        theirs = conv(torch.from_numpy(features).T[None, :, :, None])[0, :, :, 0].T.numpy()
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert (decoded(scene) * theirs).sum(1).min() > 0.99
    assert list(scene.codebook.spaces) == [SPACE]


def test_lsm_is_expanded_by_the_layer_of_its_checkpoint(tmp_path, gaussians):
    features, _ = clear_features(64)
    path = semantic_file(tmp_path / "gaussians.ply", gaussians, features)
    weight = RANDOM.normal(size=(512, 64, 1, 1)).astype(np.float32)
    bias = RANDOM.normal(size=512).astype(np.float32)
    tensors = {"feature_expansion.1.weight": weight, "feature_expansion.1.bias": bias}
    safetensors.numpy.save_file(tensors, tmp_path / "lsm.safetensors")
    scene = read_scene(path, codebook=tmp_path / "lsm.safetensors")
    theirs = features @ weight[:, :, 0, 0].T + bias
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert (decoded(scene) * theirs).sum(1).min() > 0.99
    other = semantic_file(tmp_path / "other.ply", gaussians, features[:, :32])
    with pytest.raises(SceneFileError, match="not for 32 inputs"):
        read_scene(other, codebook=tmp_path / "lsm.safetensors")


def test_the_rows_are_bounded_and_what_is_lost_is_told():
    features = RANDOM.normal(size=(400, 24)).astype(np.float32)
    features[7] = 0
    found = cluster(lambda: iter([features[:150], features[150:]]), 400, "made", 32)
    rows = found.codebook.spaces["made"].astype(np.float32)
    assert len(rows) <= 32
    assert found.codes.ids[7, 0] == -1
    assert found.codes.weights[7, 0] == 0
    unit = np.delete(features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-9), 7, 0)
    cosines = unit @ rows.T
    np.testing.assert_array_equal(np.delete(found.codes.ids[:, 0], 7), cosines.argmax(1))
    np.testing.assert_allclose(found.cosine, cosines.max(1).mean(), atol=1e-3)


# Gaussian Grouping


def identity_file(path, gaussians, identities):
    named = base_columns(gaussians)
    return save(path, named | {f"obj_dc_{i}": identities[:, i] for i in range(16)})


def test_identities_become_the_objects_of_their_classifier(tmp_path, gaussians):
    identities = RANDOM.normal(size=(COUNT, 16)).astype(np.float32)
    path = identity_file(tmp_path / "point_cloud.ply", gaussians, identities)
    classifier = torch.nn.Conv2d(16, 256, kernel_size=1)
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    with torch.no_grad():
        logits = classifier(torch.from_numpy(identities).T[:, :, None])
    theirs = logits.argmax(0)[:, 0].numpy()
    scene = read_scene(path)
    assert_same_shapes(scene, gaussians)
    ours = scene.instances
    np.testing.assert_array_equal(ours == -1, theirs == 0)
    pairs = set(zip(ours.tolist(), theirs.tolist(), strict=True))
    assert len(pairs) == len(set(theirs.tolist())) == len(set(ours.tolist()))
    sizes = np.bincount(ours[ours >= 0])
    assert (np.diff(sizes) <= 0).all(), "the largest object comes first"


def test_identities_without_a_classifier_are_clustered(tmp_path, gaussians, caplog):
    identities, kind = clear_features(16)
    scene = read_scene(identity_file(tmp_path / "point_cloud.ply", gaussians, identities))
    pairs = set(zip(scene.instances.tolist(), kind.tolist(), strict=True))
    assert len(pairs) == len(set(kind.tolist()))
    assert "no classifier" in caplog.text
    assert scene.codes is None


def test_objects_are_numbered_by_size():
    np.testing.assert_array_equal(
        instances_of(np.array([5, -1, 9, 9, -1, -1])), [1, -1, 0, 0, -1, -1]
    )


# SIU3R


def siu3r_file(path, scene, classes, instances, queries=None):
    """Its own columns: SH of degree 4, linear opacity, raw quaternions, labels as integers."""
    g = scene.gaussians
    sh = np.concatenate([g.sh, RANDOM.normal(size=(len(g), 24, 3)).astype(np.float32)], axis=1)
    named = base_columns(replace(g, sh=sh[:, :25]), degree=4)
    named["opacity"] = g.opacities
    for i in range(4):
        named[f"rot_{i}"] = 3.5 * g.quaternions_wxyz[:, i]
    named |= {"semantic_label": classes, "instance_label": instances}
    if queries is not None:
        flat = queries.reshape(len(g), -1)
        named |= {f"seg_query_class_logits_{i}": flat[:, i] for i in range(flat.shape[1])}
    return save(path, named, integers=("semantic_label", "instance_label"))


@pytest.fixture
def room():
    return small_room(COUNT)


def test_classes_of_siu3r_answer_questions(tmp_path, room):
    classes = np.array([7, 6, 1])[room.instances]  # table, sofa, wall
    path = siu3r_file(tmp_path / "output.ply", room, classes, room.instances + 1)
    scene = read_scene(path)
    own = replace(room.gaussians, sh=scene.gaussians.sh)
    assert_same_shapes(scene, own)
    np.testing.assert_array_equal(scene.gaussians.sh[:, 0], room.gaussians.sh[:, 0])
    hits = query(scene, "sofa", min_count=1).hits
    assert [hit.name for hit in hits] == ["sofa"]
    np.testing.assert_array_equal(np.sort(hits[0].rows), np.flatnonzero(classes == 6))
    assert len(set(zip(scene.instances.tolist(), room.instances.tolist(), strict=True))) == 3


def test_codes_of_siu3r_are_its_class_probabilities(tmp_path, room):
    masks = RANDOM.dirichlet(np.ones(3), COUNT)
    probabilities = RANDOM.dirichlet(np.full(21, 0.2), 3)
    queries = (masks[:, :, None] * probabilities).astype(np.float32)
    path = siu3r_file(tmp_path / "o.ply", room, np.zeros(COUNT), np.zeros(COUNT), queries)
    scene = read_scene(path)
    expected = queries.sum(1)[:, :20]
    best = np.sort(np.argsort(-expected, axis=1)[:, :4], axis=1)
    np.testing.assert_array_equal(np.sort(scene.codes.ids, axis=1), best)
    kept = np.take_along_axis(expected, best, 1)
    shares = codes.to_dense(scene.codes, 20)[np.arange(COUNT)[:, None], best]
    np.testing.assert_allclose(shares, kept / kept.sum(1, keepdims=True), atol=1e-3)
    assert (scene.instances == -1).all(), "0 is no instance"


def test_higher_colours_of_siu3r_stay_in_their_channels(tmp_path, room):
    path = siu3r_file(tmp_path / "o.ply", room, np.ones(COUNT), np.ones(COUNT))
    columns = PlyData.read(path)["vertex"]
    sh = read_scene(path).gaussians.sh
    for channel in range(3):
        for k in range(15):
            np.testing.assert_array_equal(
                sh[:, 1 + k, channel], columns[f"f_rest_{24 * channel + k}"]
            )


def test_most_classes_are_words_of_the_lexicon():
    rows = {row.name for row in lexicon_rows()}
    assert {name for name in CLASSES if name not in rows} == {
        "counter",
        "shower curtain",
        "otherfurniture",
    }


# LangSplatV2


def langsplat_v2(path, gaussians, logits, books, extent=None):
    """What its `capture(include_feature=True)` returns, with the iteration, by torch.save."""
    parameters = [torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(a))) for a in (
        gaussians.means,
        gaussians.sh[:, :1],
        gaussians.sh[:, 1:],
        np.log(gaussians.scales),
        2 * gaussians.quaternions_wxyz,
        np.log(gaussians.opacities / (1 - gaussians.opacities))[:, None],
        logits,
        books,
    )]  # fmt: skip
    optimizer = torch.optim.Adam(
        [{"params": parameters[6:], "lr": 0.0025, "name": "language_feature"}]
    )
    sum(p.square().sum() for p in parameters[6:]).backward()
    optimizer.step()
    nothing = torch.zeros(COUNT, 1)
    state = (3, *parameters, torch.zeros(COUNT), nothing, nothing, optimizer.state_dict())
    extent = np.float32(4.7) if extent is None else extent
    torch.save(((*state, extent), 10_000), path)
    return [p.detach().numpy() for p in parameters]


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
    saved = langsplat_v2(tmp_path / "chkpnt10000.pth", gaussians, logits, books)
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
        langsplat_v2(path, gaussians, np.zeros((COUNT, 64), np.float32), books, extent)
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
    langsplat_v2(path, gaussians, logits, books, extent=Hostile())
    with pytest.raises(CheckpointError, match="could run any code"):
        read_scene(path)
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError, match="not an archive"):
        read_scene(path)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path, gaussians):
    path = tmp_path / "chkpnt1.pth"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(SceneFileError, match="no checkpoint of LangSplatV2"):
        read_scene(path)
    for logits, books in (((COUNT, 63), (1, 64, 8)), ((COUNT, 64 * 5), (5, 64, 8))):
        langsplat_v2(path, gaussians, np.zeros(logits, np.float32), np.ones(books, np.float32))
        with pytest.raises(SceneFileError, match=r"fit together|layers of codes"):
            read_scene(path)
    unknown = np.full((COUNT, 64), np.nan, np.float32)
    langsplat_v2(path, gaussians, unknown, np.ones((1, 64, 8), np.float32))
    with pytest.raises(SceneFileError, match="not finite"):
        read_scene(path)
    huge = np.full((1, 64, 8), 1e30, np.float32)
    langsplat_v2(path, gaussians, np.zeros((COUNT, 64), np.float32), huge)
    with pytest.raises(SceneFileError, match="too large"):
        read_scene(path)


# All of them


def test_formats_are_known_by_their_columns(tmp_path, gaussians, room):
    features, _ = clear_features(16)
    files = {
        "feature-3dgs": semantic_file(tmp_path / "a.ply", gaussians, features),
        "gaussian-grouping": identity_file(tmp_path / "b.ply", gaussians, features),
        "siu3r": siu3r_file(tmp_path / "c.ply", room, np.ones(COUNT), np.ones(COUNT)),
        "ply": save(tmp_path / "d.ply", base_columns(gaussians)),
    }
    for name, path in files.items():
        assert format_to_read(path).name == name


@pytest.mark.parametrize("kind", ["semantic_0", "obj_dc_3", "semantic_label", "scale_1"])
def test_damaged_files_are_refused_in_one_line(tmp_path, gaussians, room, kind):
    features, _ = clear_features(16)
    if kind == "obj_dc_3":
        path = identity_file(tmp_path / "a.ply", gaussians, features)
    elif kind == "semantic_0":
        path = semantic_file(tmp_path / "a.ply", gaussians, features)
    else:
        path = siu3r_file(tmp_path / "a.ply", room, np.ones(COUNT), np.ones(COUNT))
    content = PlyData.read(path, mmap=False)
    content["vertex"][kind] = 99 if kind == "semantic_label" else np.inf
    content.write(path)
    with pytest.raises(FFSplatError):
        read_scene(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(SceneFileError, match="truncated"):
        read_scene(path)


def test_their_scene_becomes_ours_by_one_command(tmp_path, room):
    classes = np.array([7, 6, 1])[room.instances]
    path = siu3r_file(tmp_path / "their.ply", room, classes, room.instances + 1)
    outcome = run("convert", path, tmp_path / "scene.ply")
    assert outcome.code == 0, outcome.err
    hits = query(load_scene(tmp_path / "scene.ply"), "table", min_count=1).hits
    assert [hit.count for hit in hits] == [int((classes == 7).sum())]
