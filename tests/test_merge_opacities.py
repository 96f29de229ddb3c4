"""Scenes in which colour and meaning have an opacity each: what is kept, and how it is merged."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ffsplat import merge
from ffsplat.codebook import lexicon_codebook
from ffsplat.codes import from_pairs
from ffsplat.fusion import merge_voxels
from ffsplat.prediction import Prediction
from ffsplat.types import Gaussians, Scene
from tests.fakes import fake_prediction, fake_views


def predict(**changes) -> Prediction:
    """A prediction over the rows of the lexicon."""
    return fake_prediction(whole=58, part=62, **changes)


def make_scene(prediction, **options) -> Scene:
    """The scene of every pixel, coded by the lexicon."""
    options = {
        "min_confidence": 0.0,
        "min_opacity": 0.0,
        "prune_edges": False,
        "consistent": False,
    } | options
    return merge.to_scene(prediction, fake_views(), lexicon_codebook(), **options)


def test_a_pixel_stays_for_either_opacity():
    dim = torch.full((1, 2, 6, 8), 0.001)
    meaning = dim.clone()
    meaning[0, 1] = 0.8
    prediction = predict(opacities=dim.clone(), meaning_opacities=meaning)
    prediction.opacities[0, 0, 0, 3] = 0.5
    scene = make_scene(prediction, min_opacity=0.005)
    world = merge.gaussians_from_prediction(prediction)
    rows = [3, *range(48, 96)]
    np.testing.assert_array_equal(scene.gaussians.means, world.means[0, rows])
    np.testing.assert_array_equal(scene.gaussians.opacities, world.opacities[0, rows])
    np.testing.assert_array_equal(scene.gaussians.meaning_opacities, meaning.flatten()[rows])


def glass_and_paint() -> Scene:
    """A pane that one sees through before a painted wall, and something faint far away."""
    gaussians = Gaussians(
        means=np.array([[0.2, 0, 0], [0.6, 0, 0], [5, 0, 0]], np.float32),
        scales=np.full((3, 3), 0.1, np.float32),
        quaternions_wxyz=np.tile(np.array([1, 0, 0, 0], np.float32), (3, 1)),
        opacities=np.array([0.2, 0.8, 0.1], np.float32),
        sh=np.array([1, 0, 0], np.float32)[:, None, None] * np.ones((3, 1, 3), np.float32),
        meaning_opacities=np.array([0.9, 0.1, 0.3], np.float32),
    )
    code = from_pairs(np.array([[3], [4], [5]]), np.ones((3, 1)), 2)
    return Scene(gaussians, code, np.array([7, 2, -1], np.int32))


def test_merging_weighs_colour_and_meaning_each_by_its_own_opacity():
    merged, confidence = merge_voxels(glass_and_paint(), np.array([1, 0.5, 1], np.float32), 1.0)
    near = int(merged.gaussians.means[:, 0].argmin())
    gaussians = merged.gaussians
    # Colour: 0.2 and 0.8 x 0.5; meaning: 0.9 and 0.1 x 0.5; place: 0.9 and 0.8 x 0.5.
    assert gaussians.sh[near, 0, 0] == pytest.approx(0.2 / 0.6)
    assert gaussians.opacities[near] == pytest.approx((0.2 * 0.2 + 0.4 * 0.8) / 0.6)
    meaning = (0.9 * 0.9 + 0.05 * 0.1) / 0.95
    assert gaussians.meaning_opacities[near] == pytest.approx(meaning)
    assert gaussians.means[near, 0] == pytest.approx((0.9 * 0.2 + 0.4 * 0.6) / 1.3)
    assert confidence[near] == pytest.approx((0.9 + 0.4 * 0.5) / 1.3)
    assert merged.instances[near] == 7
    assert merged.codes.ids[near].tolist() == [3, 4]
    np.testing.assert_allclose(merged.codes.weights[near], [0.9 / 0.95, 0.05 / 0.95], atol=1e-3)


def test_equal_opacities_merge_as_one():
    scene = make_scene(predict())
    opacities = scene.gaussians.opacities
    double = replace(scene, gaussians=replace(scene.gaussians, meaning_opacities=opacities))
    confidence = np.linspace(0.1, 1, 96, dtype=np.float32)
    (one, sure), (two, also) = (merge_voxels(s, confidence, 0.7) for s in (scene, double))
    np.testing.assert_array_equal(two.gaussians.meaning_opacities, one.gaussians.opacities)
    assert one.gaussians.meaning_opacities is None
    for name in ("means", "scales", "quaternions_wxyz", "opacities", "sh"):
        np.testing.assert_array_equal(getattr(one.gaussians, name), getattr(two.gaussians, name))
    np.testing.assert_array_equal(one.codes.weights, two.codes.weights)
    np.testing.assert_array_equal(one.instances, two.instances)
    np.testing.assert_array_equal(sure, also)


def test_thinning_keeps_what_is_present_in_either():
    meaning = torch.zeros(1, 2, 6, 8)
    meaning[0, 1, 3, :5] = 0.99
    prediction = predict(opacities=torch.full((1, 2, 6, 8), 0.5), meaning_opacities=meaning)
    thin = make_scene(prediction, max_gaussians=5)
    np.testing.assert_array_equal(thin.gaussians.meaning_opacities, np.full(5, 0.99, np.float32))
