"""Referring phrases that a room's exact truth gives rise to, each with the one object it means.

The truth is not that of the resolver: boxes are those of the primitives that a room is built of,
and what is left, right, before and behind is read off the labelled pixels of the first photo. Rules
and distances are those of Sr3D (Achlioptas et al., "ReferIt3D", ECCV 2020) where it has them.
A phrase is only made where it is needed and clear: several objects have the noun, one of them
meets the relation, and none of the others comes near to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from data.rooms import WHOLE_NAMES
from data.rooms.render import RoomBatch
from data.rooms.scene import Scenes
from ffsplat.text import rows_under

SEEN = 80
"""Pixels, of all photos together, from which an object is clearly seen; in the first, half."""

GLIMPSED = 3
"""Pixels from which it may be found; a noun that means something hardly seen has no phrases."""

ASIDE = 0.08
"""Widths of the photo between the columns of what is left and right of each other."""

GAP = 0.2
"""Metres by which the nearest is nearer than the second: `horizontal_gap` of Sr3D."""

APART, SUPPORTED, OVERLAP = 0.06, 0.3, 0.2
"""Sr3D's metres and shares of footprints for resting on, above and below."""

TOUCHING = 0.03
"""Metres between what rests on each other: these boxes are exact, those of Sr3D are not."""


@dataclass(frozen=True)
class Phrase:
    """A phrase of one kind, and the instance that it means."""

    kind: str
    text: str
    instance: int


@dataclass(frozen=True, eq=False)
class Known:
    """An object of a room: its exact box in metres, z up, and its pixels in the first photo."""

    instance: int
    name: str
    low: Float[np.ndarray, "3"]
    high: Float[np.ndarray, "3"]
    mask: Bool[np.ndarray, "h w"]
    depth: float
    pixels: int

    @property
    def center(self) -> Float[np.ndarray, "3"]:
        """Middle of the box."""
        return (self.low + self.high) / 2

    @property
    def column(self) -> float:
        """Mean column of its pixels over the width; NaN out of sight."""
        columns = np.nonzero(self.mask)[1]
        return float(columns.mean()) / self.mask.shape[1] if len(columns) else float("nan")

    @property
    def pictured(self) -> bool:
        """Is enough of it in the first photo?"""
        return int(self.mask.sum()) >= SEEN // 2

    def footprint(self, other: "Known") -> float:
        """Share of its footprint that lies within that of another."""
        common = np.minimum(self.high, other.high)[:2] - np.maximum(self.low, other.low)[:2]
        return float(
            np.prod(np.maximum(common, 0)) / max(np.prod((self.high - self.low)[:2]), 1e-9)
        )

    def away(self, other: "Known") -> float:
        """Metres between both boxes."""
        apart = np.maximum(np.maximum(self.low - other.high, other.low - self.high), 0)
        return float(np.linalg.norm(apart))


def known_objects(scenes: Scenes, room: RoomBatch, index: int = 0) -> list[Known]:
    """The objects of one room that its photos show, be it barely."""
    owner = scenes.instance[index].numpy()
    extent = (scenes.rotation[index].abs() @ scenes.half[index][..., None])[..., 0].numpy()
    middle, used = scenes.centre[index].numpy(), scenes.shape[index].numpy() >= 0
    pixels, depth = room.instance[index].numpy(), room.depth[index, 0].numpy()
    found = []
    for number in np.unique(pixels[pixels > 0]).tolist():
        parts = used & (owner == number)
        count = int((pixels == number).sum())
        if count < GLIMPSED or not parts.any():
            continue
        low = (middle - extent)[parts].min(axis=0).astype(np.float64)
        high = (middle + extent)[parts].max(axis=0).astype(np.float64)
        name = WHOLE_NAMES[int(scenes.whole[index][parts][0])]
        mask = pixels[0] == number
        far = float(np.median(depth[mask])) if mask.any() else float("nan")
        found.append(Known(number - 1, name, low, high, mask, far, count))
    return found


def phrases(objects: list[Known]) -> Iterator[Phrase]:
    """All phrases of all kinds that the objects of a room give rise to."""
    called = {name: _called(objects, name) for name in sorted({o.name for o in objects})}
    groups = {n: group for n, group in called.items() if all(o.pixels >= SEEN for o in group)}
    several = {name: group for name, group in groups.items() if len(group) > 1}
    single = {name: group[0] for name, group in groups.items() if len(group) == 1}
    for name, one in single.items():
        yield Phrase("noun", f"the {name}", one.instance)
    for name, group in several.items():
        yield from _orders(name, group)
        anchors = {n: a for n, a in single.items() if a not in group}
        for other, anchor in anchors.items():
            for kind, words in _WORDS.items():
                yield from _related(kind, f"the {name} {words} the {other}", group, anchor)
            yield from _by_distance(name, group, other, anchor)
        pairs = list(anchors.items())
        for i, (first, a) in enumerate(pairs):
            for second, b in pairs[i + 1 :]:
                text = f"the {name} between the {first} and the {second}"
                yield from _only("between", text, group, [_between(t, a, b) for t in group])


_WORDS = {
    "left": "left of", "right": "to the right of", "front": "in front of", "behind": "behind",
    "on": "on", "above": "above", "below": "under",
}  # fmt: skip


def _called(objects: list[Known], noun: str) -> list[Known]:
    """What the noun means: its own kind, and kinds under it ("table" also means coffee tables)."""
    return [o for o in objects if o.name in {noun, *rows_under(noun)}]


def _only(kind: str, text: str, group: list[Known], holds: list[bool | None]) -> Iterator[Phrase]:
    """A phrase where it holds for one and clearly not for all others; None is neither."""
    if holds.count(True) == 1 and holds.count(None) == 0:
        yield Phrase(kind, text, group[holds.index(True)].instance)


def _related(kind: str, text: str, group: list[Known], anchor: Known) -> Iterator[Phrase]:
    yield from _only(kind, text, group, [_RULES[kind](one, anchor) for one in group])


def _left(one: Known, anchor: Known) -> bool | None:
    if not (one.pictured and anchor.pictured):
        return None
    gap = anchor.column - one.column
    return None if abs(gap) < ASIDE else gap > 0


def _before(one: Known, anchor: Known) -> bool | None:
    """Nearer by half a metre, in the columns of the other; no doubt only where nothing overlaps."""
    if not (one.pictured and anchor.pictured):
        return None
    own, others = one.mask.any(axis=0), anchor.mask.any(axis=0)
    common = (own & others).sum() / min(own.sum(), others.sum())
    gap = anchor.depth - one.depth
    if common > 0.5 and abs(gap) > 0.5:
        return gap > 0
    return False if common == 0 and abs(one.column - anchor.column) > 2 * ASIDE else None


def _on(one: Known, anchor: Known) -> bool | None:
    step = abs(one.low[2] - anchor.high[2])
    if one.footprint(anchor) > SUPPORTED and step <= TOUCHING:
        return True
    return False if one.footprint(anchor) == 0 else None


def _above(one: Known, anchor: Known) -> bool | None:
    step = one.low[2] - anchor.high[2]
    shares = one.footprint(anchor), anchor.footprint(one)
    if step > APART and max(shares) > OVERLAP:
        return True
    return False if one.away(anchor) > 1 and max(shares) == 0 else None


def _between(one: Known, a: Known, b: Known) -> bool | None:
    """Its middle lies near the middle of the way from a to b, seen from above."""
    way = (b.center - a.center)[:2]
    length = float(np.linalg.norm(way))
    if length < 1:
        return None
    offset = (one.center - a.center)[:2]
    along = float(offset @ way) / length**2
    across = abs(float(offset[0] * way[1] - offset[1] * way[0])) / length**2
    level = one.low[2] < max(a.high[2], b.high[2]) and one.high[2] > min(a.low[2], b.low[2])
    if 0.25 < along < 0.75 and across < 0.1 and level and min(one.away(a), one.away(b)) > 0:
        return True
    return False if along < -0.1 or along > 1.1 or across > 0.6 else None


_RULES = {
    "left": _left,
    "right": lambda one, anchor: _left(anchor, one),
    "front": _before,
    "behind": lambda one, anchor: _before(anchor, one),
    "on": _on,
    "above": _above,
    "below": lambda one, anchor: _above(anchor, one),
}


def _by_distance(name: str, group: list[Known], other: str, anchor: Known) -> Iterator[Phrase]:
    away = sorted((one.away(anchor), one.instance) for one in group)
    if away[1][0] - away[0][0] > GAP:
        yield Phrase("nearest", f"the {name} nearest the {other}", away[0][1])
    if away[-1][0] - away[-2][0] > GAP:
        yield Phrase("farthest", f"the {name} farthest from the {other}", away[-1][1])


def _orders(name: str, group: list[Known]) -> Iterator[Phrase]:
    """The largest, the smallest, and where all are in the first photo those from either side."""
    volume = sorted((float(np.prod(one.high - one.low)), one.instance) for one in group)
    if volume[-1][0] > 2 * volume[-2][0]:
        yield Phrase("largest", f"the largest {name}", volume[-1][1])
    if volume[1][0] > 2 * volume[0][0]:
        yield Phrase("smallest", f"the smallest {name}", volume[0][1])
    columns = sorted((one.column, one.instance) for one in group if one.pictured)
    gaps = [right[0] - left[0] for left, right in pairwise(columns)]
    if len(columns) == len(group) and min(gaps) > ASIDE:
        yield Phrase("ordered", f"the leftmost {name}", columns[0][1])
        if len(group) > 2:
            yield Phrase("ordered", f"the second {name} from the right", columns[-2][1])
