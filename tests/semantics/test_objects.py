"""Objects made of connected places, and codes that name them."""

import numpy as np

from ffsplat import codes
from ffsplat.codebook import gram, validate
from ffsplat.semantics.bank import nameless
from ffsplat.semantics.objects import code_objects, connected_objects, name_objects
from ffsplat.types import Gaussians, Scene

SPACE = "open_clip:toy/none"


def test_pieces_of_one_row_that_lie_apart_are_two_objects_and_tiny_ones_none():
    line = np.array([[x, 0, 0] for x in (0, 1, 2, 3, 10, 11, 12, 30)], np.float32)
    ids = np.array([5, 5, 5, 5, 5, 5, 5, 5], np.int16)
    np.testing.assert_array_equal(connected_objects(ids, line, 1.0), [0, 0, 0, 0, 1, 1, 1, -1])
    ids[2:4] = -1
    ids[:2] = 2
    np.testing.assert_array_equal(connected_objects(ids, line, 1.0), [-1] * 4 + [0] * 3 + [-1])


def test_an_object_has_the_confidence_weighted_mean_of_all_its_views():
    eye = np.eye(4, dtype=np.float32)
    features = np.stack([eye[[0, 1]], eye[[2, 3]]])[:, None]  # 2 views of 1 x 2 cells
    instances = np.full((2, 2, 4), 7, np.int32)
    instances[:, :, 2:] = 3
    instances[1, 0, 0] = -1
    confidence = np.ones((2, 2, 4), np.float32)
    confidence[1] = 0.5
    confidence[0, 0, 3] = 0
    meaning = code_objects(features, instances, confidence, SPACE)
    validate(meaning.codebook)
    assert len(meaning.codebook) == 2
    rows = meaning.codebook.spaces[SPACE].astype(np.float32)
    np.testing.assert_array_equal(meaning.ids[0, 1, :, 0], [1, 1, 0, 0])
    assert meaning.ids[1, 0, 0, 0] == -1
    seven = np.array([4 * 1, 0, 3 * 0.5, 0])
    three = np.array([0, 3 * 1, 0, 4 * 0.5])
    np.testing.assert_allclose(rows[1], seven / np.linalg.norm(seven), atol=1e-3)
    np.testing.assert_allclose(rows[0], three / np.linalg.norm(three), atol=1e-3)
    np.testing.assert_allclose(meaning.codebook.counts, [5, 5.5])
    np.testing.assert_array_equal(meaning.instances, instances)


def test_an_object_without_a_feature_has_no_evidence():
    features = np.zeros((1, 1, 1, 4), np.float32)
    features[0, 0, 0, 2] = 1
    instances = np.array([[[0, 4]]], np.int32)
    confidence = np.array([[[1, 0]]], np.float32)
    meaning = code_objects(features, instances, confidence, SPACE)
    np.testing.assert_array_equal(meaning.ids[0, 0, :, 0], [0, -1])
    np.testing.assert_array_equal(meaning.weights[0, 0, :, 0], [1, 0])
    assert len(meaning.codebook) == 1


def test_objects_of_a_map_get_rows_of_their_own():
    rows = np.eye(4, dtype=np.float32)
    table = nameless(np.ones(4, np.float32), rows, "open_clip:x/y")
    ids = np.array([[0, 1], [0, -1], [2, 3], [3, -1]], np.int16)
    weights = np.array([[0.5, 0.5], [1, 0], [0.5, 0.5], [1, 0]], np.float32)
    opacities = np.array([0.5, 1, 1, 1], np.float32)
    gaussians = Gaussians(
        np.zeros((4, 3), np.float32), np.ones((4, 3), np.float32), np.ones((4, 4), np.float32),
        opacities, np.zeros((4, 1, 3), np.float32),
    )  # fmt: skip
    code = codes.from_pairs(ids, weights, 2, gram(table, "open_clip:x/y"))
    scene = Scene(gaussians, code, np.array([7, 7, 3, -1], np.int32), table)
    named = name_objects(scene, "open_clip:x/y")
    # Object 3 is the first row: half of row 2, half of row 3. Object 7: 1.25 of row 0, 0.25 of 1.
    assert named.codes.ids[:, 0].tolist() == [1, 1, 0, -1]
    expected = np.array([[0, 0, 0.5, 0.5], [1.25, 0.25, 0, 0]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(named.codebook.spaces["open_clip:x/y"], expected, atol=1e-3)
    np.testing.assert_array_equal(named.instances, scene.instances)
