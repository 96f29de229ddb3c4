"""Lifting: views that disagree become codes that agree, on a room with exact truth."""

import numpy as np
import pytest

from data.rooms import WHOLE_NAMES
from ffsplat import codes
from ffsplat.codebook import validate
from ffsplat.semantics.bank import Bank
from ffsplat.semantics.lift import label_pixels, purity
from train.evaluation.label_features import Corruption, label_features, label_vectors

SPACE = "open_clip:toy/none"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def plane(views: int = 3, height: int = 24, width: int = 32):
    """Views of one plane, shifted by two pixels each: points, all confident and valid."""
    y, x = np.mgrid[:height, :width]
    shifted = [np.stack([x + 2 * view, y, np.zeros_like(x)], -1) for view in range(views)]
    points = np.stack(shifted).astype(np.float32)
    return points, np.ones(points.shape[:3], np.float32), np.ones(points.shape[:3], bool)


def halves(points: np.ndarray) -> np.ndarray:
    """0 to the left of x = 16, 1 to the right."""
    return (points[..., 0] >= 16).astype(np.int64)


def exact(labels: np.ndarray, vectors: np.ndarray, stride: int) -> np.ndarray:
    return vectors[labels[:, stride // 2 :: stride, stride // 2 :: stride]]


def named(meaning, vectors: np.ndarray) -> np.ndarray:
    """The label that each pixel's code scores highest, -1 without evidence."""
    scores = meaning.codebook.spaces[SPACE].astype(np.float32) @ vectors.T
    v, h, w, k = meaning.ids.shape
    code = codes.from_pairs(meaning.ids.reshape(-1, k), meaning.weights.reshape(-1, k), k)
    best = codes.score(code, scores).argmax(-1)
    return np.where(code.ids[:, 0] < 0, -1, best).reshape(v, h, w)


def test_clean_features_come_back_as_their_labels(rng):
    points, confidence, valid = plane()
    vectors, labels = label_vectors(2, 32, rng), halves(points)
    meaning = label_pixels(
        exact(labels, vectors, 4), points, confidence, valid, space=SPACE, topk=3
    )
    assert meaning.ids.shape == (3, 24, 32, 3)
    validate(meaning.codebook)
    assert len(meaning.codebook) == 2
    wrong = named(meaning, vectors) != labels
    near_edge = np.abs(points[..., 0] - 15.5) < 4
    assert not wrong[~near_edge].any()
    np.testing.assert_allclose(meaning.weights.sum(-1), 1, atol=1e-3)


def test_two_views_outvote_one_and_the_weights_are_the_shares(rng):
    points, confidence, valid = plane()
    points[...] = points[:1]
    vectors = label_vectors(3, 32, rng)
    labels = np.zeros(points.shape[:3], np.int64)
    labels[1] = 2
    confidence[1] = 0.5
    meaning = label_pixels(exact(labels, vectors, 4), points, confidence, valid, space=SPACE)
    assert (named(meaning, vectors) == 0).all()
    np.testing.assert_allclose(meaning.weights[..., 0], 2 / 2.5, atol=1e-3)
    np.testing.assert_allclose(meaning.weights[..., 1], 0.5 / 2.5, atol=1e-3)


def test_pixels_without_confidence_do_not_vote_and_invalid_ones_have_no_evidence(rng):
    points, confidence, valid = plane()
    points[...] = points[:1]
    vectors = label_vectors(3, 32, rng)
    labels = np.zeros(points.shape[:3], np.int64)
    labels[1] = 1
    confidence[1] = 0.01
    valid[0, :4] = False
    points[~valid] = np.nan
    meaning = label_pixels(exact(labels, vectors, 4), points, confidence, valid, space=SPACE)
    found = named(meaning, vectors)
    assert (found[0, :4] == -1).all()
    assert (meaning.instances[0, :4] == -1).all()
    assert (found[:, 6:] == 0).all()
    unsure = label_pixels(exact(labels, vectors, 4), points, 0.01 * confidence, valid, space=SPACE)
    assert (named(unsure, vectors)[:, 6:] == 0).all()
    lone = label_pixels(
        exact(labels, vectors, 4), points, np.zeros_like(confidence), valid, space=SPACE
    )
    assert (lone.ids == -1).all()
    assert (lone.weights == 0).all()


def test_objects_without_masks_are_connected_pieces_of_one_row(rng):
    points, confidence, valid = plane()
    labels = ((points[..., 0] // 8) % 2).astype(np.int64)
    vectors = label_vectors(2, 32, rng)
    meaning = label_pixels(exact(labels, vectors, 4), points, confidence, valid, space=SPACE)
    strips = points[..., 0] // 8
    inside = (points[..., 0] % 8 >= 2) & (points[..., 0] % 8 < 6) & (strips < 4)
    pairs = set(zip(strips[inside].tolist(), meaning.instances[inside].tolist(), strict=True))
    assert len(pairs) == 4
    assert len({number for _, number in pairs}) == 4


def test_masks_give_each_object_one_number_in_all_views_and_one_meaning(rng):
    points, confidence, valid = plane()
    labels = halves(points)
    vectors = label_vectors(2, 32, rng)
    features = exact(labels, vectors, 4)
    features[0, 2, 1] = vectors[1]
    masks = labels.astype(np.int32)
    masks[1] = 1 - masks[1]
    meaning = label_pixels(
        features, points, confidence, valid, space=SPACE, masks=masks, min_confidence=0.1
    )
    assert (named(meaning, vectors) == labels).mean() > 0.99
    assert len(np.unique(meaning.instances)) == 2
    assert (meaning.instances == meaning.instances[0, 0, 0]).sum() == (labels == 0).sum()


def test_hard_codes_have_one_row_an_object_with_the_mean_of_its_features(rng):
    points, confidence, valid = plane()
    labels = halves(points)
    vectors = label_vectors(2, 32, rng)[[0, 0]]
    features = exact(labels, vectors, 4)
    meaning = label_pixels(
        features, points, confidence, valid, space=SPACE, masks=labels.astype(np.int32), hard=True
    )
    assert meaning.ids.shape[-1] == 1
    assert set(np.unique(meaning.weights)) == {1.0}
    np.testing.assert_array_equal(
        meaning.ids[..., 0] == meaning.ids[0, 0, 0, 0], labels == labels[0, 0, 0]
    )
    rows = meaning.codebook.spaces[SPACE].astype(np.float32)
    np.testing.assert_allclose(rows[np.unique(meaning.ids)], vectors, atol=1e-3)


def test_a_bank_keeps_its_ids_from_call_to_call(rng):
    points, confidence, valid = plane()
    vectors, labels = label_vectors(3, 32, rng), halves(points)
    bank = Bank(32)
    first = label_pixels(
        exact(labels, vectors, 4), points, confidence, valid, space=SPACE, bank=bank
    )
    second = label_pixels(
        exact(labels + 1, vectors, 4), points + 100, confidence, valid, space=SPACE, bank=bank
    )
    assert len(second.codebook) == 3
    assert first.ids[0, 5, 30, 0] == second.ids[0, 5, 2, 0]
    assert bank.statistics().views.max() == 6
    with pytest.raises(ValueError, match="a bank of 32 numbers"):
        label_pixels(
            features=np.zeros((3, 6, 8, 16), np.float32),
            points=points,
            confidence=confidence,
            valid=valid,
            space=SPACE,
            bank=bank,
        )


def test_purity_ranks_the_border_of_two_things_lowest(rng):
    vectors = label_vectors(2, 16, rng)
    labels = np.zeros((1, 4, 6), np.int64)
    labels[:, :, 3:] = 1
    ranks = purity(vectors[labels])
    assert ranks[:, :, 2:4].max() < ranks[:, :, [0, 1, 4, 5]].min()
    assert ranks.max() == 1


def test_lifted_labels_beat_every_single_view(rng):
    from data.rooms import render_rooms
    from ffsplat.geometry import transform_points, unproject
    from train.evaluation.lifting import mean_iou, single_view

    room = render_rooms([1073746121], 6, 168, 224)
    points = unproject(room.depth, room.intrinsics).flatten(2, 3)
    world = transform_points(room.world_from_camera, points).reshape(*room.depth.shape, 3)
    labels = room.whole[0].numpy().astype(np.int64)
    vectors = label_vectors(len(WHOLE_NAMES), 256, rng)
    features = label_features(labels, vectors, (21, 28), Corruption(), rng)
    one = np.ones(labels.shape, np.float32)
    meaning = label_pixels(features, world[0].numpy(), one, one > 0, space=SPACE)
    lifted, alone = named(meaning, vectors), single_view(features, vectors, labels.shape[1:])
    for view in range(6):
        assert mean_iou(lifted[view], labels[view]) > mean_iou(alone[view], labels[view])
    assert mean_iou(lifted, labels) > mean_iou(alone, labels) + 0.1
