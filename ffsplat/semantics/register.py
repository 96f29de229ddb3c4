"""Registration: what 2-D labels say of Gaussians that are not aligned with pixels."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32

from ffsplat import codes
from ffsplat.types import NO_ID, SparseCode
from ffsplat.voxels import group

MIN_OPACITY = 0.25
MIN_RADIUS = 2.0
"""Limits of FMGS (arXiv 2401.01970): the default of its `fmap_render_radiithre`, in pixels."""


def register(
    views: Iterable[
        tuple[
            Int32[np.ndarray, "p m"],
            Float32[np.ndarray, "p m"],
            Int[np.ndarray, " p"],
        ]
    ],
    count: int,
    *,
    k: int = 4,
    gram: codes.Gram = None,
    carriers: Bool[np.ndarray, " count"] | None = None,
) -> SparseCode:
    """Codes of `count` Gaussians from the rows that a teacher gives to pixels.

    Each view is, for p pixels, the Gaussians that make them (-1 for none), their blending weights
    (`render.contributors`), and the codebook row of each pixel (-1 for none). Weights of equal
    Gaussian and row add up over pixels and views; the `k` heaviest rows of a Gaussian stay, and the
    code's norm, given the rows' `gram`, says how far they agree. Gaussians that no ray met, or
    that are not among the `carriers`, have no evidence. Source: Dr. Splat (arXiv 2502.16652), whose
    matrix of Gaussians by masks this is, kept sparse; with every row kept, the coded vector at
    length 1 is its registered feature.
    """
    keys, sums = np.zeros(0, np.int64), np.zeros(0, np.float64)
    for ids, weights, rows in views:
        used = (ids != NO_ID) & (rows[:, None] != NO_ID) & (weights > 0)
        pixel, place = np.nonzero(used)
        fresh = ids[pixel, place].astype(np.int64) << 16 | rows[pixel].astype(np.int64)
        pairs = group(np.concatenate([keys, fresh]))
        keys, sums = pairs.keys, pairs.sum(np.concatenate([sums, weights[pixel, place]]))
    targets = keys >> 16
    if carriers is not None:
        keys, sums = keys[carriers[targets]], sums[carriers[targets]]
        targets = keys >> 16
    rows_of = (keys & 0xFFFF).astype(np.int16)[:, None]
    single = codes.from_pairs(rows_of, np.ones((len(keys), 1), np.float32), 1)
    return codes.fuse(single, targets, sums, count, k, gram)


def carries_meaning(
    opacities: Float32[np.ndarray, " n"],
    radii: Float32[np.ndarray, " n"],
    min_opacity: float = MIN_OPACITY,
    min_radius: float = MIN_RADIUS,
) -> Bool[np.ndarray, " n"]:
    """Which Gaussians are opaque and large enough to mean something.

    `radii` is three standard deviations of a splat in pixels, the largest over the views. What is
    fainter or smaller blends with what lies behind it, and would carry its neighbours' meaning.
    Source: FMGS (Zuo et al., IJCV 2024), which renders features from no others.
    """
    return (opacities > min_opacity) & (radii > min_radius)


def without_meaning(code: SparseCode, carriers: Bool[np.ndarray, " n"]) -> SparseCode:
    """The codes with no evidence for all Gaussians but the carriers."""
    ids = np.where(carriers[:, None], code.ids, np.int16(NO_ID))
    weights = np.where(carriers[:, None], code.weights, np.float16(0))
    return SparseCode(ids, weights, np.where(carriers, code.norms, np.float16(0)))
