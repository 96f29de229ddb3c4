"""Which Gaussian a ray meets: the one that hides most of what is behind it."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from ffsplat.stream.replica.scene import matrices
from ffsplat.types import Gaussians

REACH = 3.0
"""Standard deviations from its centre within which a Gaussian is met."""

FAINTEST = 1 / 255
"""Opacities along the ray below this are nothing, as in the renderer."""


def pick(
    gaussians: Gaussians,
    origin: Float[np.ndarray, "3"],
    direction: Float[np.ndarray, "3"],
    visible: Bool[np.ndarray, " n"] | None = None,
) -> int | None:
    """The index of the Gaussian that a ray sees most of, None where it sees nothing.

    Each Gaussian has the opacity of its largest density along the ray; sorted by the distance at
    which that is reached, the one with the largest share opacity * transmittance is picked.
    `direction` need not be a unit vector; only `visible` Gaussians count. What is behind the origin
    is not met. Source: Keselman and Hebert, "Approximate Differentiable Rendering with Algebraic
    Surfaces", 2022, section 3 (largest density along a ray); Max, "Optical Models for Direct Volume
    Rendering", 1995 (transmittance).
    """
    length = np.linalg.norm(direction)
    if not (np.isfinite(length) and length > 0 and np.isfinite(origin).all()):
        return None
    rows = _near(gaussians, origin, direction / length, visible)
    distances, opacities = _met(gaussians[rows], origin, direction / length)
    met = (distances > 0) & (opacities >= FAINTEST)
    if not met.any():
        return None
    order = np.argsort(distances[met], kind="stable")
    alpha = opacities[met][order]
    through = np.concatenate([[1.0], np.cumprod(1 - alpha)[:-1]])
    return int(rows[np.flatnonzero(met)[order[(alpha * through).argmax()]]])


def _near(
    gaussians: Gaussians,
    origin: Float[np.ndarray, "3"],
    direction: Float[np.ndarray, "3"],
    visible: Bool[np.ndarray, " n"] | None,
) -> Int[np.ndarray, " rows"]:
    """Rows whose sphere of REACH the ray may touch: a cheap test before the exact one."""
    offsets = gaussians.means - np.asarray(origin, np.float32)
    along = offsets @ np.asarray(direction, np.float32)
    apart = np.einsum("ni,ni->n", offsets, offsets) - np.square(along)
    radii = REACH * gaussians.scales.max(axis=1)
    # A little wider than exact: `apart` loses digits far from the origin.
    near = apart <= 1.01 * np.square(radii) + 1e-6 * np.square(along)
    return np.flatnonzero(near if visible is None else near & visible)


def _met(
    gaussians: Gaussians, origin: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Distance of the largest density along the ray, and the opacity there (0 beyond REACH)."""
    rotations = matrices(gaussians.quaternions_wxyz.astype(np.float64))
    scales = np.maximum(gaussians.scales.astype(np.float64), 1e-9)
    offsets = gaussians.means.astype(np.float64) - origin
    # In the frame where the Gaussian is a unit ball, the ray is still a line.
    local = np.einsum("nji,nj->ni", rotations, offsets) / scales
    ray = np.einsum("nji,j->ni", rotations, direction) / scales
    distances = np.einsum("ni,ni->n", local, ray) / np.einsum("ni,ni->n", ray, ray)
    apart = np.square(local - distances[:, None] * ray).sum(axis=1)
    opacities = np.minimum(gaussians.opacities, 0.99) * np.exp(-apart / 2)
    return distances, np.where(apart <= REACH**2, opacities, 0.0)
