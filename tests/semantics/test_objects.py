"""Objects made of connected places, and codes that name them."""

import numpy as np

from ffsplat.codebook import validate
from ffsplat.semantics.objects import code_objects, connected_objects

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
