"""What of a view is new to the keyframes of its window, and what of it holds still."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ffsplat.stream.keyframes import sight_distances
from ffsplat.stream.map.meeting import Meeting, meet
from ffsplat.stream.moving import find_moving
from ffsplat.stream.window import Window

APART = 0.5
"""Sight distance from all keyframes, over the depth, from which a frame is one in any case."""


@dataclass(frozen=True, eq=False)
class News:
    """What a view meets in the keyframes of its window, and whether it shows enough that is new.

    If so, the meeting is without pixels of what moved, which are the share `moving` of the view.
    """

    meeting: Meeting
    new: bool
    moving: float = 0.0


def news_of(window: Window, row: int, rows: Sequence[int], overlap: float) -> News:
    """What view `row` of a window tells those in `rows`, given what share of it must be known."""
    meeting = meet(window.prediction, window.kept, row, rows)
    if not is_new(window, row, meeting, rows, overlap):
        return News(meeting, False)
    meeting, moving = at_rest(window, row, rows, meeting)
    return News(meeting, True, moving)


def is_new(window: Window, row: int, meeting: Meeting, rows: Sequence[int], overlap: float) -> bool:
    """Whether a view shows enough that no keyframe of its window, in `rows`, does.

    With less than the share `overlap` of its pixels known it does.
    """
    if not rows or meeting.known < overlap:
        return True
    poses, middle = window.posed.world_from_camera, window.middle(row)
    apart = sight_distances(poses[[row]], poses[list(rows)], np.array([middle]))
    return bool(apart.min() > APART * middle)


def at_rest(
    window: Window, row: int, rows: Sequence[int], meeting: Meeting
) -> tuple[Meeting, float]:
    """The meeting without pixels of what moved, and how much of the view these are."""
    moving = find_moving(window.posed, row, rows).ravel()
    share = float(moving.sum() / max(1, window.views.valid[row].sum()))
    return replace(meeting, kept=meeting.kept & ~moving), share
