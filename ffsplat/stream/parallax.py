"""The scale of views by what they see of the way between them, where it is known.

A point that two views see lies where both rays meet: how far it is says how long the way is in the
unit of depth. It needs no pose of the network, which was fitted to depths that err.
"""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from ffsplat.medians import weighted_median
from ffsplat.refine.equations import Sightings, inverse
from ffsplat.refine.residuals import DEPTH_ERRORS
from ffsplat.stream.given import LEAST, MOST, Told

CONFIDENT = 0.05
"""Confidence of a match that counts."""

MATCHES = 16
"""Matches that tell a scale, at least."""

PLACE_ERROR = 0.5
"""Error of where a match is seen, in cells of descriptors."""

SURE = 0.03
"""Error of the log of a scale that many matches tell, though all agree: they err together."""

APART = 0.5
"""Error of the log of a scale, over the median distance of what each match says of it.

Measured with ffsplat-tiny on 925 windows of walks through six rooms of the preview split, at every
fourth frame: where the distance is 0.04, 0.055, 0.067, 0.08, 0.1 and 0.19, the scale of the newest
view is off by 0.042, 0.038, 0.048, 0.061, 0.071 and 0.15.
"""

TOGETHER = 30.0
"""Matches that err as one: their views hardly moved, and where all are seen is off alike."""


def by_parallax(
    seen: Sightings, given: Mapping[int, Float64[np.ndarray, "4 4"]], scale: float
) -> Told | None:
    """The scale of depths by matches between views of which the poses are `given`, by row.

    It takes lengths in the window to those of the poses, and is near `scale`: that tells which
    matches see enough of the way. None if too few do.
    """
    rows = np.array(list(given))
    both = np.isin(seen.source, rows) & np.isin(seen.target, rows)
    if not both.any():
        return None
    source, target = (
        np.stack([given[row] for row in ends[both].tolist()]) for ends in (seen.source, seen.target)
    )
    matches, relative = seen.matches[both], inverse(target) @ source
    places, errors, confidence = matches[:, 3:5], matches[:, 6], matches[:, 7]
    # The target sees a point at `places`: scale * turned + moved = 0, both across that ray.
    turned = _across(relative[:, :3, :3] @ matches[:, :3], places)
    moved = _across(np.broadcast_to(relative[:, :3, 3:], matches[:, :3].shape), places)
    along = -(turned * moved).sum(1)
    counts = (confidence > CONFIDENT) & (along > 0)
    if counts.sum() < MATCHES:
        return None
    way = np.linalg.norm(moved, axis=1)[counts]
    # Only what is off along the way counts: the rest is noise, and would tell a scale too small.
    logs = np.log(way**2 / along[counts])
    parallax = way / (scale * matches[:, 2][counts])
    spread = (PLACE_ERROR * seen.cell) ** 2 + (DEPTH_ERRORS * errors[counts] * parallax) ** 2
    weights = confidence[counts] * parallax**2 / spread
    found = weighted_median(logs.copy(), weights.copy())
    apart = weighted_median(np.abs(logs - found), weights.copy())
    if not math.log(LEAST) <= found <= math.log(MOST):
        return None
    error = math.sqrt(SURE**2 + (APART * apart) ** 2 + TOGETHER / float(weights.sum()))
    return Told(found, error)


def _across(
    points: Float64[np.ndarray, "p 3 n"], places: Float64[np.ndarray, "p 2 n"]
) -> Float64[np.ndarray, "p 2 n"]:
    """How far points are from the rays through `places` (z = 1), along the image."""
    return points[:, :2] - places * points[:, 2:]
