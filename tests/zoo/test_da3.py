"""Depth Anything 3: the original's numbers, its files, and what must hold for any weights."""

import json
import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import safetensors.torch
import torch

from ffsplat.config import ModelConfig
from ffsplat.errors import CheckpointError
from ffsplat.model import FFSplat
from ffsplat.refine import refine_cameras
from ffsplat.zoo import CONFIG, WEIGHTS
from ffsplat.zoo.da3 import expected_tensors, from_original, is_da3, load_da3
from ffsplat.zoo.da3_names import PRESETS
from tests.zoo.da3_outputs import our_outputs, sample
from tests.zoo.da3_recipe import (
    RECORDED_CASES,
    RECORDED_SEED,
    RECORDING,
    REDUCED,
    draw_cameras,
    draw_photos,
    draw_weight,
    sample_name,
)

ROOT = Path(__file__).resolve().parents[2]

SIZES = {
    "da3-small": (443, 34_299_463),
    "da3-base": (443, 135_366_599),
    "da3-large": (643, 410_941_767),
    "da3-giant": (977, 1_355_674_125),
}
"""Tensors and parameters of the original's networks, by `python -m tests.compare_da3 ... names`."""


def on_meta(config: ModelConfig) -> FFSplat:
    with torch.device("meta"):
        return FFSplat(config)


def all_names(network: FFSplat) -> list[str]:
    """Every name of the original's own state, those of unread parts and of copies included."""
    parts = ("conv1_aux.3.", "conv2_aux.3.")
    names = list(expected_tensors(network, []))
    for level in range(3):
        names += [
            n.replace("_aux.3.", f"_aux.{level}.") for n in names if any(p in n for p in parts)
        ]
    return names


def is_copy(name: str) -> bool:
    """Whether this is the shared norm under another name than that of its first level."""
    return re.search(r"output_conv2_aux\.[123]\.2\.", name) is not None


def published(config: ModelConfig, seed: int = RECORDED_SEED) -> dict[str, torch.Tensor]:
    """Drawn weights by the names of a published file, which keeps one copy of the shared norm."""
    network = on_meta(config)
    kept = [name for name in all_names(network) if not is_copy(name)]
    expected = expected_tensors(network, kept)
    return {
        name: torch.from_numpy(draw_weight(name.removeprefix("model."), tuple(t.shape), seed))
        for name, t in expected.items()
    }


def imported(config: ModelConfig, seed: int = RECORDED_SEED) -> FFSplat:
    network = FFSplat(config).eval()
    network.load_state_dict(from_original(network, published(config, seed)))
    return network


@pytest.fixture(scope="module", params=list(REDUCED))
def network(request) -> FFSplat:
    return imported(REDUCED[request.param])


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("case", RECORDED_CASES)
def test_outputs_are_those_of_the_original(network, case, known):
    images = torch.from_numpy(draw_photos(*case, RECORDED_SEED))
    cameras = tuple(map(torch.from_numpy, draw_cameras(*case, RECORDED_SEED))) if known else None
    found = sample(our_outputs(network, images, cameras))
    with np.load(RECORDING) as recording:
        expected = recording[sample_name(network.config.name, case, known)]
    assert expected.std(axis=1).min() > 0 or case[0] == 1  # a lone camera is the identity
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_published_sizes_have_the_names_and_shapes_of_the_original(name):
    network = on_meta(PRESETS[name])
    tensors = expected_tensors(network, all_names(network))
    count = sum(t.numel() for key, t in tensors.items() if not is_copy(key))
    assert (len(tensors), count) == SIZES[name]


def write_checkpoint(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    (folder / CONFIG).write_text(json.dumps({"model_name": "da3-small"}))
    safetensors.torch.save_file(tensors, folder / WEIGHTS)
    return folder


@pytest.fixture
def small(tmp_path):
    """A folder as published, of the reduced Small, and its tensors."""
    with patch.dict(PRESETS, {"da3-small": REDUCED["da3-small"]}):
        tensors = published(REDUCED["da3-small"])
        yield write_checkpoint(tmp_path, tensors), tensors


def test_a_published_folder_is_loaded(small):
    folder, _ = small
    loaded = load_da3(folder)
    expected = imported(REDUCED["da3-small"]).state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(t, expected[key]) for key, t in loaded.state_dict().items())
    assert not loaded.training


@pytest.mark.parametrize("level", [0, 2, 3])
def test_the_shared_norm_may_have_the_name_of_any_level(small, level):
    folder, tensors = small
    renamed = {key.replace("_aux.0.2.", f"_aux.{level}.2."): t for key, t in tensors.items()}
    loaded = load_da3(write_checkpoint(folder, renamed))
    weight = tensors["model.head.scratch.output_conv2_aux.0.2.weight"]
    torch.testing.assert_close(loaded.dense.rays.norm.weight, weight)


NORM = "model.backbone.pretrained.norm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({NORM: None}, "1 missing .*norm.weight.*, 0 unexpected, 0 shape"),
        ({"model.extra": torch.zeros(2)}, "0 missing, 1 unexpected .*extra"),
        ({NORM: torch.zeros(3)}, "1 shape mismatches .*norm.weight"),
        ({NORM: torch.full((48,), torch.nan)}, "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(small, change, message):
    folder, tensors = small
    changed = {key: t for key, t in (tensors | change).items() if t is not None}
    with pytest.raises(CheckpointError, match=message):
        load_da3(write_checkpoint(folder, changed))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_name": "da3nested-giant-large"}'])
def test_other_models_are_refused(tmp_path, text):
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(CheckpointError):
        load_da3(tmp_path)


def test_a_config_of_depth_anything_is_known_by_its_model_name():
    assert is_da3({"model_name": "da3-base"})
    assert not is_da3({"model_name": 3})
    assert not is_da3(json.loads(ModelConfig().to_json()))


@pytest.mark.parametrize("name", PRESETS)
def test_the_zoo_holds_the_config_of_each(name):
    assert (ROOT / "models" / name / CONFIG).read_text() == PRESETS[name].to_json()


@torch.inference_mode()
def test_batch_equals_loop(network):
    images = torch.from_numpy(np.concatenate([draw_photos(3, 42, 56, seed) for seed in (1, 2)]))
    together = network(images)
    for index in range(2):
        alone = network(images[index : index + 1])
        for key in ("depth", "world_from_camera", "intrinsics", "features", "scales"):
            torch.testing.assert_close(
                getattr(together, key)[index], getattr(alone, key)[0], atol=1e-4, rtol=1e-4
            )


@torch.inference_mode()
def test_of_three_views_on_their_order_means_nothing(network):
    images = torch.from_numpy(draw_photos(4, 42, 56, 3))
    order = [2, 0, 3, 1]
    straight, permuted = network(images), network(images[:, order])
    for key in ("depth", "depth_error", "intrinsics", "features"):
        torch.testing.assert_close(
            getattr(permuted, key), getattr(straight, key)[:, order], atol=1e-4, rtol=1e-4
        )
    torch.testing.assert_close(permuted.world_from_camera[0, 0], torch.eye(4))


def on_canvas(images: torch.Tensor, fill: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Photos in the corner of 56 x 56 pixels, and which of these are theirs."""
    h, w = images.shape[-2:]
    canvas = torch.full((*images.shape[:3], 56, 56), fill)
    canvas[..., :h, :w] = images
    valid = torch.zeros(*images.shape[:2], 56, 56, dtype=torch.bool)
    valid[..., :h, :w] = True
    return canvas, valid


@torch.inference_mode()
def test_padding_changes_nothing(network):
    images = torch.from_numpy(draw_photos(3, 42, 56, 4))
    plain, padded = network(images, rays=True), network(*on_canvas(images, 0.7), rays=True)
    for key in ("depth", "depth_error", "opacities", "colors", "rays"):
        found, expected = getattr(padded, key), getattr(plain, key)
        rows = expected.shape[2]
        torch.testing.assert_close(found[:, :, :rows], expected, atol=1e-4, rtol=1e-4)
    for key in ("world_from_camera", "intrinsics", "scale"):
        torch.testing.assert_close(getattr(padded, key), getattr(plain, key), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_photos_of_both_orientations_share_a_canvas(network):
    wide, high = (torch.from_numpy(draw_photos(2, *size, 5)) for size in ((42, 56), (56, 42)))
    outputs = []
    for fill in (0.0, 0.9):
        both = [on_canvas(images, fill) for images in (wide, high)]
        images, valid = (torch.cat(parts, dim=1) for parts in zip(*both, strict=True))
        mixed = [0, 2, 1, 3]
        outputs.append(network(images[:, mixed], valid[:, mixed]))
    first, second = outputs
    torch.testing.assert_close(first.depth, second.depth)
    assert first.depth[0, 0, 42:].eq(1).all()
    assert first.depth[0, 1, :, 42:].eq(1).all()
    torch.testing.assert_close(
        first.intrinsics[0, :2, :2, 2], torch.tensor([[28.0, 21.0], [21.0, 28.0]])
    )


def test_every_parameter_gets_a_gradient(network):
    cameras = tuple(map(torch.from_numpy, draw_cameras(3, 42, 42, 6)))
    images = torch.from_numpy(draw_photos(3, 42, 42, 6))
    network.zero_grad()
    for given in (None, cameras):
        out = network(images, cameras=given, rays=True)
        values = [v for v in vars(out).values() if v is not None and v.requires_grad]
        torch.stack([(v * torch.randn_like(v)).sum() for v in values]).sum().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_cameras_are_refused_without_an_encoder():
    network = imported(replace(REDUCED["da3-small"], camera_encoder=0))
    cameras = tuple(map(torch.from_numpy, draw_cameras(2, 42, 42, 6)))
    with pytest.raises(ValueError, match="no encoder of known cameras"):
        network(torch.from_numpy(draw_photos(2, 42, 42, 6)), cameras=cameras)


@torch.inference_mode()
def test_a_network_without_some_heads_gives_no_channels(network):
    out = network(torch.from_numpy(draw_photos(2, 42, 56, 6)))
    for name in ("whole_logits", "part_logits", "instances", "descriptors", "token_descriptors"):
        assert getattr(out, name).shape[-1] == 0
    assert out.features.shape == (1, 2, 3, 4, network.config.width)
    assert out.rays is None
    assert (out.harmonics is not None) == network.config.gaussian_head


@torch.inference_mode()
def test_half_precision_is_for_the_trunk_alone(network):
    images = torch.from_numpy(draw_photos(2, 42, 56, 8))
    exact = network(images)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(images)
    for key, value in vars(exact).items():
        if value is not None and value.numel():
            assert getattr(rough, key).dtype == torch.float32, key
    assert (rough.depth.log() - exact.depth.log()).abs().mean() < 0.05
    turn = rough.world_from_camera[0, 1, :3, :3]
    torch.testing.assert_close(turn @ turn.T, torch.eye(3))


@torch.inference_mode()
def test_cameras_stay_where_nothing_describes_the_views(network):
    out = network(torch.from_numpy(draw_photos(2, 42, 56, 8)))
    assert refine_cameras(out) is out
