"""Tiny networks under names that open_clip knows, as files, and no pickle that is opened."""

import json
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import torch

from tests.clip.toy import CONFIG, model


@pytest.fixture(scope="module", autouse=True)
def known(tmp_path_factory):
    """Tiny networks under names that open_clip then knows."""
    folder = tmp_path_factory.mktemp("configs")
    variants = {
        "tiny-clip": CONFIG,
        "tiny-custom": CONFIG | {"custom_text": True},
        "tiny-timm": CONFIG
        | {"vision_cfg": CONFIG["vision_cfg"] | {"timm_model_name": "test_vit"}},
        "tiny-hf": CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"hf_tokenizer_name": "org/x"}},
    }
    for name, config in variants.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(model().state_dict(), path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """A network as repositories on the hub hold it."""
    path = tmp_path / "my clip"
    path.mkdir()
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    settings = {"model_cfg": CONFIG, "preprocess_cfg": preprocess}
    (path / "open_clip_config.json").write_text(json.dumps(settings))
    safetensors.torch.save_file(model().state_dict(), path / "open_clip_model.safetensors")
    return path


@pytest.fixture
def no_pickles(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a pickle was opened")

    monkeypatch.setattr(torch, "load", refuse)
