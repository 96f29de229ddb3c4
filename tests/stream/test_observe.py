"""What a map takes in of a view is what `merge` makes of it for a scene."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ffsplat.alignment import Similarity
from ffsplat.codebook import lexicon_codebook
from ffsplat.geometry import rotation_from_vector
from ffsplat.instances import label_instances
from ffsplat.merge import code_pairs, pixel_gaussians, radii, smoothed
from ffsplat.prediction import PixelMeaning, Prediction
from ffsplat.pruning import confidences
from ffsplat.semantics.register import carries_meaning
from ffsplat.stream.map.objects import number_objects
from ffsplat.stream.observe import observe
from ffsplat.types import NO_ID

CODEBOOK = lexicon_codebook()
HEIGHT, WIDTH = 24, 32


def turn(*vector: float) -> torch.Tensor:
    return rotation_from_vector(torch.tensor(vector, dtype=torch.float64))


def world() -> Similarity:
    return Similarity(1.7, turn(0.4, -0.8, 0.2).numpy(), np.array([3.0, -2.0, 1.0]))


def view(**more) -> Prediction:
    """What a network might say of one view, at random."""
    random = torch.Generator().manual_seed(3)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(1, 1, *shape, generator=random)

    grid = HEIGHT, WIDTH
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = turn(0.1, 0.5, -0.3), torch.tensor([0.5, 0.1, -0.4])
    levels = [int((CODEBOOK.levels == level).sum()) for level in (0, 1)]
    values = {
        "depth": 2 + 0.1 * uniform(*grid),
        "depth_error": 0.2 * uniform(*grid),
        "scale": torch.ones(1),
        "world_from_camera": pose[None, None],
        "intrinsics": torch.tensor([[30.0, 0, 15], [0, 33, 13], [0, 0, 1]])[None, None],
        "offsets": uniform(*grid, 2) - 0.5,
        "scales": 0.1 * uniform(*grid, 3),
        "quaternions_wxyz": torch.nn.functional.normalize(uniform(*grid, 4) - 0.5, dim=-1),
        "opacities": uniform(*grid),
        "colors": uniform(*grid, 3),
        "whole_logits": 8 * uniform(*grid, levels[0]),
        "part_logits": 8 * uniform(*grid, levels[1]),
        "instances": uniform(*grid, 4),
        "descriptors": uniform(6, 8, 4),
        "token_descriptors": uniform(3, 4, 4),
    }
    return Prediction(**values | more)


def kept() -> np.ndarray:
    return np.random.default_rng(1).random(HEIGHT * WIDTH) < 0.8


def targets() -> np.ndarray:
    return np.arange(HEIGHT * WIDTH, dtype=np.int32)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"depth_offsets": torch.linspace(-0.2, 0.2, HEIGHT * WIDTH).reshape(1, 1, HEIGHT, WIDTH)},
        {"harmonics": torch.linspace(-3, 3, 12 * HEIGHT * WIDTH).view(1, 1, HEIGHT, WIDTH, 4, 3)},
        {"scales": torch.full((1, 1, HEIGHT, WIDTH, 3), 0.02)},
        {"depth": torch.full((1, 1, HEIGHT, WIDTH), 2.0).bfloat16()},
    ],
)  # fmt: skip
def test_the_gaussians_are_those_of_a_scene(more):
    said, pixels = view(**more), kept()
    seen = observe(said, pixels, world(), CODEBOOK, None, targets())
    rows = torch.from_numpy(np.flatnonzero(pixels))
    said = replace(said, depth=said.depth.float())
    expected = world().gaussians(pixel_gaussians(smoothed(said), rows))
    for name in ("means", "scales", "quaternions_wxyz", "opacities", "colors"):
        np.testing.assert_allclose(
            getattr(seen, name), getattr(expected, name), rtol=2e-5, atol=2e-6, err_msg=name
        )
    trust = confidences(said).flatten()[rows].numpy()
    np.testing.assert_allclose(seen.confidence, trust, rtol=1e-5)
    np.testing.assert_array_equal(seen.target, np.flatnonzero(pixels))


@pytest.mark.parametrize("parts", [True, False])
def test_the_codes_are_those_of_a_scene(parts):
    codebook, pixels = CODEBOOK, kept()
    if not parts:  # the rows of parts are then of a level that no head speaks about
        levels = np.where(CODEBOOK.levels == 1, np.int8(2), CODEBOOK.levels)
        codebook = replace(CODEBOOK, levels=levels)
    seen = observe(view(), pixels, world(), codebook, None, targets())
    rows = torch.from_numpy(np.flatnonzero(pixels))
    ids, weights = code_pairs(view(), codebook, rows, 4)
    np.testing.assert_array_equal(seen.ids, ids)
    np.testing.assert_allclose(seen.weights, weights / weights.sum(1, keepdims=True), rtol=1e-5)


def test_logits_that_are_equal_or_no_numbers_do_no_harm():
    logits = torch.zeros(1, 1, HEIGHT, WIDTH, view().whole_logits.shape[-1])
    logits[..., 0, :] = torch.nan
    seen = observe(view(whole_logits=logits), kept() | True, world(), CODEBOOK, None, targets())
    whole = np.flatnonzero(CODEBOOK.levels == 0)
    np.testing.assert_array_equal(seen.ids[1, :2], whole[:2])
    np.testing.assert_allclose(seen.weights[1, :2], 0.25)
    assert (seen.ids[::WIDTH, :2] == NO_ID).all()
    assert (seen.instances[::WIDTH] == NO_ID).all()
    np.testing.assert_allclose(seen.weights[::WIDTH].sum(1), 0.5)


def test_objects_are_numbered_by_class_place_and_embedding():
    logits = torch.zeros(1, 1, HEIGHT, WIDTH, view().whole_logits.shape[-1])
    logits[..., : HEIGHT // 2, :, 5] = 9
    logits[..., HEIGHT // 2 :, :, 6] = 9
    columns = np.arange(WIDTH) // 8
    signs = torch.from_numpy(1 - 2 * (columns % 2)).float()
    said = view(
        whole_logits=logits,
        depth=torch.full((1, 1, HEIGHT, WIDTH), 2.0),  # cells of 3 x 3 pixels
        intrinsics=torch.tensor([[100.0, 0, 16], [0, 100, 12], [0, 0, 1]])[None, None],
        instances=signs[:, None].expand(1, 1, HEIGHT, WIDTH, 1),
    )
    seen = observe(said, kept() | True, world(), CODEBOOK, None, targets())
    numbers = seen.instances.reshape(HEIGHT, WIDTH)
    expected = columns + 4 * (np.arange(HEIGHT)[:, None] >= HEIGHT // 2)
    # A cell on the border of two objects belongs to either.
    assert (numbers == expected).mean() > 0.8
    assert numbers.max() == 7


def test_objects_of_a_frame_are_those_of_a_scene():
    random = np.random.default_rng(5)
    means = random.uniform(-1, 1, (4000, 3)).astype(np.float32)
    classes = random.integers(-1, 3, 4000).astype(np.int32)
    vectors = random.normal([1.5, 0, 0, 0], size=(4000, 4)).astype(np.float32)
    cell = 0.25
    found = number_objects(means + np.float32(8), classes, vectors, np.full(3, 8.0), cell)
    means = means + np.float32(8) - np.float32(8)
    expected = label_instances(means, classes.astype(np.int64), vectors, cell)
    pairs = np.unique(np.stack([found, expected]), axis=1).T
    assert len(pairs) == len(np.unique(found)) == len(np.unique(expected)) > 3
    firsts = [np.flatnonzero(found == one)[0] for one in range(found.max() + 1)]
    assert firsts == sorted(firsts)


def test_what_is_beyond_all_cells_and_what_is_nothing_is_no_object():
    means = np.zeros((60, 3), np.float32)
    means[:20] = 1e9
    classes = np.where(np.arange(60) < 40, 2, -1).astype(np.int32)
    found = number_objects(means, classes, np.ones((60, 1), np.float32), np.zeros(3), 0.1)
    np.testing.assert_array_equal(found, np.repeat([-1, 0, -1], 20))


def test_meaning_from_elsewhere_is_carried_by_what_is_opaque_and_large():
    random, pixels = np.random.default_rng(2), kept()
    shape = 1, HEIGHT, WIDTH, 3
    meaning = PixelMeaning(
        random.integers(0, 9, shape).astype(np.int16),
        random.random(shape, np.float32).round(),
        random.integers(-1, 4, shape[:3]).astype(np.int32),
        CODEBOOK,
    )
    said = view(scales=torch.linspace(1e-3, 0.1, HEIGHT * WIDTH * 3).reshape(*shape[:3], 3)[None])
    seen = observe(said, pixels, world(), CODEBOOK, meaning, targets())
    large = radii(smoothed(said)).flatten().numpy()[pixels]
    carries = carries_meaning(said.opacities.flatten().numpy()[pixels], large)
    assert 0.1 < carries.mean() < 0.9
    weights = meaning.weights.reshape(-1, 3)[pixels] * carries[:, None]
    np.testing.assert_array_equal(seen.weights[:, :3], weights)
    ids = np.where(weights > 0, meaning.ids.reshape(-1, 3)[pixels], NO_ID)
    np.testing.assert_array_equal(seen.ids[:, :3], ids)
    assert (seen.ids[:, 3] == NO_ID).all()
    np.testing.assert_array_equal(seen.instances, meaning.instances.ravel()[pixels])


@pytest.mark.parametrize("codebook", [None, CODEBOOK])
def test_a_network_without_heads_says_nothing_about_meaning(codebook):
    silent = view(whole_logits=torch.zeros(1, 1, HEIGHT, WIDTH, 0))
    seen = observe(silent, kept(), world(), codebook, None, targets())
    assert (seen.ids == NO_ID).all()
    assert (seen.instances == NO_ID).all()
    assert not seen.weights.any()


def test_no_pixels_are_nothing():
    seen = observe(view(), kept() & False, world(), CODEBOOK, None, targets())
    assert len(seen) == len(seen.instances) == 0
