"""Give chosen Gaussians another colour, from wherever they are seen.

Both ways are linear in the spherical harmonics, so they hold for every degree: the colour that is
seen along any direction is changed as the formula says.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from PIL import ImageColor

from ffsplat.color_names import EXAMPLES
from ffsplat.errors import UsageError
from ffsplat.types import SH_C0, Scene

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of sRGB channels in a grey value (ITU-R BT.601)."""

DARKEST = 0.02
"""Grey value below which a thing counts as black, whose shading says nothing."""

_HEX = re.compile(r"[0-9a-f]{3}|[0-9a-f]{6}")
"""A colour without "#", which a shell takes for a comment."""


@dataclass(frozen=True, eq=False)
class Recolor:
    """Paint the chosen Gaussians in one sRGB colour in [0, 1], as `color_of` makes them.

    The shading stays: a Gaussian half as bright as the median of the chosen ones becomes half the
    colour, from every direction by itself; none becomes brighter than the colour allows. `flat`
    drops the shading and all that depends on direction: every one has exactly the colour.
    """

    color: Sequence[float | int]
    flat: bool = False

    def __post_init__(self) -> None:
        color = np.asarray(self.color, np.float64)
        if color.shape != (3,) or not ((color >= 0) & (color <= 1)).all():
            raise UsageError(f"no colour: {self.color}", "three numbers in [0, 1]")

    def apply(self, scene: Scene, chosen: Bool[np.ndarray, " n"]) -> Scene:
        """The scene with the chosen Gaussians painted."""
        if not chosen.any():
            return scene
        color = np.asarray(self.color, np.float64)
        seen = _from_zero(scene.gaussians.sh[chosen])
        if self.flat:
            painted = np.zeros_like(seen)
            painted[:, 0] = color / SH_C0
        else:
            grey = seen @ LUMA
            weights = scene.gaussians.presence[chosen]
            painted = (_shade(grey, weights, color)[:, None] * grey)[..., None] * color
        return _with_harmonics(scene, chosen, painted)


@dataclass(frozen=True)
class ShiftHue:
    """Turn the hue of the chosen Gaussians by so many degrees: red, green at 120, blue at 240.

    sRGB turns about its grey axis, so greys stay and so does the mean of the three channels.
    """

    degrees: float

    def __post_init__(self) -> None:
        if not np.isfinite(self.degrees):
            raise UsageError(f"no turn of a hue: {self.degrees} degrees")

    def apply(self, scene: Scene, chosen: Bool[np.ndarray, " n"]) -> Scene:
        """The scene with the chosen Gaussians in other hues."""
        if not chosen.any():
            return scene
        seen = _from_zero(scene.gaussians.sh[chosen])
        return _with_harmonics(scene, chosen, seen @ _hue_turn(self.degrees).T)


def color_of(text: str) -> tuple[float, float, float]:
    """The sRGB colour that "#a0522d", "a0522d", "#a52", or a colour of CSS by name stands for.

    The eleven basic terms are what queries call so: CSS has a "brown" that people call red.
    Raises UsageError for anything else, and for a colour with an opacity.
    """
    name = text.strip().lower()
    known = f"#{EXAMPLES[name][0]}" if name in EXAMPLES else name
    try:
        parts = ImageColor.getrgb(f"#{known}" if _HEX.fullmatch(known) else known)
    except ValueError:
        parts = ()
    if len(parts) != 3 or not all(0 <= part <= 255 for part in parts):
        raise UsageError(
            f"unknown colour {text!r:.80}", "give such as a0522d, or a name such as brown or navy"
        )
    red, green, blue = parts
    return red / 255, green / 255, blue / 255


def _from_zero(sh: Float32[np.ndarray, "m k 3"]) -> Float64[np.ndarray, "m k 3"]:
    """Harmonics whose sum is the colour itself: those of 3DGS are of the colour less one half."""
    seen = sh.astype(np.float64)
    seen[:, 0] += 0.5 / SH_C0
    return seen


def _with_harmonics(
    scene: Scene, chosen: Bool[np.ndarray, " n"], seen: Float64[np.ndarray, "m k 3"]
) -> Scene:
    seen[:, 0] -= 0.5 / SH_C0
    sh = scene.gaussians.sh.copy()
    sh[chosen] = seen
    return replace(scene, gaussians=replace(scene.gaussians, sh=sh))


def _shade(
    grey: Float[np.ndarray, "m k"],
    weights: Float[np.ndarray, " m"],
    color: Float[np.ndarray, "3"],
) -> Float64[np.ndarray, " m"]:
    """Factor from each Gaussian's grey values to its share of the colour."""
    values = SH_C0 * grey[:, 0]
    order = np.argsort(values)
    total = np.cumsum(weights[order], dtype=np.float64)
    middle = values[order[min(np.searchsorted(total, total[-1] / 2), len(order) - 1)]]
    brightest = 1 / np.maximum(np.maximum(values, 0) * color.max(), 1e-12)
    return np.minimum(1 / max(middle, DARKEST), brightest)


def _hue_turn(degrees: float) -> Float64[np.ndarray, "3 3"]:
    """The turn of red, green and blue about the grey axis. Source: Rodrigues' formula."""
    angle, third = np.radians(degrees), 1 / 3
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) * third + np.sin(angle) * cross
