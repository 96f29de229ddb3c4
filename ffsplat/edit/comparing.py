"""The same photos in two scenes: how much deeper one scene shows them, and do they look alike."""

import numpy as np
from jaxtyping import Float, Float64

from ffsplat.formats.cameras import resized
from ffsplat.types import Cameras, Scene

JUDGED = 8
"""Shared photos that are compared, evenly spaced."""

DEPTH_WIDTH, LOOK_WIDTH = 128, 64
"""Pixels across the depth maps and the pictures that are compared."""

SOLID = 0.5
"""Opacity from which a pixel shows something."""

ENOUGH = 0.5
"""Share of what either scene shows in a photo that both must show, to compare how it looks."""

LUMA = np.array([0.299, 0.587, 0.114])


def depth_ratios(a: Scene, b: Scene, shared: tuple[Cameras, Cameras]) -> Float64[np.ndarray, " r"]:
    """Depth in `b` over depth in `a`, the median over each shared photo that both show."""
    from ffsplat.render import render

    seen_a, seen_b = _small(shared, DEPTH_WIDTH)
    depths = render(a, seen_a, "depth"), render(b, seen_b, "depth")
    both = (render(a, seen_a, "opacity") > SOLID) & (render(b, seen_b, "opacity") > SOLID)
    views = zip(*depths, both, strict=True)
    ratios = [np.median(second[at] / first[at]) for first, second, at in views if at.any()]
    return np.array(ratios, np.float64)


def likeness(a: Scene, b: Scene, shared: tuple[Cameras, Cameras]) -> float | None:
    """Correlation of the brightness of shared photos as both scenes show them, in the median.

    None where no photo is shown by both as far as ENOUGH. Of the same photos it is about 0.9 with
    a good network and 0.4 with a bad one; of different photos it is about 0.
    """
    from ffsplat.render import render

    seen_a, seen_b = _small(shared, LOOK_WIDTH)
    looks = [render(scene, seen) @ LUMA for scene, seen in ((a, seen_a), (b, seen_b))]
    solid = [render(scene, seen, "opacity") > SOLID for scene, seen in ((a, seen_a), (b, seen_b))]
    found = []
    for look_a, look_b, solid_a, solid_b in zip(*looks, *solid, strict=True):
        both = solid_a & solid_b
        if both.any() and both.sum() >= ENOUGH * (solid_a | solid_b).sum():
            found.append(_correlation(look_a[both], look_b[both]))
    return float(np.median(found)) if found else None


def _correlation(a: Float[np.ndarray, " p"], b: Float[np.ndarray, " p"]) -> float:
    """Pearson's correlation, 0 where one is even."""
    a, b = a - a.mean(), b - b.mean()
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths > 1e-9 else 0.0


def _small(shared: tuple[Cameras, Cameras], width: int) -> tuple[Cameras, Cameras]:
    """Up to JUDGED pairs of cameras, so many pixels wide and of the second one's aspect."""
    across, down = (int(side) for side in shared[1].sizes[0])
    size = width, max(1, round(width * down / across))
    some = slice(None, None, max(1, -(-len(shared[0]) // JUDGED)))
    first, second = (cameras[some] for cameras in shared)
    sizes = np.tile(np.array(size, np.int32), (len(first), 1))
    return resized(first, sizes), resized(second, sizes)
