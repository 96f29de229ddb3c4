"""The teacher with a known truth, the command that measures lifting, and the calibration."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from data.rooms import render_rooms
from train.evaluation import calibration, lifting
from train.evaluation.label_features import Corruption, label_features, label_vectors


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(9)


@pytest.mark.parametrize("unlike", [0.2, 0.84])
def test_label_vectors_lie_in_a_cone_of_the_given_mean_cosine(rng, unlike):
    vectors = label_vectors(50, 256, rng, unlike)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors @ vectors.T)[np.triu_indices(50, 1)].mean() == pytest.approx(unlike, abs=1e-4)


def test_without_corruption_a_feature_is_the_vector_of_its_label(rng):
    labels = np.zeros((2, 12, 16), np.int64)
    labels[:, :, 8:] = 3
    vectors = label_vectors(5, 64, rng)
    clean = Corruption(blur=0.0, wrong=0.0, view_noise=0.0, cell_noise=0.0)
    features = label_features(labels, vectors, (3, 4), clean, rng)
    np.testing.assert_allclose(
        features[:, :, :2], np.broadcast_to(vectors[0], (2, 3, 2, 64)), atol=1e-5
    )
    np.testing.assert_allclose(
        features[:, :, 2:], np.broadcast_to(vectors[3], (2, 3, 2, 64)), atol=1e-5
    )


def test_each_kind_of_corruption_does_what_it_says(rng):
    labels = np.zeros((2, 40, 40), np.int64)
    labels[:, :, 20:] = 1
    vectors = label_vectors(3, 64, rng)
    none = {"blur": 0.0, "wrong": 0.0, "view_noise": 0.0, "cell_noise": 0.0}

    def features(**given: float) -> np.ndarray:
        return label_features(labels, vectors, (20, 20), Corruption(**none | given), rng)

    blurred = features(blur=1.0)[0, 10] @ vectors.T
    assert (np.diff(blurred[:, 1] - blurred[:, 0]) > -1e-5).all()
    assert 0 < (blurred[9, 1] - blurred[0, 1]) < blurred[19, 1] - blurred[0, 1]
    wrong = (features(wrong=0.2) @ vectors.T)[..., :2].argmax(-1) != labels[:, ::2, ::2]
    assert 0.2 <= wrong.mean() < 0.35
    assert (wrong[0] != wrong[1]).any()
    views = features(view_noise=1.0)
    np.testing.assert_allclose(views[0, 0, 0], views[0, 5, 5], atol=1e-5)
    assert views[0, 0, 0] @ views[1, 0, 0] < 0.95
    cells = features(cell_noise=1.0)
    assert cells[0, 0, 0] @ cells[0, 0, 1] == pytest.approx(1 / 1.16, abs=0.03)


def test_masks_of_a_room_are_numbered_in_each_view_by_itself():
    room = render_rooms([1073746121], 2, 64, 64)
    masks = lifting.object_masks(room)
    things = room.instance[0].numpy().astype(int) * 256 + room.whole[0].numpy()
    for mask, truth in zip(masks, things, strict=True):
        assert (
            len(np.unique(mask))
            == len(np.unique(truth))
            == len(set(zip(mask.ravel().tolist(), truth.ravel().tolist(), strict=True)))
        )


def test_pooled_counts_give_all_views_and_the_worst_and_best():
    counts = torch.tensor([[[2, 0], [0, 2]], [[1, 1], [1, 1]]])
    both, worst, best = lifting.pooled(counts)
    assert (worst, best) == (pytest.approx(1 / 3), 1.0)
    assert both == pytest.approx(3 / 5)


def test_the_table_of_a_small_room_says_that_lifting_helps():
    arguments = [
        "--rooms=1073746121",
        "--count=1",
        "--views=4",
        "--size",
        "96",
        "128",
        "--stride=8",
    ]
    done = CliRunner().invoke(lifting.main, arguments, catch_exceptions=False)
    rows = [line.strip("| ").split(" | ") for line in done.output.splitlines()[2:]]
    values = {row[0]: float(row[1]) for row in rows}
    assert list(values) == ["each view alone", *lifting.WAYS]
    assert min(values[way] for way in lifting.WAYS) > values["each view alone"]


def test_calibration_gives_one_pure_row_a_label_at_the_thresholds_that_are_used(rng):
    drawn = calibration.labelled_features(0.7, 300, 0.84, 0.4, rng)
    rows, purity = calibration.rows_and_purity(*drawn, 0.5, 0.7)
    assert rows == pytest.approx(1, abs=0.06)
    assert purity > 0.98
