"""The three ways to read patches, against the published formulas written out in loops."""

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ffsplat.semantics import dense_ways
from ffsplat.semantics.dense_ways import (
    layers_of_depth,
    proxy_features,
    self_features,
    value_features,
)

WIDTH, HEADS, PATCH = 16, 2, 8


def tower(layers: int = 12, size: int = 32, **options) -> torch.nn.Module:
    """A vision tower whose parameters are all random, biases and gains too."""
    torch.manual_seed(1)
    visual = open_clip.transformer.VisionTransformer(
        size, PATCH, WIDTH, layers, HEADS, 2.0, output_dim=12, **options
    )
    visual.eval().requires_grad_(False)
    for parameter in visual.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    return visual


def images(count: int = 2, height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(2))


def centers(rows: int, columns: int, count: int) -> Tensor:
    """Where cells of an even grid lie, as `grid_sample` counts."""
    across = (2 * torch.arange(columns) + 1) / columns - 1
    down = (2 * torch.arange(rows) + 1) / rows - 1
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)
    return grid.expand(count, -1, -1, -1)


def layers_of(visual, image: Tensor) -> list[Tensor]:
    """Tokens before the first block and after each, of one image at the network's own size."""
    grid = visual.conv1(image[None])[0].flatten(1).T
    tokens = torch.cat([visual.class_embedding[None], grid]) + visual.positional_embedding
    found = [visual.ln_pre(tokens)]
    for block in visual.transformer.resblocks:
        found.append(block(found[-1][None])[0])
    return found


def value_of(block, token: Tensor) -> Tensor:
    attention = block.attn
    weight, bias = attention.in_proj_weight[2 * WIDTH :], attention.in_proj_bias[2 * WIDTH :]
    return weight @ block.ln_1(token) + bias


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def cosines_of(tokens: Tensor) -> np.ndarray:
    return np.array([[cosine(a, b) for b in tokens] for a in tokens])


def sharp(cosines: np.ndarray, shift: float) -> np.ndarray:
    """softmax(3 (cosine - shift mean)) over what is not negative, row by row."""
    logits = 3 * (cosines - shift * cosines.mean())
    weights = np.where(logits >= 0, np.exp(logits), 0)
    return weights / weights.sum(1, keepdims=True)


def test_value_features_are_those_of_each_patch_by_itself():
    visual = tower()
    found = value_features(visual, images())
    block = visual.transformer.resblocks[-1]
    for image, features in zip(images(), found, strict=True):
        for token, feature in zip(
            layers_of(visual, image)[-2][1:], features.flatten(0, 1), strict=True
        ):
            after = token + block.attn.out_proj(value_of(block, token))
            after = after + block.mlp(block.ln_2(after))
            expected = visual.ln_post(after) @ visual.proj
            torch.testing.assert_close(feature, expected, atol=2e-5, rtol=1e-4)


def test_proxy_features_are_values_averaged_over_what_another_network_finds_alike():
    visual = tower()
    other = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(3)) + 0.5
    found = proxy_features(visual, images(), other, centers(4, 4, 2))
    block = visual.transformer.resblocks[-1]
    for image, features, near in zip(images(), found, other, strict=True):
        values = [value_of(block, token) for token in layers_of(visual, image)[-2][1:]]
        attention = sharp(cosines_of(near.flatten(1).T), 1.2)
        assert 0.1 < (attention == 0).mean() < 0.9
        for weights, feature in zip(attention, features.flatten(0, 1), strict=True):
            mixed = sum(w * value for w, value in zip(weights.tolist(), values, strict=True))
            expected = visual.ln_post(block.attn.out_proj(mixed)) @ visual.proj
            torch.testing.assert_close(feature, expected, atol=2e-5, rtol=1e-4)


def test_proxy_features_lie_on_the_grid_of_the_other_network():
    """Values are resampled to it bilinearly, as `interpolate` does for an even grid."""
    visual = tower()
    other = torch.eye(42).reshape(1, 42, 6, 7)
    found = proxy_features(visual, images(1), other, centers(6, 7, 1))
    assert found.shape == (1, 6, 7, 12)
    block = visual.transformer.resblocks[-1]
    values = torch.stack([value_of(block, t) for t in layers_of(visual, images(1)[0])[-2][1:]])
    placed = F.interpolate(values.T.reshape(1, WIDTH, 4, 4), (6, 7), mode="bilinear")[0]
    expected = visual.ln_post(block.attn.out_proj(placed.permute(1, 2, 0))) @ visual.proj
    torch.testing.assert_close(found[0], expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("other", [torch.eye(16).reshape(1, 16, 4, 4), torch.ones(1, 3, 4, 4)])
def test_where_patches_are_all_unlike_or_all_alike_each_keeps_its_own_value(other):
    """That is the value path without the block's residual path and MLP."""
    visual = tower()
    block = visual.transformer.resblocks[-1]
    tokens = layers_of(visual, images(1)[0])[-2][1:]
    found = proxy_features(visual, images(1), other, centers(4, 4, 1))[0].flatten(0, 1)
    for token, feature in zip(tokens, found, strict=True):
        expected = visual.ln_post(block.attn.out_proj(value_of(block, token))) @ visual.proj
        torch.testing.assert_close(feature, expected, atol=2e-5, rtol=1e-4)


def outliers_of(tokens: Tensor, count: int) -> np.ndarray:
    """Which patches have a local outlier factor above the 95th percentile."""
    points = tokens.double().numpy()
    squares = np.array([[np.sum((a - b) ** 2) for b in points] for a in points])
    order = [
        sorted(range(len(points)), key=lambda j: (squares[i][j], j != i))
        for i in range(len(points))
    ]
    nearest = [row[1 : count + 1] for row in order]
    density = np.array([1 / squares[i][near[-1]] for i, near in enumerate(nearest)])
    factor = np.array([np.mean(density[near]) / density[i] for i, near in enumerate(nearest)])
    return factor > np.quantile(factor, 0.95)


def smoothed(tokens: Tensor, outliers: np.ndarray, columns: int) -> Tensor:
    result = tokens.clone()
    rows = len(tokens) // columns
    for i in np.flatnonzero(outliers):
        y, x = divmod(int(i), columns)
        ring = [
            yy * columns + xx
            for yy in range(max(0, y - 1), min(rows, y + 2))
            for xx in range(max(0, x - 1), min(columns, x + 2))
            if not outliers[yy * columns + xx]
        ]
        if ring:
            result[i] = tokens[ring].mean(0)
    return result


def averaged(tokens: Tensor, cosines: np.ndarray) -> Tensor:
    weights = np.where(cosines < 0.4, 0, cosines)
    return torch.from_numpy(weights / weights.sum(1, keepdims=True)).float() @ tokens


def attended(block, tokens: Tensor, alike: np.ndarray) -> Tensor:
    """Each head by itself: half key-key attention, half the likeness of a middle layer."""
    attention = block.attn
    keys, values = (
        (F.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias))
        .split(WIDTH, 1)[part]
        .split(WIDTH // HEADS, 1)
        for part in (1, 2)
    )
    shared = torch.from_numpy(sharp(alike, 1.0)).float()
    heads = [
        ((key @ key.T / (WIDTH // HEADS) ** 0.5).softmax(1) + shared) / 2 @ value
        for key, value in zip(keys, values, strict=True)
    ]
    return attention.out_proj(torch.cat(heads, 1))


def self_by_hand(visual, image: Tensor) -> Tensor:
    """SC-CLIP with twelve blocks, one image at the network's own size, step by step."""
    layers = layers_of(visual, image)[1:]
    block = visual.transformer.resblocks[-1]
    tokens = layers[10]
    outliers = outliers_of(tokens[1:], 30)
    assert outliers.sum() == 4
    alike = cosines_of(smoothed(layers[8][1:], outliers, 8))
    similar = cosines_of(layers[3][1:])
    patches = averaged(smoothed(tokens[1:], outliers, 8), alike)
    first = averaged(attended(block, patches, alike) + 0.3 * tokens[0], similar)
    several = sum(layers[i] for i in range(3, 10))
    second = averaged(attended(block, several[1:], alike) + 0.3 * several[0], similar)
    return visual.ln_post(first + second) @ visual.proj


def test_self_features_are_those_of_the_published_steps():
    visual = tower(size=64)
    given = images(2, 64, 64)
    found = self_features(visual, given)
    for image, features in zip(given, found, strict=True):
        expected = self_by_hand(visual, image)
        torch.testing.assert_close(features.flatten(0, 1), expected, atol=5e-4, rtol=1e-3)


def test_outliers_of_images_that_are_not_square_lie_where_they_were_found():
    tokens = torch.randn(1, 60, 5, generator=torch.Generator().manual_seed(4))
    tokens[0, 17] += 30
    found = dense_ways._outliers(tokens)
    assert found[0, 17] == 1
    assert found.sum() == 3
    marked = torch.zeros(1, 60)
    marked[0, 17] = 1  # row 1, column 5 of twelve columns
    means = dense_ways._smoothed(tokens, marked, (5, 12))
    ring = [y * 12 + x for y in (0, 1, 2) for x in (4, 5, 6) if (y, x) != (1, 5)]
    torch.testing.assert_close(means[0, 17], tokens[0, ring].mean(0))
    assert torch.equal(means[0, :17], tokens[0, :17])
    everything = dense_ways._smoothed(tokens, torch.ones(1, 60), (5, 12))
    assert torch.equal(everything, tokens)  # nobody is left to be averaged


def test_layers_are_those_of_the_paper_for_twelve_blocks():
    assert layers_of_depth(12) == (3, 8, slice(3, 10))
    assert layers_of_depth(24) == (7, 17, slice(7, 20))
    for depth in range(2, 60):
        shallow, middle, fused = layers_of_depth(depth)
        assert 0 <= shallow <= middle <= depth - 2
        assert shallow == fused.start < fused.stop <= depth - 1


@pytest.mark.parametrize("layers", [2, 3, 12])
@pytest.mark.parametrize("size", [(32, 32), (16, 40), (8, 8), (8, 24)])
def test_images_of_any_size_and_number_give_finite_features(layers, size):
    visual = tower(layers)
    rows, columns = size[0] // PATCH, size[1] // PATCH
    given = images(3, *size)
    other = torch.rand(3, 4, rows, columns)
    for read in (
        lambda some: value_features(visual, given[some]),
        lambda some: self_features(visual, given[some]),
        lambda some: proxy_features(
            visual, given[some], other[some], centers(rows, columns, len(given[some]))
        ),
    ):
        together = read(slice(0, 3))
        assert together.shape == (3, rows, columns, 12)
        assert together.isfinite().all()
        # Batches of one size round alike, so that no rounding decides which patch is an outlier.
        torch.testing.assert_close(read([1, 0])[0], read([1, 2])[0])


def test_a_scaled_attention_is_scaled_in_every_way():
    visual = tower(2, ls_init_value=0.5)
    block = visual.transformer.resblocks[-1]
    other = torch.eye(16).reshape(1, 16, 4, 4)
    found = proxy_features(visual, images(1), other, centers(4, 4, 1))[0].flatten(0, 1)
    token = layers_of(visual, images(1)[0])[-2][1]
    after = block.ls_1(block.attn.out_proj(value_of(block, token)))
    torch.testing.assert_close(found[0], visual.ln_post(after) @ visual.proj, atol=2e-5, rtol=1e-4)
