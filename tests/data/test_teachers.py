"""Networks that teach: their arithmetic against open_clip, timm and hand computation."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F

from data.teachers import (
    DenseClip,
    DenseVit,
    NetworkName,
    Record,
    licence_of,
    network,
    open_network,
    parse_name,
)
from data.teachers import weights as weights_module
from data.teachers.network import patched_size
from ffsplat.errors import CheckpointError, UsageError, WeightsMissing
from ffsplat.text import text_space

TINY = {
    "embed_dim": 12,
    "vision_cfg": {
        "image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8,
        "mlp_ratio": 2,
    },
    "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1},
}  # fmt: skip
VARIANTS = {
    "toy-tiny": {},
    "toy-one": {"layers": 1},
    "toy-scaled": {"layers": 1, "ls_init_value": 0.3},
    "toy-custom": {
        "layers": 1, "block_type": "custom", "qk_norm": True, "scale_heads": True,
        "scale_attn_inner": True, "scale_attn": True, "scale_fc": True,
    },
    "toy-pooled": {"attentional_pool": True},
    "toy-timm": {"timm_model_name": "test_vit"},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def toys(tmp_path_factory):
    """Small models under names that open_clip then knows."""
    folder = tmp_path_factory.mktemp("configs")
    for name, changes in VARIANTS.items():
        config = TINY | {"vision_cfg": TINY["vision_cfg"] | changes}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def clip_model(arch: str, **options) -> torch.nn.Module:
    """A model whose parameters are all random, biases and gains too."""
    torch.manual_seed(1)
    model = open_clip.create_model(arch, **options).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def dense(model) -> DenseClip:
    return DenseClip(model.visual, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def images(height: int, width: int, views: int = 2) -> torch.Tensor:
    return torch.rand(views, 3, height, width, generator=torch.Generator().manual_seed(2))


# Dense OpenCLIP


def test_patch_features_are_those_of_the_value_path_by_hand():
    tower = clip_model("toy-one").visual
    image = images(16, 24, 1)[0]
    found = dense(clip_model("toy-one"))(image[None])[0]
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    (block,) = tower.transformer.resblocks
    grid = tower.positional_embedding[1:].reshape(4, 4, 16).permute(2, 0, 1)[None]
    places = F.interpolate(grid, (2, 3), mode="bicubic", antialias=True)[0]
    for row, column in np.ndindex(2, 3):
        pixels = image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        pixels = (pixels - mean[:, None, None]) / std[:, None, None]
        token = tower.conv1.weight.flatten(1) @ pixels.flatten() + places[:, row, column]
        token = tower.ln_pre(token)
        value = block.attn.in_proj_weight[32:] @ block.ln_1(token) + block.attn.in_proj_bias[32:]
        token = token + block.attn.out_proj.weight @ value + block.attn.out_proj.bias
        token = token + block.mlp(block.ln_2(token))
        feature = tower.ln_post(token) @ tower.proj
        expected = feature / feature.norm()
        torch.testing.assert_close(found[:, row, column], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("arch", ["toy-one", "toy-scaled", "toy-custom"])
def test_attention_that_passes_values_on_gives_the_same_for_every_kind_of_block(arch):
    model = clip_model(arch)
    found = dense(model)(images(32, 32))
    attention = model.visual.transformer.resblocks[-1].attn

    def values(tokens, *_, **__):
        passed = F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)[2]
        if isinstance(attention, torch.nn.MultiheadAttention):
            return (attention.out_proj(passed),)
        heads = passed.unflatten(-1, (2, 8)) * attention.head_scale[:, 0]
        return attention.out_proj(attention.ln_inner(heads.flatten(-2)))

    attention.forward = values
    model.visual.output_tokens = True
    whole = dense(model)
    _, tokens = model.visual((images(32, 32) - whole.mean) / whole.std)
    expected = F.normalize(tokens @ model.visual.proj, dim=-1).mT.unflatten(2, (4, 4))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_where_all_tokens_agree_every_patch_has_the_feature_of_the_image():
    """Attention among equal tokens is the value of each, so pooling changes nothing."""
    model = clip_model("toy-tiny")
    tower, colour = model.visual, torch.tensor([0.1, 0.6, 0.3]).view(1, 3, 1, 1)
    network = dense(model)
    normalised = (colour.expand(1, 3, 32, 32) - network.mean) / network.std
    tower.class_embedding.copy_(tower.conv1(normalised)[0, :, 0, 0])
    tower.positional_embedding.copy_(tower.positional_embedding[:1].expand(17, -1))
    pooled = model.encode_image(normalised, normalize=True)[0]
    found = network(colour.expand(1, 3, 40, 24))[0]
    assert found.shape == (12, 5, 3)
    torch.testing.assert_close(
        found, pooled[:, None, None].expand_as(found), atol=1e-5, rtol=1e-4
    )  # fmt: skip


def test_another_size_is_that_of_a_model_whose_positions_open_clip_resized():
    model = clip_model("toy-tiny")
    wide = open_clip.create_model("toy-tiny", force_image_size=(24, 48)).eval()
    state = model.state_dict()
    open_clip.model.resize_pos_embed(state, wide)
    wide.load_state_dict(state)
    assert wide.visual.grid_size == (3, 6)
    torch.testing.assert_close(dense(model)(images(24, 48)), dense(wide)(images(24, 48)))
    # At its own size a model's positions are taken as they are.
    native = images(32, 32)
    tower, network = model.visual, dense(model)
    seen = []
    handle = tower.ln_pre.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(native)
    tower((native - network.mean) / network.std)
    handle.remove()
    assert torch.equal(seen[0], seen[1])


def test_features_have_length_one_and_gradients_are_off():
    network = dense(clip_model("toy-tiny"))
    found = network(images(16, 40))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2, 2, 5))
    assert not any(parameter.requires_grad for parameter in network.parameters())


# Dense ViT


def vit(arch: str, **options) -> torch.nn.Module:
    torch.manual_seed(3)
    return timm.create_model(arch, num_classes=0, **options).eval()


def test_tokens_are_those_of_timm_at_its_own_size():
    plain = vit("test_vit")
    found = DenseVit(vit("test_vit", dynamic_img_size=True), (0.5,) * 3, (0.25,) * 3)
    given = images(160, 160, 1)
    expected = plain.forward_features((given - 0.5) / 0.25)[0, 1:].reshape(10, 10, 64)
    torch.testing.assert_close(found(given)[0].permute(1, 2, 0), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("arch", "extra"), [("test_vit", 1), ("deit_tiny_distilled_patch16_224", 2)]
)
def test_tokens_at_another_size_stand_in_rows_and_without_those_of_no_patch(arch, extra):
    inner = vit(arch, dynamic_img_size=True)
    found = DenseVit(inner, (0.5,) * 3, (0.25,) * 3)(images(48, 32, 1))
    tokens = inner.forward_features((images(48, 32, 1) - 0.5) / 0.25)[0]
    assert len(tokens) == extra + 6
    for row, column in np.ndindex(3, 2):
        torch.testing.assert_close(found[0, :, row, column], tokens[extra + 2 * row + column])


# Photos


def test_sides_become_whole_patches():
    assert patched_size((240, 320), (16, 16), None) == (240, 320)
    assert patched_size((240, 320), (14, 14), None) == (238, 322)
    assert patched_size((240, 320), (16, 16), 224) == (224, 304)  # 298.7 is 18.7 patches
    assert patched_size((3, 100), (16, 8), None) == (16, 96)  # 12.5 patches round to even


def test_maps_are_those_of_each_photo_by_itself(monkeypatch):
    monkeypatch.setattr(network, "AT_ONCE", 2)
    model = dense(clip_model("toy-tiny"))
    photos = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), np.uint8)
    found = model.maps(photos)
    assert found.dtype == np.float16
    assert found.shape == (5, 12, 2, 3)
    each = model(torch.from_numpy(photos).permute(0, 3, 1, 2) / 255)
    np.testing.assert_allclose(found, each.numpy(), atol=2e-3)
    # A photo of one colour stays so in any size, and overshoot of the filter is cut off.
    plain = np.full((1, 20, 30, 3), 77, np.uint8)
    torch.testing.assert_close(
        torch.from_numpy(model.maps(plain, 40)).float(),
        model(torch.full((1, 3, 40, 64), 77 / 255)),
        atol=2e-3, rtol=0,
    )  # fmt: skip


def test_resizing_never_leaves_the_range_of_an_image():
    seen = []
    model = dense(clip_model("toy-tiny"))
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    edge = np.zeros((1, 16, 16, 3), np.uint8)
    edge[:, :, 8:] = 255
    model.maps(edge, 64)
    assert seen[0].min() == 0
    assert seen[0].max() == 1


# Names and weights


def test_names():
    name = parse_name("open_clip:ViT-B-16/laion2b_s34b_b88k")
    assert name == NetworkName("open_clip", "ViT-B-16", "laion2b_s34b_b88k")
    assert text_space(name.space).name == "open_clip:ViT-B-16/laion2b_s34b_b88k"
    assert (
        parse_name("timm:vit_small_patch14_dinov2").space == "timm:vit_small_patch14_dinov2.lvd142m"
    )
    assert parse_name("timm:vit_small_patch16_224.dino").tag == "dino"


@pytest.mark.parametrize(
    "text",
    [
        "ViT-B-16", "open_clip:ViT-B-16", "open_clip:hf-hub:a/b/c", "open_clip:../a/b", "timm:",
        "timm:hf-hub:org/net", "timm:local-dir:/tmp", "timm:no_such_net",
        "timm:vit_small_patch14_dinov2.nobody", "timm:vit/x", "open_clip:a/b\n",
    ],
)  # fmt: skip
def test_other_names_are_refused(text):
    with pytest.raises(UsageError):
        parse_name(text)


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("open_clip:ViT-B-16/laion2b_s34b_b88k", "MIT"),
        ("open_clip:ViT-B-16-quickgelu/metaclip_400m", "CC BY-NC 4.0"),
        ("open_clip:ViT-B-16-quickgelu/dfn2b", "Apple"),
        ("open_clip:ViT-B-16/somebody", "whoever publishes"),
        ("timm:vit_small_patch14_dinov2", "apache-2.0"),
        ("timm:vit_small_patch16_dinov3", "dinov3-license"),
    ],
)
def test_licences(name, licence):
    assert licence in licence_of(parse_name(name)).partition("licence: ")[2]


def toy(arch: str = "toy-tiny", tag: str = "own") -> NetworkName:
    return NetworkName("open_clip", arch, tag)


VIT = NetworkName("timm", "test_vit", "r160_in1k")


@pytest.fixture
def no_pickles(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a pickle was asked for")

    monkeypatch.setattr(torch, "load", refuse)


@pytest.fixture
def own_weights(tmp_path) -> dict[str, Path]:
    """A whole toy CLIP and a whole ViT with a head as safetensors files."""
    paths = {kind: tmp_path / f"{kind}.safetensors" for kind in ("open_clip", "timm")}
    safetensors.torch.save_file(clip_model("toy-tiny").state_dict(), paths["open_clip"])
    torch.manual_seed(3)
    safetensors.torch.save_file(timm.create_model("test_vit").state_dict(), paths["timm"])
    return paths


def test_weights_of_a_file_are_used(own_weights, no_pickles):
    given = images(32, 48)
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    clip, record = open_network(toy(), own_weights["open_clip"])
    torch.testing.assert_close(
        clip(given), DenseClip(clip_model("toy-tiny").visual, mean, std)(given)
    )
    assert record.space == "open_clip:toy-tiny/own"
    assert record.weights.startswith("sha256:")
    found, record = open_network(VIT, own_weights["timm"], shorter=96)
    torch.manual_seed(3)
    whole = timm.create_model("test_vit", dynamic_img_size=True).eval()
    expected = whole.forward_features((given - 0.5) / 0.5)[:, 1:]
    torch.testing.assert_close(found(given).flatten(2).mT, expected)
    assert record == Record("timm:test_vit.r160_in1k", 64, record.weights, 96)


def test_random_weights_have_a_space_of_their_own_and_leave_the_seed_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    one, record = open_network(toy(), "random")
    other, _ = open_network(toy(), "random")
    assert torch.equal(torch.rand(3), expected)
    assert record == Record("open_clip:toy-tiny/random", 12, "random", 0)
    assert torch.equal(one(images(16, 16)), other(images(16, 16)))
    assert open_network(VIT, "random")[1].space == "timm:test_vit.random"


def test_weights_of_another_form_are_refused(own_weights, tmp_path, no_pickles):
    pickle = tmp_path / "net.pt"
    pickle.write_bytes(b"\x80\x04.")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\xff" * 100)
    for name, other in ((toy(), "timm"), (VIT, "open_clip")):
        for path in (pickle, tmp_path / "absent.safetensors", broken, own_weights[other]):
            with pytest.raises(CheckpointError):
                open_network(name, path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (toy("ViT-B-16", "openai"), "open_clip:ViT-B-16-quickgelu/openai"),
        (toy("ViT-B-16", "nobody"), "laion2b_s34b_b88k"),
        (toy("no-such", "x"), "list_models"),
        (toy("toy-pooled"), "ViT-B-16"),
        (toy("toy-timm"), "ViT-B-16"),
        (toy("RN50", "openai"), "ViT-B-16"),
        (toy("roberta-ViT-B-32", "laion2b_s12b_b32k"), "ViT-B-16"),
        (NetworkName("timm", "resnet18", "a1_in1k"), "dinov2"),
        (NetworkName("timm", "swin_tiny_patch4_window7_224", ""), "dinov2"),
    ],
)
def test_networks_that_are_no_teachers(name, hint):
    with pytest.raises(UsageError) as caught:
        open_network(name, "random" if name.kind == "timm" else "hub")
    assert hint in caught.value.hint


def test_the_hub_is_asked_for_safetensors_alone(own_weights, monkeypatch, no_pickles):
    asked = []

    def download(repository, file, **_):
        asked.append((repository, file))
        return str(own_weights["timm"])

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    open_network(VIT, "hub")
    for arch, tag in (("ViT-B-16", "laion2b_s34b_b88k"), ("ViT-B-16-quickgelu", "openai")):
        with pytest.raises(CheckpointError):  # what this hub gives is another network
            open_network(toy(arch, tag), "hub")
    assert asked == [
        ("timm/test_vit.r160_in1k", "model.safetensors"),
        ("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "open_clip_model.safetensors"),
        ("timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors"),
    ]


def test_a_hub_that_does_not_answer(monkeypatch):
    def fail(*_, **__):
        raise OSError("no network\nand more")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(WeightsMissing, match=r"model\.safetensors of org/x .* no network$"):
        weights_module.hub_file("org/x", "model.safetensors")


def test_no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="CUDA"):
        open_network(toy(), "random", device="cuda")
