"""What a mapper needs of a model: any network of the zoo has it, and so has a stub."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int16

from ffsplat.prediction import PixelMeaning, Prediction
from ffsplat.types import Codebook, Views


@runtime_checkable
class Predictor(Protocol):
    """A network on a device, with cameras made exact and, for some, meaning lifted from another.

    `resolution` is the longer side of its views in pixels, `patch` divides both sides. `codebook`
    is the table of a network with code heads, None where `label` brings its own.
    """

    resolution: int
    patch: int
    metric: bool
    codebook: Codebook | None
    provenance: Mapping[str, str]

    def predict(self, views: Views, placed: int = 0) -> Prediction:
        """What the network says about one window, on the CPU; intrinsics that are known hold.

        Of the first `placed` views only what places them is used: depth, its error, cameras and
        descriptors of the network. The rest may be anything there.
        """
        ...

    def label(self, prediction: Prediction, views: Views) -> PixelMeaning | None:
        """What the pixels of these views mean, where no head of the network says it."""
        ...

    def renumbered(self) -> Int16[np.ndarray, " old"] | None:
        """The new ID of each row that `label` used before it was last called, -1 for those gone.

        None if IDs are what they were. Asked once after each `label`.
        """
        ...

    def state(self) -> dict[str, np.ndarray]:
        """What `label` has learnt on the way, as arrays; nothing for most networks."""
        ...

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` gave."""
        ...
