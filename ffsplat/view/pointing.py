"""What is alike to one Gaussian: its instance, its code, or its part of that instance."""

import numpy as np
from jaxtyping import Bool

from ffsplat.errors import UsageError
from ffsplat.types import NO_ID, Scene
from ffsplat.view.paint import heaviest

WAYS = ("instance", "code", "part")


def like(scene: Scene, row: int, by: str) -> Bool[np.ndarray, " n"]:
    """All Gaussians of the same instance, whole code, or part; that one alone if it has none.

    A part is the same part code within the same instance. Raises UsageError for another way, and
    for a way that the scene has nothing for.
    """
    if by not in WAYS:
        raise UsageError(f"unknown way to select {by!r}", f"one of {', '.join(WAYS)}")
    chosen = np.zeros(len(scene), bool)
    chosen[row] = True
    if by == "code":
        return chosen | _same(heaviest(scene, "whole")[0], row)
    if scene.instances is None:
        raise UsageError("the scene has no instances", "select by code")
    instance = _same(scene.instances, row)
    if by == "part":
        instance = instance & _same(heaviest(scene, "part")[0], row)
    return chosen | instance


def _same(labels: np.ndarray, row: int) -> Bool[np.ndarray, " n"]:
    return (labels == labels[row]) & (labels[row] != NO_ID)
