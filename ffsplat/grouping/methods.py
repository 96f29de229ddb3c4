"""The ways to group a scene after the fact, by name, each with its options."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32

from ffsplat.errors import UsageError
from ffsplat.grouping.cluster import Clustering, group_instances
from ffsplat.grouping.masks import group_by_masks
from ffsplat.grouping.super_gaussians import super_gaussians
from ffsplat.semantics.associate import OVERLAP
from ffsplat.types import Cameras, Scene


@dataclass(frozen=True)
class Pieces:
    """How a scene is cut into super-Gaussians: the arguments of `super_gaussians`."""

    count: int = 256
    candidates: int = 8
    rounds: int = 5
    feature_weight: float = 1.0
    max_anchors: int = 50_000

    def __post_init__(self) -> None:
        if not 0 <= self.feature_weight < np.inf:
            raise UsageError(f"the weight of features is {self.feature_weight}, not 0 or more")


@dataclass(frozen=True)
class Carried:
    """How masks of several photos become objects: the arguments of `group_by_masks`."""

    overlap: float = OVERLAP
    exclusive: bool = False
    reach: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.overlap <= 1:
            raise UsageError(f"the overlap is {self.overlap}, not a share above 0")
        if self.reach is not None and not self.reach >= 0:
            raise UsageError(f"the reach is {self.reach}, not a distance")


Masks = tuple[Cameras, Sequence[Int32[np.ndarray, "_ _"]]]
"""Cameras, and the numbered masks of the photo of each."""


@dataclass(frozen=True)
class Grouping:
    """One way to find objects; `options` is a frozen dataclass, `takes_masks` if it needs any."""

    name: str
    summary: str
    source: str
    options: type
    group: Callable[..., Scene]
    takes_masks: bool = False

    def apply(self, scene: Scene, options: object, masks: Masks | None = None) -> Scene:
        """The scene with the objects that this way finds, whatever objects it had.

        Raises UsageError where masks are needed and none are given, or given and not needed, and
        as the function of the way does.
        """
        if (masks is not None) != self.takes_masks:
            how = "needs" if self.takes_masks else "takes no"
            raise UsageError(f"grouping by {self.name} {how} masks of the photos")
        return self.group(scene, options, *(masks or ()))


def _cut(scene: Scene, options: Pieces) -> Scene:
    return replace(scene, instances=super_gaussians(scene, **vars(options)).index)


def _carry(
    scene: Scene,
    options: Carried,
    cameras: Cameras,
    masks: Sequence[Int32[np.ndarray, "_ _"]],
) -> Scene:
    return group_by_masks(scene, cameras, masks, **vars(options))


def grouping_named(name: str) -> Grouping:
    """The way of this name; UsageError lists those that exist."""
    if name not in GROUPINGS:
        raise UsageError(f"unknown grouping {name!r}", f"known are {', '.join(GROUPINGS)}")
    return GROUPINGS[name]


_ALL = (
    Grouping(
        "clusters",
        "objects by place, colour and code",
        "Zhang et al., FreeGS, 2025",
        Clustering,
        group_instances,
    ),
    Grouping(
        "super",
        "compact pieces that are alike, whatever object they are of",
        "Liang et al., SuperGSeg, 2024",
        Pieces,
        _cut,
    ),
    Grouping(
        "masks",
        "objects of masks of the photos, carried from view to view",
        "Lyu et al., Gaga, 2024",
        Carried,
        _carry,
        takes_masks=True,
    ),
)

GROUPINGS: dict[str, Grouping] = {grouping.name: grouping for grouping in _ALL}
"""Every way by its name; the first is the usual one."""
