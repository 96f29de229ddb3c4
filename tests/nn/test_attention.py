"""Attention and the small layers: equal to timm's, by whatever way they are computed."""

import pytest
import torch
from timm.layers.attention import AttentionRope
from timm.layers.layer_scale import LayerScale as TimmLayerScale
from timm.layers.mlp import Mlp
from timm.layers.norm import LayerNorm2d
from torch import nn

from ffsplat.nn import attention
from ffsplat.nn.attention import Attention, ChannelNorm, LayerScale, attend, perceptron, rotate
from ffsplat.nn.blocks import normalized_positions, rotary_embedding

WIDTH, HEADS = 24, 2


def twins(ours: nn.Module, theirs: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Both with the same random weights, under the same names."""
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_that_of_timm(masked):
    torch.manual_seed(0)
    options = {"num_prefix_tokens": 0, "qk_norm": True, "norm_layer": nn.LayerNorm}
    ours, theirs = twins(Attention(WIDTH, HEADS), AttentionRope(WIDTH, HEADS, **options))
    tokens = torch.randn(3, 8, WIDTH)
    positions = normalized_positions(2, 3, tokens)
    rotary = rotary_embedding(positions, WIDTH // HEADS, 2)
    mask = torch.rand(3, 1, 1, 8) > 0.3 if masked else None
    expected = theirs(tokens, rope=rotary, attn_mask=mask)
    torch.testing.assert_close(ours(tokens, rotary, mask), expected)


def test_small_layers_are_those_of_timm():
    torch.manual_seed(0)
    tokens, image = torch.randn(2, 5, WIDTH), torch.randn(2, WIDTH, 4, 3)
    pairs = (
        (perceptron(WIDTH, 50), Mlp(WIDTH, 50), tokens),
        (LayerScale(WIDTH, 0.1), TimmLayerScale(WIDTH, 0.1), tokens),
        (ChannelNorm(WIDTH), LayerNorm2d(WIDTH), image),
    )
    for ours, theirs, given in pairs:
        first, second = twins(ours, theirs)
        torch.testing.assert_close(first(given), second(given))


@pytest.mark.parametrize("masked", [False, True])
def test_plain_products_agree_with_the_fused_kernel(masked, monkeypatch):
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 1000)  # six queries at a time
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 40, 16, generator=generator)
    mask = torch.rand(2, 1, 1, 40, generator=generator) > 0.5 if masked else None
    exact = attend(q, k, v, mask)
    plain = attend(*(x.bfloat16() for x in (q, k, v)), mask)
    assert plain.dtype == torch.bfloat16
    torch.testing.assert_close(plain.float(), exact, atol=0.03, rtol=0)
    if masked:
        v[~mask.expand(2, 2, 1, 40)[:, :, 0]] = 1e6  # what is not admitted has no part in it
        torch.testing.assert_close(attend(q, k, v, mask), exact)


def test_pairs_are_turned_alike_with_and_without_gradients():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 12, 16, generator=generator)[:, :, ::2]
    rotary = rotary_embedding(normalized_positions(2, 2, x), 16, 2)
    with torch.no_grad():
        torch.testing.assert_close(rotate(x, rotary), rotate(x.double(), rotary).float())
        found = rotate(x, rotary)
    torch.testing.assert_close(found, rotate(x, rotary))
