"""Features of whole views: sizes, windows, margins and scales, against the ways by themselves."""

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ffsplat.clip import Clip, ClipName, new_clip
from ffsplat.errors import UsageError
from ffsplat.semantics.dense import DenseClip, affinity_grid, patched_size
from ffsplat.semantics.dense_ways import proxy_features, self_features, value_features

CONFIG = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def clip(**changes) -> Clip:
    torch.manual_seed(1)
    model = new_clip({**CONFIG, "vision_cfg": CONFIG["vision_cfg"] | changes}).eval()
    model.requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    tokenizer = open_clip.SimpleTokenizer(context_length=8)
    return Clip(ClipName("toy", "own"), model, tokenizer, MEAN, STD)


def dense(**options) -> DenseClip:
    return DenseClip(clip=clip(), **{"window": 0, "scales": (32,)} | options)


def views(count: int = 2, height: int = 32, width: int = 48) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(2))


def normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def unit(features: Tensor) -> np.ndarray:
    return F.normalize(features, dim=-1).numpy()


@pytest.mark.parametrize(("way", "read"), [("value", value_features), ("self", self_features)])
def test_one_window_at_the_views_own_size_is_the_way_by_itself(way, read):
    network = dense(way=way)
    found = network.features(views())
    assert found.dtype == np.float32
    assert found.shape == (2, 4, 6, 12)
    np.testing.assert_allclose(found, unit(read(network.tower, normalised(views()))), atol=2e-6)
    assert network.name == "open_clip:toy/own"
    assert network.width == 12


def test_an_affinity_gives_the_grid_and_the_way():
    network = dense()
    other = torch.randn(2, 6 * 9, 5, generator=torch.Generator().manual_seed(3)) + 0.5
    found = network.features(views(), affinity=other)
    assert found.shape == (2, 6, 9, 12)
    across, down = ((2 * torch.arange(n) + 1) / n - 1 for n in (9, 6))
    places = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1).expand(2, -1, -1, -1)
    maps = other.mT.unflatten(2, (6, 9))
    expected = proxy_features(network.tower, normalised(views()), maps, places)
    np.testing.assert_allclose(found, unit(expected), atol=2e-6)


def test_views_never_influence_each_other():
    other = torch.randn(3, 24, 5)
    for network, affinity in (
        (dense(scales=(16, 40), window=16, stride=8), None),
        (dense(), other),
    ):
        together = network.features(views(3), affinity=affinity)
        for i in range(3):
            alone = None if affinity is None else affinity[i : i + 1]
            np.testing.assert_array_equal(
                network.features(views(3)[i : i + 1], affinity=alone)[0], together[i]
            )


def test_windows_that_do_not_overlap_are_read_one_by_one():
    network = dense(way="value", window=32, stride=32)
    image = views(1, 32, 64)
    found = network.features(image)[0]
    for side in (slice(0, 32), slice(32, 64)):
        part = unit(value_features(network.tower, normalised(image[..., side])))[0]
        cells = slice(side.start // 8, side.stop // 8)
        np.testing.assert_allclose(found[:, cells], part, atol=2e-6)


def test_windows_that_overlap_are_averaged_at_unit_length():
    """Three windows of 32 pixels over 56: from 0, 16 and 24, so 0-16 and 48-56 are seen once."""
    network = dense(way="value", window=32, stride=16)
    image = views(1, 32, 56)
    total = np.zeros((4, 7, 12))
    for start in (0, 16, 24):
        part = unit(value_features(network.tower, normalised(image[..., start : start + 32])))[0]
        total[:, start // 8 : start // 8 + 4] += part
    expected = total / np.linalg.norm(total, axis=-1, keepdims=True)
    np.testing.assert_allclose(network.features(image)[0], expected, atol=2e-6)


def test_windows_of_an_affinity_attend_within_themselves():
    network = dense(window=32, stride=32)
    image, other = views(1, 32, 64), torch.randn(1, 4 * 8, 5)
    found = network.features(image, affinity=other)[0]
    maps = other[0].unflatten(0, (4, 8))
    for start in (0, 4):
        part = maps[:, start : start + 4].flatten(0, 1)[None]
        alone = network.features(image[..., 8 * start : 8 * start + 32], affinity=part)
        np.testing.assert_allclose(found[:, start : start + 4], alone[0], atol=2e-6)


def test_scales_weigh_the_same():
    other = torch.randn(2, 24, 5)
    both, *each = (
        dense(scales=scales).features(views(), affinity=other).astype(np.float64)
        for scales in ((24, 48), (24,), (48,))
    )
    expected = each[0] + each[1]
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(both, expected, atol=2e-6)
    assert dense(scales=(24, 48), way="value").features(views()).shape == (2, 6, 9, 12)


@pytest.mark.parametrize("with_affinity", [False, True])
def test_margins_are_cut_away_whatever_is_in_them(with_affinity):
    """A photo of 32x48 in the corner of a canvas of 48x64: its features are those without it."""
    network = dense(scales=(32,))
    canvas, valid = torch.rand(1, 3, 48, 64), torch.zeros(1, 48, 64, dtype=torch.bool)
    canvas[:, :, :32, :48] = views(1)
    valid[:, :32, :48] = True
    other = torch.randn(1, 6, 8, 5)
    photo = network.features(
        views(1), affinity=other[:, :4, :6].flatten(1, 2) if with_affinity else None
    )
    found = network.features(canvas, valid, other.flatten(1, 2) if with_affinity else None)
    if with_affinity:
        np.testing.assert_allclose(found[0, :4, :6], photo[0], atol=2e-6)
        np.testing.assert_array_equal(found[0, 4:], 0)
        np.testing.assert_array_equal(found[0, :, 6:], 0)
    else:  # the canvas has 4x5 cells over 48x64 pixels: those inside are between the photo's
        lengths = np.linalg.norm(found[0], axis=-1)
        np.testing.assert_allclose(lengths, valid_cells(valid[0], (4, 5)), atol=1e-6)
    noise = torch.where(valid[:, None], canvas, torch.rand(1, 3, 48, 64))
    again = network.features(noise, valid, other.flatten(1, 2) if with_affinity else None)
    np.testing.assert_array_equal(again, found)


def valid_cells(valid: Tensor, grid: tuple[int, int]) -> np.ndarray:
    """1 for the cells of which at least half is valid."""
    share = F.adaptive_avg_pool2d(valid[None].float(), grid)[0]
    return (share >= 0.5).numpy().astype(float)


def test_a_view_without_any_pixel_is_zero():
    valid = torch.ones(2, 32, 48, dtype=torch.bool)
    valid[1] = False
    found = dense().features(views(), valid)
    np.testing.assert_array_equal(found[1], 0)
    np.testing.assert_allclose(np.linalg.norm(found[0], axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("size", [(20, 90), (90, 20), (31, 33), (7, 60)])
@pytest.mark.parametrize("window", [0, 32, None])
def test_any_shape_gives_unit_vectors_everywhere(size, window):
    network = dense(scales=(16, 40), window=window, stride=12)
    for other in (None, torch.randn(1, 4 * 6, 3) if size == (31, 33) else None):
        if other is not None:
            other = torch.randn(1, 5 * 5, 3)
        found = network.features(views(1, *size), affinity=other)
        np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)


def test_texts_and_patches_meet_in_one_space():
    """A view of one colour whose tokens are all alike looks like the whole image to every text."""
    loaded, colour = clip(), torch.tensor([0.1, 0.6, 0.3]).view(1, 3, 1, 1)
    visual = loaded.model.visual
    flat = normalised(colour.expand(1, 3, 32, 32))
    visual.class_embedding.copy_(visual.conv1(flat)[0, :, 0, 0])
    visual.positional_embedding.copy_(visual.positional_embedding[:1].expand(17, -1))
    with torch.inference_mode():
        texts = loaded.model.encode_text(loaded.tokenizer(["sofa", "lamp"]), normalize=True).numpy()
        pooled = loaded.model.encode_image(flat, normalize=True)[0].numpy()
    network = DenseClip(clip=loaded, way="value", scales=(40,), window=0)
    found = network.features(colour.expand(2, 3, 40, 56))
    np.testing.assert_allclose(
        found @ texts.T, np.broadcast_to(pooled @ texts.T, (2, 5, 7, 2)), atol=1e-5
    )


@pytest.mark.parametrize("way", ["value", "self", "proxy"])
def test_bfloat16_is_near(way):
    other = torch.randn(2, 24, 5) if way == "proxy" else None
    exact = dense(way=way).features(views(), affinity=other)
    rough = dense(way=way, dtype=torch.bfloat16).features(views(), affinity=other)
    assert (exact * rough).sum(-1).mean() > 0.98
    assert not np.array_equal(exact, rough)


def test_ways_and_affinities_must_fit():
    for options, affinity in (({"way": "proxy"}, None), ({"way": "self"}, torch.rand(2, 24, 5))):
        with pytest.raises(UsageError, match="features of another network"):
            dense(**options).features(views(), affinity=affinity)
    for options in (
        {"way": "magic"},
        {"scales": ()},
        {"scales": (0,)},
        {"stride": 0},
        {"window": -1},
    ):
        with pytest.raises(UsageError):
            dense(**options)
    with pytest.raises(UsageError, match="no grid of squares"):
        dense().features(views(), affinity=torch.rand(2, 23, 5))


def test_networks_of_another_build_can_be_read_in_the_plain_way_alone():
    custom = clip(block_type="custom", qk_norm=True)
    assert np.isfinite(DenseClip(clip=custom, way="value", scales=(32,)).features(views())).all()
    with pytest.raises(UsageError, match="not the usual one"):
        DenseClip(clip=custom, way="self", scales=(32,)).features(views())
    with pytest.raises(UsageError, match="one block"):
        DenseClip(clip=clip(layers=1), way="self", scales=(32,)).features(views())


def test_grids_of_affinities():
    assert affinity_grid((518, 392), 37 * 28) == (37, 28)
    assert affinity_grid((280, 504), 20 * 36) == (20, 36)
    assert affinity_grid((32, 32), 1) == (1, 1)
    for count in (0, 2, 37 * 28 + 1):
        with pytest.raises(UsageError):
            affinity_grid((518, 392), count)


def test_sides_become_whole_patches():
    assert patched_size((240, 320), (16, 16), None) == (240, 320)
    assert patched_size((240, 320), (16, 16), 224) == (224, 304)  # 298.7 is 18.7 patches
    assert patched_size((3, 100), (16, 8), None) == (16, 96)  # 12.5 patches round to even
