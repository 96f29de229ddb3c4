"""Three ways to read features of patches from a CLIP that was trained on whole images.

All run the vision tower of an OpenCLIP ViT as it is up to its last block, and none trains anything.
They differ in who may speak to whom in that last block, whose own attention pools the whole image.

`value`  nobody: Zhou et al., "Extract Free Dense Labels from CLIP" (MaskCLIP), ECCV 2022, section
         3.2. The plain baseline.
`self`   patches that CLIP's own middle layers find alike: Bai et al., "Self-Calibrated CLIP for
         Training-Free Open-Vocabulary Segmentation" (SC-CLIP), arXiv 2411.15869. Its abstract
         reports 9.5 % over the best before it, on eight data sets and without another network.
`proxy`  patches that another network's features find alike: Lan et al., "ProxyCLIP: Proxy Attention
         Improves CLIP for Open-Vocabulary Segmentation", ECCV 2024, arXiv 2408.04883. Its abstract
         reports a mean IoU of 44.4 over eight benchmarks, 40.3 before it. The other network was
         DINO there and is the geometry network here.

Ways that report more also need the masks of SAM (Trident, arXiv 2411.09219: 48.6; CorrCLIP, arXiv
2411.10086: 51.0; both against the 44.4 of ProxyCLIP) or the words of the query while features are
computed (ResCLIP's feedback), which a scene that is queried later does not have.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Way = Literal["value", "self", "proxy"]

Features = Float[Tensor, "n y x d"]

SHIFT, SCALE = 1.2, 3.0
"""ProxyCLIP: beta and gamma of its equation for the proxy attention, section 3.3."""

ALIKE = 0.4
"""SC-CLIP: cosine from which two patches are averaged."""

SHARPNESS = 3.0
"""SC-CLIP: factor on cosines of middle layers before their softmax."""

SUMMARY = 0.3
"""SC-CLIP: weight of the image's token in each patch, in place of the residual path."""

NEIGHBORS, OUTLIERS = 30, 0.05
"""SC-CLIP: patches that a local outlier factor looks at, and the share taken for outliers."""

TINY = 1e-6


def value_features(tower: nn.Module, images: Float[Tensor, "n 3 h w"]) -> Features:
    """MaskCLIP's features in the text space, not normalised.

    A token that may attend to itself alone gets the out-projection of its own value, so what the
    last attention would pool stays where it is; the rest of the block, the last norm and the
    projection to the text space follow, with the residual path and MLP of the authors' code.
    """
    visual: Any = tower
    tokens, size = embedded(visual, images)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    patches = tokens[:, 1:]
    others = torch.full((patches.shape[1],) * 2, -torch.inf, device=patches.device)
    return projected(visual, last(patches, attn_mask=others.fill_diagonal_(0)), size)


def proxy_features(
    tower: nn.Module,
    images: Float[Tensor, "n 3 h w"],
    other: Float[Tensor, "n c rows columns"],
    places: Float[Tensor, "n rows columns 2"],
) -> Float[Tensor, "n rows columns d"]:
    """ProxyCLIP's features on the grid of `other`, another network's features, not normalised.

    `places` says where in the images its cells lie: across and down, -1 and 1 at the borders.

    Attention among patches is softmax(SCALE * (cosine - SHIFT * mean cosine)) over the pairs for
    which that is not negative; it weighs the values of the last block, resampled to the grid. The
    block's residual path and MLP are left out. A patch always sees itself (the authors' code gives
    NaN where all cosines are alike).
    """
    visual: Any = tower
    tokens, size = embedded(visual, images)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    values = _of_heads(last, last.ln_1(tokens[:, 1:]))[2]
    values = F.grid_sample(
        values.float().mT.unflatten(2, size), places, padding_mode="border", align_corners=False
    )
    attention = _sharpened(_cosines(other.flatten(2).mT), SHIFT, SCALE)
    mixed = attention @ values.flatten(2).mT
    grid = other.shape[-2], other.shape[-1]
    return projected(visual, last.ls_1(last.attn.out_proj(mixed)), grid)


def self_features(tower: nn.Module, images: Float[Tensor, "n 3 h w"]) -> Features:
    """SC-CLIP's features in the text space, not normalised.

    Outliers among the last tokens become the mean of their neighbours; tokens are averaged over
    patches that a middle layer finds alike; the last block attends by keys and by that likeness,
    twice: for the last tokens and for the sum of several layers. The block's residual path and MLP
    are left out, the image's token is added in part. Layers are those of the paper for twelve
    blocks and in proportion for other depths. Departs from the authors' code where that is wrong:
    outliers of images that are not square lie where they were found.
    """
    visual: Any = tower
    tokens, size = embedded(visual, images)
    *blocks, last = visual.transformer.resblocks
    layers = []
    for block in blocks:
        tokens = block(tokens)
        layers.append(tokens)
    shallow, middle, fused = layers_of_depth(len(blocks) + 1)
    outliers = _outliers(tokens[:, 1:])
    alike = _cosines(_smoothed(layers[middle][:, 1:], outliers, size))
    similar = _cosines(layers[shallow][:, 1:])

    def seen(patches: Tensor, summary: Tensor) -> Tensor:
        attended = _self_attention(last, last.ln_1(patches), alike)
        return _averaged(attended + SUMMARY * summary, similar)

    patches = _averaged(_smoothed(tokens[:, 1:], outliers, size), alike)
    several = torch.stack(layers[fused]).sum(0)
    found = seen(patches, tokens[:, :1]) + seen(several[:, 1:], several[:, :1])
    return projected(visual, found, size)


def layers_of_depth(depth: int) -> tuple[int, int, slice]:
    """Which blocks SC-CLIP reads: a shallow one, a middle one and those that it sums, from 0.

    For 12 blocks these are 3, 8 and 3 to 9, the settings of the authors' code.
    """
    shallow = max(0, min(depth * 4 // 12 - 1, depth - 2))
    middle = max(0, min(depth * 9 // 12 - 1, depth - 2))
    return shallow, middle, slice(shallow, max(shallow + 1, min(depth * 10 // 12, depth - 1)))


def embedded(
    tower: nn.Module, images: Float[Tensor, "n 3 h w"]
) -> tuple[Float[Tensor, "n tokens width"], tuple[int, int]]:
    """Tokens of normalised images before the first block, the image's own first, and the grid."""
    visual: Any = tower
    grid = visual.conv1(images)
    size = (grid.shape[-2], grid.shape[-1])
    summary = visual.class_embedding.to(grid.dtype).expand(len(images), 1, -1)
    tokens = torch.cat([summary, grid.flatten(2).mT], 1)
    tokens = tokens + resized_positions(visual.positional_embedding, visual.grid_size, size)
    return visual.ln_pre(tokens), size


def projected(
    tower: nn.Module, patches: Float[Tensor, "n tokens width"], size: tuple[int, int]
) -> Features:
    """Last norm and projection to the text space, on the grid of patches."""
    visual: Any = tower
    return (visual.ln_post(patches) @ visual.proj).unflatten(1, size)


def resized_positions(
    positions: Float[Tensor, "tokens d"], grid: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "_ d"]:
    """Position embeddings of another grid of patches (rows, columns); the first is kept.

    Bicubic with antialiasing, as open_clip resizes those of a checkpoint; the same grid gives the
    same numbers.
    """
    if tuple(grid) == tuple(size):
        return positions
    patches = positions[1:].mT.unflatten(1, tuple(grid))[None]
    resized = F.interpolate(patches, size, mode="bicubic", antialias=True)
    return torch.cat([positions[:1], resized[0].flatten(1).mT])


def _of_heads(
    block: Any, tokens: Float[Tensor, "n tokens width"]
) -> tuple[Float[Tensor, "n tokens width"], ...]:
    """Queries, keys and values of a block's attention, heads side by side."""
    attention = block.attn
    return F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)


def _cosines(features: Float[Tensor, "n tokens c"]) -> Float[Tensor, "n tokens tokens"]:
    unit = F.normalize(features.float(), dim=-1)
    return unit @ unit.mT


def _sharpened(
    cosines: Float[Tensor, "n tokens tokens"], shift: float, scale: float
) -> Float[Tensor, "n tokens tokens"]:
    """Attention of those pairs alone whose cosine is at least `shift` times the image's mean."""
    logits = (cosines - shift * cosines.mean((1, 2), keepdim=True)) * scale
    itself = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    return logits.masked_fill((logits < 0) & ~itself, -torch.inf).softmax(-1)


def _self_attention(
    block: Any, tokens: Float[Tensor, "n tokens width"], alike: Float[Tensor, "n tokens tokens"]
) -> Float[Tensor, "n tokens width"]:
    """Values weighed half by key-key attention of each head, half by likeness for all heads."""
    _, keys, values = (
        part.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2)
        for part in _of_heads(block, tokens)
    )
    by_key = (keys @ keys.mT * keys.shape[-1] ** -0.5).softmax(-1)
    weights = (by_key + _sharpened(alike, 1.0, SHARPNESS)[:, None]) / 2
    mixed = (weights.to(values.dtype) @ values).transpose(1, 2).flatten(2)
    return block.ls_1(block.attn.out_proj(mixed))


def _averaged(
    patches: Float[Tensor, "n tokens width"], cosines: Float[Tensor, "n tokens tokens"]
) -> Float[Tensor, "n tokens width"]:
    """Means over the patches that are `ALIKE`, weighed by how alike they are."""
    weights = cosines.where(cosines >= ALIKE, 0)
    return (weights / (weights.sum(-1, keepdim=True) + TINY)) @ patches.float()


def _outliers(patches: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens"]:
    """1 for the `OUTLIERS` share of patches whose neighbourhood is emptiest, else 0.

    Local outlier factor as in the authors' code: a patch's density is the inverse of the squared
    distance to its farthest of `NEIGHBORS` neighbours, its factor the mean density of those over
    its own.
    """
    points = patches.float()
    count = min(NEIGHBORS, points.shape[1] - 1)
    if count < 1:
        return points.new_zeros(points.shape[:2])
    near = torch.cdist(points, points).square().topk(count + 1, largest=False)
    density = 1 / near.values[..., -1].clamp_min(1e-12)
    of_neighbors = density[:, None].expand(-1, points.shape[1], -1).gather(2, near.indices[..., 1:])
    factor = of_neighbors.mean(-1) / density
    limit = factor.quantile(1 - OUTLIERS, dim=1, keepdim=True)
    return (factor > limit).float()


def _smoothed(
    patches: Float[Tensor, "n tokens width"],
    outliers: Float[Tensor, "n tokens"],
    size: tuple[int, int],
) -> Float[Tensor, "n tokens width"]:
    """Outliers replaced by the mean of their up to eight neighbours that are none."""
    ring = patches.new_ones(1, 1, 3, 3, dtype=torch.float32)
    ring[0, 0, 1, 1] = 0
    normal = (1 - outliers).unflatten(1, size)[:, None]
    maps = patches.float().mT.unflatten(2, size)
    sums = F.conv2d((maps * normal).flatten(0, 1)[:, None], ring, padding=1)[:, 0]
    counts = F.conv2d(normal, ring, padding=1)
    means = sums.unflatten(0, maps.shape[:2]) / counts.clamp_min(1)
    replaced = (normal == 0) & (counts > 0)
    return means.where(replaced, maps).flatten(2).mT
