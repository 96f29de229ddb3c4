"""What of a view is new to the keyframes of its window, and what of it holds still."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ffsplat.stream.keyframes import sight_distances
from ffsplat.stream.map.meeting import Meeting
from ffsplat.stream.moving import find_moving
from ffsplat.stream.window import Window

APART = 0.5
"""Sight distance from all keyframes, over the depth, from which a frame is one in any case."""


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
    moving = find_moving(window.posed, row, rows).moving.ravel()
    share = float(moving.sum() / max(1, window.views.valid[row].sum()))
    return replace(meeting, kept=meeting.kept & ~moving), share
