"""What one frame says, on its way into the map."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int16, Int32

from ffsplat.stream.map.compiled import lean


@dataclass(frozen=True, eq=False)
class Observed:
    """n Gaussians in the world, as one frame shows them.

    `scales` are linear, `colors` sRGB in [0, 1], `confidence` is in (0, 1]. `ids` and `weights` are
    pairs of a code, -1 and 0 where unused. `instances` are the object numbers of this frame, -1 for
    none. `target` is the place in the map to join, -1 where nobody knows one. What is not finite,
    or has no confidence, is left out.
    """

    means: Float32[np.ndarray, "n 3"]
    scales: Float32[np.ndarray, "n 3"]
    quaternions_wxyz: Float32[np.ndarray, "n 4"]
    opacities: Float32[np.ndarray, " n"]
    colors: Float32[np.ndarray, "n 3"]
    confidence: Float32[np.ndarray, " n"]
    ids: Int16[np.ndarray, "n k"]
    weights: Float32[np.ndarray, "n k"]
    instances: Int32[np.ndarray, " n"]
    target: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, rows: np.ndarray | slice) -> "Observed":
        """A subset by boolean mask, index array or slice."""
        return Observed(*(getattr(self, one.name)[rows] for one in fields(self)))


class Batch(NamedTuple):
    """The same as kernels take it: writable arrays in one piece, of one type whoever made them."""

    means: np.ndarray
    scales: np.ndarray
    quaternions_wxyz: np.ndarray
    opacities: np.ndarray
    colors: np.ndarray
    confidence: np.ndarray
    ids: np.ndarray
    weights: np.ndarray
    instances: np.ndarray
    target: np.ndarray

    @classmethod
    def of(cls, observed: Observed) -> "Batch":
        """The arrays of an `Observed`, copied only where need be."""
        arrays = (getattr(observed, one.name) for one in fields(Observed))
        return cls(*(np.require(array, requirements=["C", "W"]) for array in arrays))

    def usable(self) -> Bool[np.ndarray, " n"]:
        """Which observations are finite and have confidence."""
        good = np.empty(len(self.means), bool)
        find_usable(self, good)
        return good


@lean
def find_usable(batch, good):
    """Mark what `Batch.usable` says."""
    # A sum is finite only if all terms are; one that overflows is no Gaussian either.
    for i in range(len(good)):
        total = batch.opacities[i] + batch.confidence[i]
        for k in range(3):
            total += batch.means[i, k] + batch.scales[i, k] + batch.colors[i, k]
        for k in range(4):
            total += batch.quaternions_wxyz[i, k]
        good[i] = np.isfinite(total) and batch.confidence[i] > 0
