"""What a network says about a batch of view sets: torch tensors, still pixel-aligned."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int16, Int32
from torch import Tensor

from ffsplat.types import Codebook


@dataclass(frozen=True, eq=False)
class Prediction:
    """Pixel-aligned output of the any-view network; b view sets of v views of h x w pixels.

    `depth` is z-depth and `scale` its mean over a set, both in metres where the network is metric.
    `depth_error` is the expected absolute error of log depth (a calibrated Laplace scale); a
    confidence is `exp(-depth_error / 0.1)`. `world_from_camera` has view 0 as the identity and
    shares the unit of `depth`; `intrinsics` is in pixels of these views. The Gaussian parameters
    are activated and in the camera's frame: `offsets` moves a centre inside its pixel (in pixels,
    within +-0.5), `scales` is in world units, `quaternions_wxyz` is unit, `opacities` in [0, 1],
    `colors` is sRGB. `whole_logits` and `part_logits` run over the codebook's rows of that level,
    in row order, at all pixels unless fewer were asked for. `instances` is an embedding of unit
    length, close within one object; `descriptors` (unit length, at a stride of h / m pixels) are
    alike at the same surface point, as are the coarser `token_descriptors`, one a token.
    `meaning_opacities`, in [0, 1], blend what Gaussians mean, where the network tells them apart
    from the `opacities` of their colours; else it is None.

    What only some networks give is None with the others. `features` are the tokens of the last
    block, one a patch, normalised: alike where the network sees one surface or object.
    `depth_offsets` is added to `depth` for a Gaussian's centre, which lies at
    (depth + depth_offset) times the ray (z = 1) through its pixel moved by `offsets`; these may
    then leave the pixel. `harmonics` are SH coefficients in the camera's frame, all k of them, with
    colour = 0.5 + sum of basis times coefficient; `colors` then holds their constant band.
    `rays` (direction, then origin, in the network's own world) and `ray_confidence` (from 1 on)
    are at 8 pixels a patch, and only there if they were asked for.

    Gaussians, logits and instances are those of the last s views: of all, unless fewer were asked
    for.

    A network without one of these heads gives no rows or no channels: `whole_logits` and
    `part_logits` have 0 rows, `instances`, `descriptors` and `token_descriptors` 0 channels.
    """

    depth: Float[Tensor, "b v h w"]
    depth_error: Float[Tensor, "b v h w"]
    scale: Float[Tensor, " b"]
    world_from_camera: Float[Tensor, "b v 4 4"]
    intrinsics: Float[Tensor, "b v 3 3"]
    offsets: Float[Tensor, "b s h w 2"]
    scales: Float[Tensor, "b s h w 3"]
    quaternions_wxyz: Float[Tensor, "b s h w 4"]
    opacities: Float[Tensor, "b s h w"]
    colors: Float[Tensor, "b s h w 3"]
    whole_logits: Float[Tensor, "b s code_h code_w whole"]
    part_logits: Float[Tensor, "b s code_h code_w part"]
    instances: Float[Tensor, "b s h w e"]
    descriptors: Float[Tensor, "b v m n c"]
    token_descriptors: Float[Tensor, "b v y x c"]
    meaning_opacities: Float[Tensor, "b s h w"] | None = None
    features: Float[Tensor, "b v y x d"] | None = None
    depth_offsets: Float[Tensor, "b s h w"] | None = None
    harmonics: Float[Tensor, "b s h w k 3"] | None = None
    rays: Float[Tensor, "b v ray_h ray_w 6"] | None = None
    ray_confidence: Float[Tensor, "b v ray_h ray_w"] | None = None


@dataclass(frozen=True, eq=False)
class PixelMeaning:
    """What the pixels of v views mean, where no head of the network says it.

    `ids` and `weights` are pairs of a sparse code over `codebook` (see `SparseCode`), ID -1 and
    weight 0 where there is no evidence. `instances` numbers objects across views, -1 for none.
    """

    ids: Int16[np.ndarray, "v h w k"]
    weights: Float32[np.ndarray, "v h w k"]
    instances: Int32[np.ndarray, "v h w"]
    codebook: Codebook
