"""Move chosen Gaussians by a similarity: places, sizes, axes, and colours seen from a direction."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64

from ffsplat.alignment import Similarity
from ffsplat.errors import UsageError
from ffsplat.geometry import rotation_from_vector
from ffsplat.types import Gaussians, Scene

ROUNDING = 1e-4
"""How far, relative to its scale, the turn of a similarity may be from a rotation."""

Pivot = Literal["origin", "center"]
"""What a move turns and scales about: the world's origin, or the centre of what is chosen."""


@dataclass(frozen=True, eq=False)
class Move:
    """Move the chosen Gaussians by a similarity of the world, or of space about their centre.

    The centre is that of the means, weighted by presence. Cameras stay: to change the world of a
    whole scene, cameras included, there is `Similarity.scene`.
    """

    similarity: Similarity
    pivot: Pivot = "origin"

    def __post_init__(self) -> None:
        values = np.array([self.similarity.scale, *self.similarity.translation])
        if not (np.isfinite(values).all() and values[0] > 0):
            raise UsageError(f"no move: a scale of {values[0]:g}, a shift of {values[1:].tolist()}")

    def apply(self, scene: Scene, chosen: Bool[np.ndarray, " n"]) -> Scene:
        """The scene with the chosen Gaussians elsewhere."""
        if not chosen.any():
            return scene
        part = scene.gaussians[chosen]
        similarity = self.similarity
        if self.pivot == "center":
            similarity = about(similarity, center_of(part))
        moved = similarity.gaussians(part)
        return replace(scene, gaussians=_put(scene.gaussians, moved, chosen))


def center_of(gaussians: Gaussians) -> Float64[np.ndarray, "3"]:
    """The mean of the centres, weighted by presence where there is any."""
    weights = gaussians.presence.astype(np.float64)
    weights = weights if weights.sum() > 0 else np.ones_like(weights)
    return np.average(gaussians.means.astype(np.float64), axis=0, weights=weights)


def about(similarity: Similarity, place: Float[np.ndarray, "3"]) -> Similarity:
    """The same turn, scale and shift with `place` as the origin."""
    there = Similarity(1.0, np.eye(3), np.asarray(place, np.float64))
    return there @ similarity @ there.inverse()


def turn_of(degrees: Float[np.ndarray, "3"]) -> Similarity:
    """A turn about the axis (x, y, z) by as many degrees as it is long, by the right-hand rule."""
    vector = torch.from_numpy(np.radians(degrees.astype(np.float64)))
    return Similarity(1.0, rotation_from_vector(vector).numpy(), np.zeros(3))


def similarity_of(matrix: Float[np.ndarray, "4 4"]) -> Similarity:
    """The similarity that a 4x4 matrix stands for.

    Raises UsageError for any other matrix: not finite, projective, sheared, mirrored or flat.
    """
    if not np.isfinite(matrix).all():
        raise UsageError("the transform holds NaN or infinity")
    if not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise UsageError("the transform is not affine", "its last row must be 0 0 0 1")
    linear = matrix[:3, :3].astype(np.float64)
    volume = np.linalg.det(linear)
    if not volume > 0:
        what = "mirrors" if volume < 0 else "flattens"
        raise UsageError(
            f"the transform {what} space, so it is no similarity",
            "give a rotation times one scale, and a translation",
        )
    scale = float(np.cbrt(volume))
    rotation = linear / scale
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > ROUNDING:
        raise UsageError(
            "the transform shears or stretches space, so it is no similarity",
            "give a rotation times one scale, and a translation",
        )
    left, _, right = np.linalg.svd(rotation)
    return Similarity(scale, left @ right, matrix[:3, 3].astype(np.float64))


def _put(whole: Gaussians, part: Gaussians, chosen: Bool[np.ndarray, " n"]) -> Gaussians:
    """The Gaussians with the chosen ones' place, shape and view-dependent colour replaced."""
    values = {}
    for name in ("means", "scales", "quaternions_wxyz", "sh"):
        if name == "sh" and whole.sh.shape[1] == 1:
            continue  # a colour that is the same from everywhere does not turn
        values[name] = getattr(whole, name).copy()
        values[name][chosen] = getattr(part, name)
    return replace(whole, **values)
