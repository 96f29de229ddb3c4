"""When two features mean the same: thresholds relative to the cone in which features lie.

Embeddings of CLIP share a large common part: real, unlike centroids have a mean pairwise cosine of
0.84, so a fixed cosine of 0.90 would join nearly everything. For unit vectors with a common part,
f = sqrt(u) c + sqrt(1 - u) e, the cosine after centring is (cos - u) / (1 - u), where u is the
cosine of unlike features: thresholds are stated in that centred cosine and turned into raw ones.
Unlike centring itself, this stays defined when all features are alike.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64

UNLIKE = 0.84
"""Cosine of unlike CLIP features: mean over pairs of the 854 centroids that Dr. Splat's index
(arXiv 2502.16652) was trained on is 0.838."""

JOIN = 0.5
MERGE = 0.7
"""Centred cosines from which a feature belongs to a row, and from which two rows are one.

`python -m train.evaluation.calibration` draws 40 labels in the cone of CLIP, some with kin at a
centred cosine of 0.4, with up to as much noise as labels are apart. One row a label, and pure ones,
come out from 0.5 to 0.65 and from 0.7 to 0.9; 0.35 joins kin, 0.5 merges them.
"""

NOISIEST = 0.05
"""Cosine of neighbours below which features are taken to be no noisier."""

SAMPLE = 1024
"""Features of which all pairs are looked at."""


@dataclass(frozen=True)
class Thresholds:
    """Raw cosines: from `join` on a feature belongs to a row, from `merge` on two rows are one.

    `alike` is the cosine that two features of one thing have: what noise leaves of 1; `unlike` that
    of two features of different things.
    """

    join: float = UNLIKE + JOIN * (1 - UNLIKE)
    merge: float = UNLIKE + MERGE * (1 - UNLIKE)
    alike: float = 1.0
    unlike: float = UNLIKE


def centred(cosine: float, unlike: float) -> float:
    """The cosine without the common part: 0 for unlike features, 1 for equal ones."""
    return (cosine - unlike) / (1 - unlike)


def calibrate(
    features: Float[np.ndarray, "n d"],
    neighbours: Int64[np.ndarray, "p 2"],
    join: float = JOIN,
    merge: float = MERGE,
) -> Thresholds:
    """Thresholds for unit features (or 0: no evidence), from what is alike and unlike among them.

    Unlike are any two: the lower quartile of their cosines, as less than three quarters of all
    pairs lie on one class. Alike are those that lie side by side, given as pairs of indices: their
    median cosine is what noise leaves of equality, and no feature needs more to join. Fewer than
    two features give the thresholds of CLIP.
    """
    used = np.flatnonzero(features.any(axis=1))
    if len(used) < 2:
        return Thresholds()
    sample = features[used[np.linspace(0, len(used) - 1, min(SAMPLE, len(used))).astype(int)]]
    pairs = (sample @ sample.T)[np.triu_indices(len(sample), 1)]
    unlike = float(np.quantile(pairs, 0.25))
    alike = max(_median_cosine(features, neighbours), NOISIEST)
    joined, merged = (unlike + part * (1 - unlike) for part in (join, merge))
    return Thresholds(min(joined, alike), merged, alike, unlike)


def _median_cosine(
    features: Float[np.ndarray, "n d"], pairs: Int64[np.ndarray, "p 2"], most: int = 4096
) -> float:
    """Median cosine of some of the pairs; 1 without any."""
    some = pairs[np.linspace(0, len(pairs) - 1, min(most, len(pairs))).astype(int)]
    cosines = np.einsum("pd,pd->p", features[some[:, 0]], features[some[:, 1]])
    cosines = cosines[cosines != 0]
    return float(np.median(cosines)) if len(cosines) else 1.0


def unit(rows: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Rows at length 1; a row of length 0, or one that is not finite, becomes 0."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    usable = (lengths > 0) & np.isfinite(lengths)
    scaled = np.divide(rows, lengths, out=np.zeros_like(rows), where=usable)
    return scaled.astype(np.float32, copy=False)
