"""Scenes of other systems, made in the layouts that these write, and what becomes of them."""

from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch
from command import run
from plyfile import PlyData
from small_room import small_room

from ffsplat import codes
from ffsplat.codebook import lexicon_rows
from ffsplat.errors import FFSplatError, SceneFileError
from ffsplat.formats import format_to_read, read_scene
from ffsplat.formats.feature_3dgs import SPACE
from ffsplat.formats.foreign import cluster, instances_of
from ffsplat.formats.siu3r import CLASSES
from ffsplat.io import load_scene
from ffsplat.query import query
from tests.formats.foreign import (
    COUNT,
    RANDOM,
    assert_same_shapes,
    base_columns,
    clear_features,
    decoded,
    foreign_gaussians,
    save,
)


@pytest.fixture
def gaussians():
    return foreign_gaussians()


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
