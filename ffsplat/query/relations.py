"""How things lie to one another and to the viewer: the relations of referring phrases.

Right, ahead and up are those of a viewpoint; lengths are metres. Distances of touching and of
standing apart are those of Sr3D (Achlioptas et al., "ReferIt3D", ECCV 2020), whose rules are for
exact boxes; what rests on what is seen here on the points of things, as a chair is no box.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int

from ffsplat.query.viewpoint import Viewpoint
from ffsplat.types import Scene

TOUCH = 0.15
"""Metres between what touches: `max_touch_distance` of Sr3D."""

SLACK = 0.05
"""Metres by which heights may be off."""

SUPPORTED = 0.3
"""Share of its footprint over what a thing rests on: `min_supported_area_ratio` of Sr3D."""

REACH = 0.5
"""Metres between what is next to each other."""

ASIDE = np.radians(2)
"""Least angle, from the viewpoint, between what is left and right of each other."""

CONE = 0.7
"""Cosine of the angle to the line of sight up to which a thing is roughly before or behind."""

SHARED = 0.3
"""Share of the narrower thing's width in a picture that lies within that of the other."""

OUTLIERS = 1.0
"""Percent of a thing's Gaussians beyond either face of its box."""

MOST_POINTS = 1500
"""Gaussians of a thing that distances and heights are taken from, evenly drawn."""


@dataclass(frozen=True, eq=False)
class Thing:
    """A thing that a noun may mean: its Gaussians, and some of their places from the viewpoint."""

    name: str
    instance: int
    score: float
    rows: Int[np.ndarray, " count"]
    points: Float64[np.ndarray, "m 3"]

    @cached_property
    def box(self) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
        """Lowest and highest corner, without outliers."""
        low, high = np.percentile(self.points, [OUTLIERS, 100 - OUTLIERS], axis=0)
        return low, high

    @property
    def center(self) -> Float64[np.ndarray, "3"]:
        """The middle of the box."""
        return (self.box[0] + self.box[1]) / 2

    @property
    def size(self) -> Float64[np.ndarray, "3"]:
        """Extents of the box."""
        return self.box[1] - self.box[0]

    @property
    def bearing(self) -> float:
        """Angle to the right of straight ahead, in (-pi, pi]."""
        return float(np.arctan2(self.center[0], self.center[1]))

    @cached_property
    def edges(self) -> tuple[float, float]:
        """Angles from the bearing to the left and the right edge, without outliers."""
        angles = np.arctan2(self.points[:, 0], self.points[:, 1]) - self.bearing
        turned = (angles + np.pi) % (2 * np.pi) - np.pi
        left, right = np.percentile(turned, [OUTLIERS, 100 - OUTLIERS])
        return float(left), float(right)

    def under(self, other: "Thing", margin: float) -> Float64[np.ndarray, " k"]:
        """Heights of this thing's points within the footprint of another, widened by a margin."""
        low, high = other.box[0][:2] - margin, other.box[1][:2] + margin
        flat = self.points[:, :2]
        return self.points[((flat >= low) & (flat <= high)).all(axis=1), 2]


def thing(
    scene: Scene, view: Viewpoint, name: str, instance: int, score: float, rows: np.ndarray
) -> Thing:
    """A thing of some of a scene's Gaussians, seen from a viewpoint."""
    sample = rows[:: -(-len(rows) // MOST_POINTS)]
    return Thing(name, instance, score, rows, view.local(scene.gaussians.means[sample]))


def left(a: Thing, b: Thing) -> bool:
    """To the left in a picture taken from the viewpoint: by the order of bearings."""
    return bool(_turn(a, b) < -ASIDE)


def right(a: Thing, b: Thing) -> bool:
    """To the right in a picture taken from the viewpoint."""
    return left(b, a)


def front(a: Thing, b: Thing) -> bool:
    """Nearer to the viewer than b, in the same part of a picture."""
    return _shared_view(a, b) and _farness(a) < _farness(b) - TOUCH


def behind(a: Thing, b: Thing) -> bool:
    """Farther from the viewer than b, in the same part of a picture."""
    return front(b, a)


def roughly_front(a: Thing, b: Thing) -> bool:
    """On the viewer's side of b, within 45 degrees of the line of sight to it."""
    return _along_sight(a, b) < -CONE


def roughly_behind(a: Thing, b: Thing) -> bool:
    """On the far side of b, within 45 degrees of the line of sight to it."""
    return _along_sight(a, b) > CONE


def above(a: Thing, b: Thing) -> bool:
    """Higher than b and over it."""
    return below(b, a)


def below(a: Thing, b: Thing) -> bool:
    """All of b is higher than a and over it, or the part of b that is right over a is higher."""
    top = a.box[1][2]
    if b.box[0][2] >= top - SLACK and _flat_gap(a, b) <= 0:
        return True
    over = b.under(a, 0.0)
    enough = len(over) >= max(len(b.points) / 20, 1)
    return bool(enough and np.percentile(over, 10) >= top - SLACK)


def roughly_above(a: Thing, b: Thing) -> bool:
    """Higher than b and not far beside it: a picture above a bed."""
    return roughly_below(b, a)


def roughly_below(a: Thing, b: Thing) -> bool:
    """All of b is higher than a and not far beside it."""
    return bool(b.box[0][2] >= a.box[1][2] - SLACK and _flat_gap(a, b) <= REACH)


def on(a: Thing, b: Thing) -> bool:
    """It rests on b: its foot is where the surface of b under it ends.

    A third of its footprint is over b. What stands on the feet of b, as a table's on a rug, is not
    on b.
    """
    foot, floor = a.box[0][2], min(b.box[0][2], b.box[1][2] - 2 * TOUCH) + TOUCH
    low, high = np.maximum(a.box[0], b.box[0])[:2], np.minimum(a.box[1], b.box[1])[:2]
    shared = np.maximum(high - low + TOUCH, 0).prod() / (a.size[:2] + TOUCH).prod()
    if foot < floor or shared < SUPPORTED:
        return False
    heights = b.under(a, TOUCH)
    beneath = heights[heights <= max(a.center[2], foot + SLACK)]
    return bool(len(beneath) and abs(np.percentile(beneath, 90) - foot) <= TOUCH)


def inside(a: Thing, b: Thing) -> bool:
    """Its middle is in the box of b, and it is no larger."""
    low, high = b.box
    return bool(((a.center >= low) & (a.center <= high)).all() and (a.size <= b.size + TOUCH).all())


def near(a: Thing, b: Thing) -> bool:
    """The boxes are less than `REACH` apart."""
    return _gap(a, b, slice(None)) <= REACH


def between(t: Thing, a: Thing, b: Thing) -> bool:
    """Seen from above, in the strip that joins both, beyond neither, and at their height."""
    start, way = a.center[:2], b.center[:2] - a.center[:2]
    length = float(np.linalg.norm(way))
    if length < TOUCH:
        return False
    along, across = way / length, np.array([-way[1], way[0]]) / length
    offset = t.center[:2] - start
    width = max(float(np.abs(across) @ x.size[:2]) / 2 for x in (a, b)) + TOUCH
    heights = min(x.box[0][2] for x in (a, b)), max(x.box[1][2] for x in (a, b))
    level = t.box[1][2] >= heights[0] and t.box[0][2] <= heights[1]
    return bool(0 < offset @ along < length and abs(offset @ across) <= width and level)


def distance(a: Thing, b: Thing) -> float:
    """Metres between the nearest points of both."""
    squares = np.square(a.points).sum(1)[:, None] + np.square(b.points).sum(1)
    return float(np.sqrt(max((squares - 2 * a.points @ b.points.T).min(), 0)))


HOLDS: Mapping[str, Callable[..., bool]] = {
    "left": left,
    "right": right,
    "front": front,
    "behind": behind,
    "above": above,
    "below": below,
    "on": on,
    "in": inside,
    "near": near,
    "between": between,
}
"""Whether a relation of `phrases.RELATIONS` holds between a thing and its anchors."""

ROUGHLY: Mapping[str, Callable[..., bool]] = {
    "front": roughly_front,
    "behind": roughly_behind,
    "above": roughly_above,
    "below": roughly_below,
}
"""What a relation may mean where it strictly holds of nothing."""

ORDERS: Mapping[str, Callable[[Thing], float]] = {
    "largest": lambda t: -float(np.prod(t.size)),
    "smallest": lambda t: float(np.prod(t.size)),
    "tallest": lambda t: -float(t.size[2]),
    "shortest": lambda t: float(t.size[2]),
    "highest": lambda t: -float(t.center[2]),
    "lowest": lambda t: float(t.center[2]),
    "leftmost": lambda t: t.bearing,
    "rightmost": lambda t: -t.bearing,
    "nearest": lambda t: float(np.linalg.norm(t.points, axis=1).min()),
    "farthest": lambda t: -float(np.linalg.norm(t.points, axis=1).min()),
}
"""What things are sorted by for a superlative of `phrases.RANKS`, the smallest value first."""

VIEWED = frozenset({"left", "right", "front", "behind", "leftmost", "rightmost"})
"""Relations and superlatives that depend on the viewpoint; without an anchor, distances do too."""


def _turn(a: Thing, b: Thing) -> float:
    """Angle to the right from b to a, in [-pi, pi)."""
    return float((a.bearing - b.bearing + np.pi) % (2 * np.pi) - np.pi)


def _shared_view(a: Thing, b: Thing) -> bool:
    """Do both cover the same angles from the viewpoint, by SHARED of the narrower?"""
    turn = _turn(a, b)
    low = max(a.edges[0] + turn, b.edges[0])
    high = min(a.edges[1] + turn, b.edges[1])
    return bool(high - low > SHARED * min(x.edges[1] - x.edges[0] for x in (a, b)))


def _farness(one: Thing) -> float:
    """Median level distance from the viewer."""
    return float(np.median(np.linalg.norm(one.points[:, :2], axis=1)))


def _along_sight(a: Thing, b: Thing) -> float:
    """Cosine between the line of sight to b and the way from b to a, both level."""
    sight, way = b.center[:2], a.center[:2] - b.center[:2]
    lengths = float(np.linalg.norm(sight) * np.linalg.norm(way))
    return float(sight @ way / lengths) if lengths > 1e-9 else 0.0


def _gap(a: Thing, b: Thing, axes: slice) -> float:
    apart = np.maximum(np.maximum(a.box[0] - b.box[1], b.box[0] - a.box[1]), 0)[axes]
    return float(np.linalg.norm(apart))


def _flat_gap(a: Thing, b: Thing) -> float:
    return _gap(a, b, slice(2))
