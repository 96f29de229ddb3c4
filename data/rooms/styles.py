"""Styles of photographing a room: walking through it, close to one thing in it, or as a video."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from ffsplat.errors import UsageError

Range = tuple[float, float]


@dataclass(frozen=True)
class CameraStyle:
    """How the cameras of a room are drawn, and which of them are kept.

    Angles are in degrees, distances in metres. A range is drawn from uniformly where nothing else
    is said. The first camera of a clip stands close to its target or far from it; the others travel
    on from there and turn back to the target more or less.
    """

    pitch: Range
    """Limits, above the horizon."""
    tilt: float
    """Standard deviation of the roll of a clip."""
    roll: float
    """Largest roll."""
    field_of_view: Range
    """Horizontal; one for all views of a room."""
    eye_height: Range
    """Limits, above the floor."""
    aimless: float
    """Share of clips that look at a point in the room instead of a thing."""
    on_furniture: float
    """Share of the other clips that look at a thing on furniture, if there is one."""
    close_share: float
    """Share of clips that begin close."""
    close_distance: Range
    """To the target; six tenths of the target's size are added."""
    elevation: Range
    """Of the close camera, seen from the target."""
    slant: bool
    """Whether the close distance is along the line of sight; otherwise it is along the floor."""
    far_distance: Range
    """To the target, along the floor."""
    travel: Range
    """Length of the way in any direction, over the distance to the target."""
    arc: float
    """Largest way around the target, to either side."""
    follow: Range
    """Share of the turn that would keep the target where it is in the picture."""
    turn: float
    """Standard deviation of what is turned beyond that, sideways."""
    jitter: float
    """What each camera is shaken by, over 1 cm and 1 degree."""
    nearness: float
    """Distances at which a view counts as blocked, over those of `is_clear`."""
    overlap: Range
    """Fraction of the first view's pixels that each other view must see; less a margin of 0.03 at
    its upper end, so that from 1.03 on a view may see all of them."""


WALK = CameraStyle(
    pitch=(-40.0, 20.0),
    tilt=3.0,
    roll=10.0,
    field_of_view=(35.0, 80.0),
    eye_height=(0.3, 1.8),
    aimless=0.12,
    on_furniture=0.0,
    close_share=0.55,
    close_distance=(0.45, 1.3),
    elevation=(-8.0, 42.0),
    slant=False,
    far_distance=(1.2, 4.5),
    travel=(0.3, 1.2),
    arc=0.0,
    follow=(0.3, 1.0),
    turn=20.0,
    jitter=1.0,
    nearness=1.0,
    overlap=(0.25, 0.95),
)
"""As a person or a robot moves through a room; all published splits are drawn with it."""

CLOSE = CameraStyle(
    pitch=(-65.0, 20.0),
    tilt=5.0,
    roll=20.0,
    field_of_view=(30.0, 75.0),
    eye_height=(0.3, 2.2),
    aimless=0.0,
    on_furniture=0.9,
    close_share=0.97,
    close_distance=(0.3, 0.9),
    elevation=(-6.0, 64.0),
    slant=True,
    far_distance=(0.9, 2.0),
    travel=(0.0, 0.5),
    arc=90.0,
    follow=(0.8, 1.1),
    turn=6.0,
    jitter=0.3,
    nearness=0.625,
    overlap=(0.2, 1.03),
)
"""As an arm or a hand moves around a thing: from near, often from above, the thing in the middle.

Its ranges hold the distances, angles and baselines of photos of things on tables and in shelves.
"""


STEADY = replace(
    WALK,
    field_of_view=(45.0, 85.0),
    close_share=0.35,
    travel=(0.0, 0.45),
    follow=(0.0, 1.0),
    turn=10.0,
    jitter=0.5,
    overlap=(0.35, 1.03),
)
"""As frames of a video that lie near each other; horizontal fields of view of usual cameras."""

STYLES = {"close": CLOSE, "steady": STEADY}
"""What a share of the rooms can be photographed in; the others are in WALK."""


NO_SHARES: Mapping[str, float] = MappingProxyType({})
"""All rooms in WALK."""


def check_shares(shares: Mapping[str, float]) -> None:
    """Raises UsageError unless all are shares of STYLES that leave something or nothing over."""
    for name, share in shares.items():
        if name not in STYLES:
            raise UsageError(f"no style {name!r} of rooms", hint=f"one of {', '.join(STYLES)}")
        if not 0 <= share <= 1:
            raise UsageError(f"the share of rooms in style {name} is {share}, not between 0 and 1")
    if sum(shares.values()) > 1:
        raise UsageError(f"the shares of styles sum to {sum(shares.values()):g}, more than 1")


def style_of(seed: int, shares: Mapping[str, float]) -> CameraStyle:
    """The style of a room: each of STYLES for its share of all seeds, else WALK.

    A room that is in the first of STYLES at one share is so at every larger one.
    """
    drawn = np.random.default_rng([seed, 3]).random()
    for name, style in STYLES.items():
        drawn -= shares.get(name, 0.0)
        if drawn < 0:
            return style
    return WALK
