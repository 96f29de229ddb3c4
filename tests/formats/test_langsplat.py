"""Checkpoints of LangSplat, made in its layout, against its own way of decoding a pixel."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from command import run
from safetensors.torch import save_file
from torch import nn

from ffsplat.errors import SceneFileError, UsageError
from ffsplat.formats import read_scene
from ffsplat.types import LEVELS
from tests.formats.foreign import (
    COUNT,
    RANDOM,
    assert_same_shapes,
    decoded,
    foreign_gaussians,
    langsplat,
)

SPACE = "open_clip:ViT-B-16/laion2b_s34b_b88k"
WIDTHS = (3, 16, 32, 64, 128, 256, 256, 512)


class Autoencoder(nn.Module):
    """Layers of the sizes and names of LangSplat's autoencoder/model.py."""

    def __init__(self, widths=WIDTHS):
        super().__init__()
        torch.manual_seed(5)
        self.encoder = nn.ModuleList(
            [nn.Linear(512, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, widths[0])]
        )
        layers = [nn.Linear(widths[0], widths[1])]
        for narrow, wide in pairwise(widths[1:]):
            layers += [nn.ReLU(), nn.Linear(narrow, wide)]
        self.decoder = nn.ModuleList(layers)

    @torch.no_grad()
    def of_pixel(self, latents):
        """The feature of a pixel that one opaque Gaussian covers: render, then decode."""
        x = torch.from_numpy(latents)
        x = x / (x.norm(dim=-1, keepdim=True) + 1e-9)
        for layer in self.decoder:
            x = layer(x)
        return (x / x.norm(dim=-1, keepdim=True)).numpy()


def latents_of(count=COUNT, size=3):
    return RANDOM.normal(size=(count, size)).astype(np.float32) * 3


@pytest.fixture
def gaussians():
    return foreign_gaussians()


@pytest.mark.parametrize("place", ["best_ckpt.pth", "ae_ckpt/best_ckpt.pth", "../best_ckpt.pth"])
def test_a_gaussian_means_what_a_pixel_of_it_alone_does(tmp_path, gaussians, place):
    folder = tmp_path / "garden"
    (folder / "ae_ckpt").mkdir(parents=True)
    network = Autoencoder()
    torch.save(network.state_dict(), folder / place)
    saved = langsplat(folder / "chkpnt30000.pth", gaussians, latents_of())
    scene = read_scene(folder / "chkpnt30000.pth")
    assert_same_shapes(scene, gaussians)
    theirs = network.of_pixel(saved[6])
    np.testing.assert_allclose((decoded(scene) * theirs).sum(1), 1, atol=1e-5)
    assert list(scene.codebook.spaces) == [SPACE]
    assert scene.provenance == {"model": "LangSplat", "codes": "mean cosine 1.000"}


def test_levels_in_folders_of_one_name_become_one_scene(tmp_path, gaussians):
    network, theirs = Autoencoder(), {}
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    for level in (1, 2, 3):
        (tmp_path / f"desk_{level}").mkdir()
        saved = langsplat(tmp_path / f"desk_{level}" / "chkpnt1.pth", gaussians, latents_of())
        theirs[level] = network.of_pixel(saved[6])
    file = tmp_path / "desk_2" / "chkpnt1.pth"
    scene = read_scene(file, codebook=tmp_path / "mine.safetensors")
    assert scene.codes.ids.shape == (COUNT, 3)
    table = scene.codebook.spaces[SPACE].astype(np.float32)
    for name, level in (("whole", 3), ("part", 2), ("subpart", 1)):
        counted = np.append(scene.codebook.levels == LEVELS.index(name), False)[scene.codes.ids]
        ours = table[scene.codes.ids[counted]]
        np.testing.assert_allclose((ours * theirs[level]).sum(1), 1, atol=1e-3)
    np.testing.assert_allclose(scene.codes.weights.astype(float), 1 / 3, atol=1e-3)


def test_what_was_never_learnt_means_nothing(tmp_path, gaussians):
    latents = latents_of()
    latents[::2] = 0
    langsplat(tmp_path / "chkpnt1.pth", gaussians, latents)
    torch.save(Autoencoder().state_dict(), tmp_path / "best_ckpt.pth")
    scene = read_scene(tmp_path / "chkpnt1.pth")
    np.testing.assert_array_equal(scene.codes.norms > 0, np.arange(COUNT) % 2 == 1)


def test_without_the_autoencoder_latents_are_a_space_of_their_own(tmp_path, gaussians):
    saved = langsplat(tmp_path / "chkpnt1.pth", gaussians, latents_of())
    outcome = run("convert", tmp_path / "chkpnt1.pth", tmp_path / "scene.ply", "--json")
    assert json.loads(outcome.out)["gaussians"] == COUNT
    assert "no autoencoder (best_ckpt.pth)" in outcome.err
    scene = read_scene(tmp_path / "scene.ply")
    assert list(scene.codebook.spaces) == ["features:3"]
    unit = saved[6] / np.linalg.norm(saved[6], axis=1, keepdims=True)
    np.testing.assert_allclose((decoded(scene) * unit).sum(1), 1, atol=1e-5)


def test_files_that_do_not_fit_are_refused(tmp_path, gaussians):
    file, network = tmp_path / "chkpnt1.pth", tmp_path / "best_ckpt.pth"
    langsplat(file, gaussians, latents_of())
    for state, message in (
        ({"encoder.0.weight": torch.zeros(2, 2)}, "no autoencoder of LangSplat"),
        (Autoencoder((4, 16, 512)).state_dict(), "not for 3 inputs"),
        ({"decoder.0.weight": torch.zeros(5000, 3), "decoder.0.bias": torch.zeros(5000)}, "5000"),
        ({"decoder.0.weight": torch.full((9, 3), torch.nan), "decoder.0.bias": torch.zeros(9)},
         "not finite"),
    ):  # fmt: skip
        torch.save(state, network)
        with pytest.raises(SceneFileError, match=message):
            read_scene(file)
    for shape in ((COUNT, 0), (COUNT - 1, 3), (COUNT, 65), (COUNT,)):
        langsplat(file, gaussians, np.ones(shape, np.float32))
        with pytest.raises(SceneFileError, match="do not fit together"):
            read_scene(file)
    for damage in ({"quaternions_wxyz": 0}, {"scales": np.float32(3e38)}):
        ((name, value),) = damage.items()
        damaged = np.array(getattr(gaussians, name))
        damaged[7] = value
        langsplat(file, replace(gaussians, **{name: damaged}), latents_of())
        network.unlink(missing_ok=True)
        with pytest.raises(SceneFileError, match=r"1 of 60 Gaussians have no rotation|float32"):
            read_scene(file)
    books = RANDOM.normal(size=(1, 64, 8)).astype(np.float32)
    langsplat(file, gaussians, np.zeros((COUNT, 64), np.float32), books)
    with pytest.raises(UsageError, match="in the checkpoint"):
        read_scene(file, codebook=network)
    (tmp_path / "a_1").mkdir()
    (tmp_path / "a_2").mkdir()
    langsplat(tmp_path / "a_1" / "c.pth", gaussians, latents_of())
    langsplat(tmp_path / "a_2" / "c.pth", gaussians, np.zeros((COUNT, 64), np.float32), books)
    with pytest.raises(SceneFileError, match="has other Gaussians than"):
        read_scene(tmp_path / "a_2" / "c.pth")
