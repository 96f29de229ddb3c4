"""OpenCLIP loaded strictly: which names, files and configurations are taken, and what they give."""

import json

import open_clip
import pytest
import safetensors.torch
import torch

from ffsplat.clip import (
    Clip,
    ClipName,
    License,
    load_clip,
    load_clip_folder,
    parse_space,
    published,
    random_clip,
)
from ffsplat.clip.phrases import embed_phrases
from ffsplat.errors import CheckpointError, UsageError, WeightsMissing
from tests.clip.toy import CONFIG, NAME, model

# Names and licences


def test_names_of_spaces():
    name = ClipName("ViT-B-16", "laion2b_s34b_b88k")
    assert name.space == "open_clip:ViT-B-16/laion2b_s34b_b88k"
    assert parse_space(name.space) == name
    for other in (
        "",
        "ViT-B-16/x",
        "open_clip:ViT",
        "open_clip:a/b/c",
        "open_clip:hf-hub:a/b",
        "x",
    ):
        assert parse_space(other) is None


@pytest.mark.parametrize(
    ("arch", "tag", "start", "restricted"),
    [
        ("ViT-B-16", "laion2b_s34b_b88k", "MIT", False),
        ("ViT-B-16-quickgelu", "openai", "MIT", False),
        ("ViT-B-32", "datacomp_xl_s13b_b90k", "MIT", False),
        ("ViT-B-32", "commonpool_s_s13m_b4k", "MIT", False),
        ("ViT-B-16-quickgelu", "metaclip_fullcc", "CC BY-NC", True),
        ("ViT-B-16-quickgelu", "dfn2b", "Apple", True),
        ("MobileCLIP-S1", "datacompdr", "Apple", True),
        ("MobileCLIP2-B", "dfndr2b", "Apple", True),
        ("ViT-B-16-SigLIP", "webli", "stated by whoever", False),
    ],
)
def test_licences(arch, tag, start, restricted):
    found = ClipName(arch, tag).license
    assert isinstance(found, License)
    assert (found.text[: len(start)], found.restricted) == (start, restricted)


# Loading


@pytest.mark.parametrize("arch", ["tiny-clip", "tiny-custom"])
def test_a_loaded_network_computes_what_open_clip_computes(arch, tmp_path, no_pickles):
    config = CONFIG | ({"custom_text": True} if arch == "tiny-custom" else {})
    original = model(config)
    path = tmp_path / "w.safetensors"
    halves = {key: tensor.half() for key, tensor in original.state_dict().items()}
    safetensors.torch.save_file(halves, path)
    original.load_state_dict({key: tensor.float() for key, tensor in halves.items()})
    clip = load_clip(ClipName(arch, "own"), weights=path)
    images, phrases = torch.rand(2, 3, 32, 32), ["a red chair", "sofa"]
    tokens = open_clip.SimpleTokenizer(context_length=8)(phrases)
    assert torch.equal(clip.tokenizer(phrases), tokens)
    with torch.inference_mode():
        found, expected = clip.model.encode_image(images), original.encode_image(images)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
        text = load_clip(ClipName(arch, "own"), weights=path, text_only=True)
        for loaded in (clip, text):
            found, expected = loaded.model.encode_text(tokens), original.encode_text(tokens)
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
            for key, mask in original.named_buffers():
                assert torch.equal(loaded.model.get_buffer(key), mask)
    assert text.model.visual is None
    assert clip.weights == path
    assert not clip.model.training
    assert not any(parameter.requires_grad for parameter in clip.model.parameters())


def test_weights_must_be_exactly_those_of_the_network(weights, tmp_path, no_pickles):
    state = safetensors.torch.load_file(weights)
    broken = {
        "missing": {key: value for key, value in state.items() if key != "visual.proj"},
        "unexpected": state | {"visual.extra": torch.zeros(3)},
        "shape": state | {"visual.proj": torch.zeros(16, 13)},
        "not finite": state | {"visual.proj": torch.full((16, 12), torch.nan)},
        "no floats": state | {"visual.proj": torch.zeros(16, 12, dtype=torch.int32)},
    }
    for what, tensors in broken.items():
        path = tmp_path / "broken.safetensors"
        safetensors.torch.save_file(tensors, path)
        with pytest.raises(CheckpointError, match=what):
            load_clip(NAME, weights=path)
    for name in ("net.bin", "net.pt", "net.txt"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
        with pytest.raises(CheckpointError):
            load_clip(NAME, weights=tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (ClipName("ViT-B-16", "openai"), "activation", "open_clip:ViT-B-16-quickgelu/openai"),
        (ClipName("ViT-H-14-quickgelu", "x"), "no weights 'x'", "metaclip_fullcc"),
        (ClipName("no-such", "x"), "no model", "list_models"),
        (ClipName("hf-hub:org/x", "x"), "no model", "list_models"),
        (ClipName("tiny-timm", "x"), "plain ViT", "ViT-B-16"),
        (ClipName("tiny-hf", "x"), "text tower of its own", "ViT-B-16"),
        (ClipName("coca_ViT-B-32", "x"), "text tower of its own", "ViT-B-16"),
    ],
)
def test_networks_that_are_refused(name, message, hint):
    with pytest.raises(UsageError, match=message) as caught:
        load_clip(name, offline=True)
    assert hint in str(caught.value.hint)


def test_weights_trained_without_quickgelu_are_refused_for_a_network_with_it():
    quick = {**CONFIG, "quick_gelu": True}
    name = ClipName("ViT-X-quickgelu", "tag")
    with pytest.raises(UsageError, match="activation") as caught:
        published.check_activation(name, quick, {"hf_hub": "org/x/"})
    assert caught.value.hint == "open_clip:ViT-X/tag"
    published.check_activation(name, quick, {"quick_gelu": True})
    published.check_activation(name, CONFIG, {"hf_hub": "org/x/"})
    published.check_activation(name, quick, {})


def test_every_published_pair_is_resolved_or_refused():
    """No tag of open_clip's own list reaches a network with the other activation."""
    for arch, tag in open_clip.list_pretrained():
        config, trained = open_clip.get_model_config(arch), published.published(ClipName(arch, tag))
        differs = bool(config.get("quick_gelu")) != bool(trained.get("quick_gelu"))
        if differs:
            with pytest.raises(UsageError):
                published.check_activation(ClipName(arch, tag), config, trained)
        else:
            published.check_activation(ClipName(arch, tag), config, trained)


def test_a_text_tower_may_stand_beside_any_vision_tower(tmp_path):
    config = CONFIG | {
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_proj": "linear",
                       "timm_pool": "token"}
    }  # fmt: skip
    path = tmp_path / "folder"
    path.mkdir()
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    original = model(config)
    safetensors.torch.save_file(original.state_dict(), path / "open_clip_model.safetensors")
    clip = load_clip_folder(path, text_only=True)
    tokens = clip.tokenizer(["sofa"])
    with torch.inference_mode():
        found, expected = clip.model.encode_text(tokens), original.encode_text(tokens)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    with pytest.raises(UsageError, match="plain ViT"):
        load_clip_folder(path)


def test_random_networks_differ_by_seed_and_leave_the_generator_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    one, same, other = (random_clip(NAME, seed).model.visual.proj for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("custom", [{}, {"custom_text": True}])
@pytest.mark.parametrize("mask", [{}, {"no_causal_mask": True}])
def test_phrases_without_their_padding_have_the_same_embeddings(custom, mask):
    text = CONFIG["text_cfg"] | {"context_length": 20, "layers": 3}
    network = model(CONFIG | {"text_cfg": text | mask} | custom)
    tokenizer = open_clip.SimpleTokenizer(context_length=20)
    clip = Clip(NAME, network, tokenizer, (0.5,) * 3, (0.5,) * 3)
    phrases = ["sofa", "a very long phrase " * 10, "red chair", ""]
    with torch.inference_mode():
        expected = network.encode_text(tokenizer(phrases), normalize=True)
        short = network.encode_text(tokenizer(phrases[::2]), normalize=True)
    torch.testing.assert_close(embed_phrases(clip, phrases), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(embed_phrases(clip, phrases[::2]), short, atol=1e-5, rtol=1e-5)


# Folders


def test_a_folder_is_a_network(folder, no_pickles):
    clip = load_clip_folder(folder)
    assert clip.name.arch == "my-clip"
    assert clip.name.tag.startswith("sha256-")
    assert parse_space(clip.name.space) == clip.name
    assert (clip.mean, clip.std) == ((0.5,) * 3, (0.25,) * 3)
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        found, expected = clip.model.encode_image(images), model().encode_image(images)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_a_folder_without_its_files_is_refused_and_its_pickles_are_not_opened(folder, no_pickles):
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"\x80\x04.")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(WeightsMissing, match=r"no open_clip_model\.safetensors"):
        load_clip_folder(folder)
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(WeightsMissing, match=r"open_clip_config\.json"):
        load_clip_folder(folder)


@pytest.mark.parametrize(
    "settings",
    [
        "not json", "[]", "{}", '{"model_cfg": 3}', "[" * 100_000, " " * ((1 << 20) + 1),
        {"embed_dim": 1 << 40}, {"embed_dim": float("inf")}, {"embed_dim": "12"},
        {"vision_cfg": []}, {"text_cfg": {"layers": 1 << 20}}, {"text_cfg": {"no_such": 1}},
        {"vision_cfg": {"timm_model_name": "hf-hub:org/x"}},
    ],
)  # fmt: skip
def test_hostile_configurations_are_refused(folder, settings):
    text = settings
    if isinstance(settings, dict):
        text = json.dumps({"model_cfg": CONFIG | settings})
    (folder / "open_clip_config.json").write_text(text)
    with pytest.raises(CheckpointError):
        load_clip_folder(folder, text_only=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"preprocess_cfg": {"mean": 0.5}},
        {"preprocess_cfg": {"std": [0.5, "x", 0.5]}},
        {"model_cfg": CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"tokenizer_kwargs": {"x": 1}}}},
        {"model_cfg": CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"tokenizer_kwargs": [1]}}},
    ],
)
def test_preprocessing_that_makes_no_sense_is_refused(folder, settings):
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG} | settings))
    with pytest.raises(CheckpointError):
        load_clip_folder(folder)


def test_light_names():
    import subprocess
    import sys

    program = (
        "import sys, ffsplat.clip; print([m for m in ('torch', 'open_clip', 'huggingface_hub', "
        "'safetensors') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
