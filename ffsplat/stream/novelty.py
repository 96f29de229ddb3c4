"""What of a view is new to the keyframes of its window, and what of it holds still."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from ffsplat.stream.keyframes import sight_distances
from ffsplat.stream.moving import find_moving
from ffsplat.stream.sight import SOME
from ffsplat.stream.window import Window

APART = 0.5
"""Sight distance from all keyframes, over the depth, from which a frame is one in any case."""


@dataclass(frozen=True, eq=False)
class News:
    """Whether a view shows enough that is new to the keyframes of its window.

    If so, `moved` are the pixels of what moved, the share `moving` of the view.
    """

    new: bool
    moving: float = 0.0
    moved: Bool[np.ndarray, "h w"] | None = None


def news_of(window: Window, row: int, rows: Sequence[int], overlap: float) -> News:
    """What view `row` of a window tells those in `rows`, given what share of it must be known."""
    if not is_new(window, row, rows, overlap):
        return News(False)
    moved = find_moving(window.posed, row, rows)
    return News(True, float(moved.sum() / max(1, window.views.valid[row].sum())), moved)


def is_new(window: Window, row: int, rows: Sequence[int], overlap: float) -> bool:
    """Whether a view shows enough that no keyframe of its window, in `rows`, does.

    With less than the share `overlap` of its pixels known it does.
    """
    if not rows or known_share(window, row, rows) < overlap:
        return True
    poses, middle = window.posed.world_from_camera, window.middle(row)
    apart = sight_distances(poses[[row]], poses[list(rows)], np.array([middle]))
    return bool(apart.min() > APART * middle)


def known_share(window: Window, row: int, rows: Sequence[int]) -> float:
    """The share of a view's pixels for the map where one in `rows` sees the same surface."""
    asked = window.kept[row][SOME]
    known = np.zeros(asked.shape, bool)
    for sight in window.posed.sights(row, rows):
        known |= sight.agrees
    return float((known & asked).sum() / max(1, asked.sum()))
