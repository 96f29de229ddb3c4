"""Which Gaussians an operation is about: those of a text, of an instance, or in a box."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from ffsplat.errors import UsageError
from ffsplat.query import query
from ffsplat.types import NO_ID, Scene

if TYPE_CHECKING:
    from ffsplat.embeddings import TextEmbedding


def select(
    scene: Scene,
    text: "str | TextEmbedding",
    *,
    strategy: str | None = None,
    threshold: float | None = None,
    whole_instances: bool = False,
    **options: Any,
) -> Bool[np.ndarray, " n"]:
    """The Gaussians of everything that matches a text; none where nothing does.

    They are those of the hits of `ffsplat.query.query`, which takes the `options` and raises what
    it raises; all hits count unless `max_hits` says otherwise. With `whole_instances` they are all
    Gaussians of the instances that were hit, also those that did not match themselves.
    """
    if strategy is not None:
        options["strategy"] = strategy
    options = {"max_hits": max(1, len(scene)), "threshold": threshold, **options}
    found = query(scene, text, **options)
    chosen = np.zeros(len(scene), bool)
    for hit in found.hits:
        chosen[hit.rows] = True
        if whole_instances and hit.instance != NO_ID and scene.instances is not None:
            chosen |= scene.instances == hit.instance
    return chosen


def select_instance(scene: Scene, instance: int) -> Bool[np.ndarray, " n"]:
    """The Gaussians of an instance; none where it does not exist.

    Raises UsageError if the scene has no instances.
    """
    if scene.instances is None:
        raise UsageError("the scene has no instances", "--group makes them, or select by text")
    if instance == NO_ID:
        return np.zeros(len(scene), bool)
    return np.equal(scene.instances, instance)


def select_box(
    scene: Scene, low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]
) -> Bool[np.ndarray, " n"]:
    """The Gaussians whose centre lies in a box of the world, its faces included.

    Raises UsageError for corners that are not in order or not finite.
    """
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise UsageError(f"no box from {low.tolist()} to {high.tolist()}")
    means = scene.gaussians.means
    inside = np.logical_and(means >= low, means <= high)
    return np.logical_and.reduce(inside, axis=1)
