"""What has moved between views of one window: a person walking by, a door that opened.

A pixel of the new view is told by the old views that see its place. One that sees as far, or
farther, must know its colour somewhere around; where more views do not than do, something is there
that was not. What an old view cannot see, as another thing is before it, is not held against it.
The idea of free space as a witness is that of Merrell et al., "Real-Time Visibility-Based Fusion
of Depth Maps", ICCV 2007; that colours must lie between those around allows for cameras that are a
little off, as does the clipping of Karis, "High-quality temporal supersampling", SIGGRAPH 2014.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32

from ffsplat.prediction import Prediction
from ffsplat.stream.sight import PosedViews, look, sample

AROUND = 40
"""Part of the longer side of a view, in pixels to each side, that a colour may be off its place."""
TINT = 0.1
"""Difference of a channel, of 1, that light and sensor may make."""
WITNESS = 0.5
"""Share of what falls into an old view that must agree in depth with it to be told by it."""
SPOT = 16
"""Part of the longer side that a moving thing is wide at least."""


@dataclass(frozen=True, eq=False)
class Testimony:
    """Which pixels of a view have moved, of those that another view can see."""

    moving: Bool[np.ndarray, "h w"]
    seen: Bool[np.ndarray, "h w"]


def moving_pixels(
    prediction: Prediction,
    new_view: int,
    old_views: Sequence[int],
    pixels: Float32[np.ndarray, "v h w 3"],
    valid: Bool[np.ndarray, "v h w"],
) -> Bool[np.ndarray, "h w"]:
    """Pixels of a new view that show what no old view of its window saw at their place.

    `pixels` (sRGB) and `valid` are those of the views of the first set, on the CPU.
    """
    return testimony(PosedViews.of(prediction, pixels, valid), new_view, old_views).moving


def moving_share(
    prediction: Prediction,
    new_view: int,
    old_views: Sequence[int],
    pixels: Float32[np.ndarray, "v h w 3"],
    valid: Bool[np.ndarray, "v h w"],
) -> float:
    """Share of the pixels that old views can tell about which have moved; 0 if there are none."""
    told = testimony(PosedViews.of(prediction, pixels, valid), new_view, old_views)
    return float(told.moving.sum() / max(1, told.seen.sum()))


def testimony(views: PosedViews, new_view: int, old_views: Sequence[int]) -> Testimony:
    """What the old views say of the pixels of the new one."""
    h, w = views.depth.shape[1:]
    against, seen = np.zeros((h, w)), np.zeros((h, w), dtype=bool)
    own = views.pixels[new_view]
    for old in old_views:
        sight = look(views, new_view, old)
        agrees = sight.agrees
        if np.count_nonzero(agrees) < max(1, WITNESS * np.count_nonzero(sight.inside)):
            continue
        sees = sight.inside & (sight.nearer > -sight.tolerance)
        # Light and exposure change alike for all that is the same.
        own_tint = own - np.median((own - sight.colors)[agrees], axis=0)
        low, high = _range_around(views.pixels[old], max(1, max(h, w) // AROUND))
        known = ((own_tint > sample(low, sight.x, sight.y) - TINT)
                 & (own_tint < sample(high, sight.x, sight.y) + TINT)).all(-1)  # fmt: skip
        against += np.where(sees, np.where(known, -1.0, 1.0), 0.0)
        seen |= sees
    return Testimony(_majority(against > 0, max(3, max(h, w) // SPOT | 1)), seen)


def _range_around(
    image: Float32[np.ndarray, "h w 3"], reach: int
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w 3"]]:
    """The least and the largest of each channel within some pixels."""
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    both = torch.cat([-planes, planes])
    least, most = F.max_pool2d(both, 2 * reach + 1, 1, reach).permute(0, 2, 3, 1).numpy()
    return -least, most


def _majority(marked: Bool[np.ndarray, "h w"], size: int) -> Bool[np.ndarray, "h w"]:
    """Marked pixels in whose window most pixels are marked: spots and lines are errors of depth."""
    given = torch.from_numpy(marked.astype(np.float32))[None, None]
    share = F.avg_pool2d(given, size, 1, size // 2, count_include_pad=False)[0, 0].numpy()
    return marked & (share > 0.5)
