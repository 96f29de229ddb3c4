"""What can be done to chosen Gaussians: the common form, and the two that only take away."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from ffsplat.types import Scene


@runtime_checkable
class Operation(Protocol):
    """A change of a scene, as a value: it says what to do, and `apply` does it to a copy."""

    def apply(self, scene: Scene, chosen: Bool[np.ndarray, " n"]) -> Scene:
        """The scene after the change; arrays that do not change are shared with the old one."""
        ...


@dataclass(frozen=True)
class Remove:
    """Take the chosen Gaussians away. What they hid stays as it is, unseen or never there."""

    def apply(self, scene: Scene, chosen: Bool[np.ndarray, " n"]) -> Scene:
        """The scene without the chosen Gaussians."""
        return scene[~chosen]


@dataclass(frozen=True)
class Extract:
    """Keep the chosen Gaussians alone."""

    def apply(self, scene: Scene, chosen: Bool[np.ndarray, " n"]) -> Scene:
        """The scene of the chosen Gaussians."""
        return scene[chosen]
