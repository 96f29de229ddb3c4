"""Features pooled in masks, and masks painted over each other."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import safetensors.torch
import torch

from ffsplat.errors import CheckpointError, UsageError
from ffsplat.semantics import masks as semantic_masks
from ffsplat.semantics.masks import masks_of_views, pool_in_masks, sam2_generator, sam2_of_file


def test_pooling_is_the_mean_over_the_pixels_of_each_mask():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    masks = rng.integers(-1, 3, (2, 20, 30)).astype(np.int32)
    masks[1][masks[1] == 1] = 7
    pooled = pool_in_masks(features, masks)
    assert list(zip(pooled.views, pooled.numbers, strict=True)) == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (1, 7),
    ]  # fmt: skip
    for i, (view, number) in enumerate(zip(pooled.views, pooled.numbers, strict=True)):
        places = np.argwhere(masks[view] == number)
        cells = [(int((y + 0.5) * 3 / 20), int((x + 0.5) * 4 / 30)) for y, x in places]
        mean = np.mean([features[view][cell] for cell in cells], axis=0)
        np.testing.assert_allclose(pooled.features[i], mean / np.linalg.norm(mean), atol=1e-6)
        assert pooled.pixels[i] == len(places)


def test_views_without_masks_and_masks_without_features_are_no_failure():
    features = np.zeros((2, 2, 2, 3), np.float32)
    masks = np.full((2, 4, 4), -1, np.int32)
    assert pool_in_masks(features, masks).features.shape == (0, 3)
    masks[0, 0, 0] = 5
    pooled = pool_in_masks(features, masks)
    np.testing.assert_array_equal(pooled.features, np.zeros((1, 3)))
    assert (pooled.numbers[0], pooled.pixels[0]) == (5, 1)


class Generator:
    """Two squares, the smaller within the larger, and a speck."""

    def generate(self, image):
        assert image.dtype == np.uint8
        segments = np.zeros((3, 20, 20), bool)
        segments[0, 8:12, 8:12] = True
        segments[1, 4:16, 4:16] = True
        segments[2, 0, 0] = True
        return [{"segmentation": segment, "area": int(segment.sum())} for segment in segments]


def test_small_masks_lie_over_large_ones_and_specks_are_left_out():
    masks = masks_of_views(np.zeros((2, 20, 20, 3), np.uint8), Generator(), smallest=10)
    expected = np.full((20, 20), -1)
    expected[4:16, 4:16] = 0
    expected[8:12, 8:12] = 1
    np.testing.assert_array_equal(masks[0], expected)
    np.testing.assert_array_equal(masks[1], np.where(expected < 0, -1, expected + 2))


def test_masks_of_another_size_are_refused():
    with pytest.raises(UsageError, match="mask"):
        masks_of_views(np.zeros((1, 20, 30, 3), np.uint8), Generator())


def test_without_sam2_the_hint_says_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sam2.build_sam", None)
    with pytest.raises(UsageError, match="not installed") as caught:
        sam2_generator("configs/sam2.1/sam2.1_hiera_s.yaml", tmp_path / "w.safetensors")
    assert "sam2" in str(caught.value.hint)


def test_weights_of_sam2_are_read_strictly_from_safetensors(monkeypatch, tmp_path):
    model = torch.nn.Linear(3, 2)
    build, automatic = ModuleType("sam2.build_sam"), ModuleType("sam2.automatic_mask_generator")
    vars(build)["build_sam2"] = lambda config, ckpt_path, device: model
    vars(automatic)["SAM2AutomaticMaskGenerator"] = lambda net, **options: (net, options)
    for module in (ModuleType("sam2"), build, automatic):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, path)
    assert sam2_generator("c.yaml", path, points_per_side=8) == (model, {"points_per_side": 8})
    assert torch.equal(model.weight, torch.ones(2, 3))
    safetensors.torch.save_file({"weight": torch.ones(2, 3)}, path)
    for wrong in (path, tmp_path / "sam2.pt", tmp_path / "none.safetensors"):
        with pytest.raises(CheckpointError):
            sam2_generator("c.yaml", wrong)


def test_a_file_of_sam2_says_which_network_it_is(monkeypatch):
    asked = []
    monkeypatch.setattr(semantic_masks, "sam2_generator", lambda *given: asked.append(given))
    sam2_of_file(Path("sam2.1_hiera_base_plus.safetensors"), "cuda")
    sam2_of_file(Path("sam2_hiera_tiny.safetensors"))
    assert [given[0] for given in asked] == [
        "configs/sam2.1/sam2.1_hiera_b+.yaml", "configs/sam2/sam2_hiera_t.yaml",
    ]  # fmt: skip
    assert asked[0][1:] == (Path("sam2.1_hiera_base_plus.safetensors"), "cuda")
    for name in ("sam.safetensors", "sam2.1_hiera_huge.safetensors"):
        with pytest.raises(UsageError, match="does not say which"):
            sam2_of_file(Path(name))
