"""Self-attention with normalised, rotated queries and keys.

Modules have the names and results of timm's `AttentionRope`, `Mlp`, `LayerScale` and `LayerNorm2d`,
and tests hold them equal. timm itself is not imported: it loads torchvision and torch's compiler,
which takes longer than all that `infer` does with a few photos.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

SCORES_AT_ONCE = 1 << 21
"""Scores that plain products make at once on a CPU: so many stay in its cache."""


class Attention(nn.Module):
    """Every token of a group looks at every admitted one.

    With `query_norm`, queries and keys have unit variance.
    Sources: Su et al., "RoFormer", 2021 (rotary positions); Dehghani et al., "Scaling Vision
    Transformers to 22 Billion Parameters", 2023 (normalised queries and keys).
    """

    def __init__(self, width: int, heads: int, query_norm: bool = True):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.LayerNorm(width // heads) if query_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(width // heads) if query_norm else nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        tokens: Float[Tensor, "g t c"],
        rotary: Float[Tensor, "t r"] | None = None,
        mask: Bool[Tensor, "#g 1 #t t"] | None = None,
    ) -> Float[Tensor, "g t c"]:
        """Attend; `rotary` is the sines and cosines of each token's angles, side by side.

        `mask` says which keys are seen, by all queries or by each.
        """
        q, k, v = rearrange(self.qkv(tokens), "g t (n h c) -> n g h t c", n=3, h=self.heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        attended = attend(q.to(v.dtype), k.to(v.dtype), v, mask)
        return self.proj(rearrange(attended, "g h t c -> g t (h c)"))


def rotate(x: Float[Tensor, "*b t c"], rotary: Float[Tensor, "t r"]) -> Float[Tensor, "*b t c"]:
    """Turn neighbouring pairs of channels by the angles of their token.

    Where no gradient is asked for, CPUs turn a pair as a complex number, in a third of the time.
    """
    sines, cosines = rotary.chunk(2, dim=-1)
    exact = x.dtype == rotary.dtype == torch.float32 and x.device.type == "cpu"
    if exact and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
        turn = torch.complex(cosines[..., ::2].contiguous(), sines[..., ::2].contiguous())
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turn).flatten(-2)
    quarter = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return x * cosines + quarter * sines


def attend(
    q: Float[Tensor, "g h t c"],
    k: Float[Tensor, "g h t c"],
    v: Float[Tensor, "g h t c"],
    mask: Bool[Tensor, "#g 1 #t t"] | None,
) -> Float[Tensor, "g h t c"]:
    """Scaled dot-product attention by what is quickest.

    On CPUs torch's fused kernel multiplies bfloat16 no faster than float32: plain products, some
    queries at a time, take less than half as long, and a quarter in the backward pass.
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    groups, heads, tokens, width = q.shape
    some = max(1, SCORES_AT_ONCE // (groups * heads * tokens))
    parts = []
    for start in range(0, tokens, some):
        scores = (q[:, :, start : start + some] * width**-0.5) @ k.mT
        if mask is not None:
            rows = mask if mask.shape[2] == 1 else mask[:, :, start : start + some]
            scores = scores.masked_fill(~rows, -torch.inf)
        parts.append(scores.softmax(-1).to(v.dtype) @ v)
    return torch.cat(parts, dim=2)


class Gate(nn.Module):
    """The second half of the channels, let through by the first (Shazeer, "GLU Variants", 2020)."""

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b d"]:
        """Half as many channels."""
        gate, value = x.chunk(2, dim=-1)
        return F.silu(gate) * value


def perceptron(
    inputs: int, hidden: int, outputs: int | None = None, gated: bool = False
) -> nn.Sequential:
    """Two linear layers with a GELU, or a gate by SiLU, between; as many outputs as inputs."""
    layers = {
        "fc1": nn.Linear(inputs, 2 * hidden if gated else hidden),
        "act": Gate() if gated else nn.GELU(),
        "fc2": nn.Linear(hidden, inputs if outputs is None else outputs),
    }
    return nn.Sequential(OrderedDict(layers))


class LayerScale(nn.Module):
    """A factor a channel (Touvron et al., "Going deeper with Image Transformers", 2021)."""

    def __init__(self, width: int, start: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Scaled."""
        return x * self.gamma


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of an image, which come before its rows and columns."""

    def __init__(self, channels: int, epsilon: float = 1e-6):
        super().__init__(channels, epsilon)

    def forward(self, input: Float[Tensor, "n c y x"]) -> Float[Tensor, "n c y x"]:
        """Normalised."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
