"""Frames that a map remembers: what they show, where they stand, and which of them come back."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float16, Float32, Float64, Int32, Int64, UInt8

from ffsplat.stream.map.compiled import brief, lean
from ffsplat.types import ViewSource


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A frame whose pixels are in the map.

    `submap_from_camera` is rigid, in the unit of its submap, as are `depth` and its median
    `middle`; `depth_error` is the expected error of its log. `intrinsics` is in view pixels,
    `known_intrinsics` says that they were given. `inside` is where the photo is on its canvas,
    `valid` the pixels of it that may be in the map. `places` are those of the map that the pixels
    went to, -1 for none, at the map's time `stamp`. `given` is the pose that came with the frame,
    in the sender's world.
    """

    number: int
    time_ns: int
    submap: int
    submap_from_camera: Float64[np.ndarray, "4 4"]
    intrinsics: Float32[np.ndarray, "3 3"]
    known_intrinsics: bool
    pixels: UInt8[np.ndarray, "h w 3"]
    inside: Bool[np.ndarray, "h w"]
    valid: Bool[np.ndarray, "h w"]
    depth: Float16[np.ndarray, "h w"]
    depth_error: Float16[np.ndarray, "h w"]
    middle: float
    places: Int32[np.ndarray, "h w"]
    stamp: int
    descriptor: Float32[np.ndarray, " d"]
    source: ViewSource
    given: Float64[np.ndarray, "4 4"] | None = None


class Standing(NamedTuple):
    """Where keyframes stand: a row for each, of what `Keyframe` has under these names."""

    number: Int64[np.ndarray, " n"]
    submap: Int64[np.ndarray, " n"]
    submap_from_camera: Float64[np.ndarray, "n 4 4"]
    middle: Float64[np.ndarray, " n"]


class Keyframes:
    """At most `most` keyframes by number, in the order in which they came."""

    def __init__(self, most: int):
        self.most = most
        self.changes = 0
        """How often one was added or forgotten."""
        self._all: dict[int, Keyframe] = {}
        room = most + 1  # that one more, until one is forgotten
        self._rows = Standing(
            np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros((room, 4, 4)),
            np.zeros(room),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Keyframe]:
        return iter(self._all.values())

    def __contains__(self, number: int) -> bool:
        return number in self._all

    def __getitem__(self, number: int) -> Keyframe:
        return self._all[number]

    def add(self, keyframe: Keyframe) -> None:
        """Remember a keyframe; one of a number that is there stands in its place."""
        row = len(self)
        if keyframe.number in self._all:
            row = int(np.flatnonzero(self.standing.number == keyframe.number)[0])
        self.changes += 1
        self._all[keyframe.number] = keyframe
        for name, values in self._rows._asdict().items():
            values[row] = getattr(keyframe, name)

    def remove(self, numbers: Iterable[int]) -> None:
        """Forget some."""
        self.changes += 1
        before = self.standing
        for number in numbers:
            del self._all[number]
        stay = [number in self._all for number in before.number.tolist()]
        for values, some in zip(self._rows, before, strict=True):
            values[: len(self)] = some[stay]

    @property
    def standing(self) -> Standing:
        """Where they stand, in their order."""
        return Standing(*(values[: len(self)] for values in self._rows))

    def in_world(
        self, lies: Float64[np.ndarray, "s 13"]
    ) -> tuple[Float64[np.ndarray, "n 4 4"], Float64[np.ndarray, " n"]]:
        """world_from_camera of each, and its median depth in the unit of the world.

        `lies` is where submaps lie, by number (`Submaps.lies`).
        """
        poses, middle = np.empty((len(self), 4, 4)), np.empty(len(self))
        _write_world(*self.standing[1:], lies, poses, middle)
        return poses, middle

    def of_submaps(self, *submaps: int) -> list[int]:
        """Numbers of the keyframes of some submaps."""
        numbers, own = self.standing[:2]
        return numbers[np.isin(own, submaps)].tolist()

    def last(self, count: int) -> list[int]:
        """Numbers of those that came last, the latest first."""
        return list(self._all)[: -count - 1 : -1]


@brief
def _write_world(submap, poses, middle, lies, world, depth):
    """Write poses and depths as they are in the world."""
    for i in range(len(submap)):
        lie, pose = lies[submap[i]], poses[i]
        scale = lie[0]
        for row in range(3):
            for column in range(4):
                value = 0.0
                for k in range(3):
                    value += lie[1 + 3 * row + k] * pose[k, column]
                world[i, row, column] = value if column < 3 else scale * value + lie[10 + row]
        for column in range(4):
            world[i, 3, column] = pose[3, column]
        depth[i] = middle[i] * scale


def sight_distances(
    a: Float64[np.ndarray, "n 4 4"],
    b: Float64[np.ndarray, "m 4 4"],
    middle: Float64[np.ndarray, " n"],
) -> Float64[np.ndarray, "n m"]:
    """How far cameras are in place and in what they look at: the sum of both distances.

    `a` and `b` are world_from_camera; what each looks at lies at the depth `middle` of those of
    `a`. Over that depth, two cameras in one place at an angle of 57 degrees are about 1 apart.
    """
    apart = np.empty((len(a), len(b)))
    one_type = (np.require(array, requirements=["C", "W"]) for array in (a, b, middle))
    _write_distances(*one_type, apart)
    return apart


@brief
def _write_distances(a, b, middle, apart):
    for i in range(len(a)):
        m = middle[i]
        centre, ahead = (a[i, 0, 3], a[i, 1, 3], a[i, 2, 3]), (a[i, 0, 2], a[i, 1, 2], a[i, 2, 2])
        for j in range(len(b)):
            x, y, z = centre[0] - b[j, 0, 3], centre[1] - b[j, 1, 3], centre[2] - b[j, 2, 3]
            u = x + m * (ahead[0] - b[j, 0, 2])
            v = y + m * (ahead[1] - b[j, 1, 2])
            w = z + m * (ahead[2] - b[j, 2, 2])
            apart[i, j] = math.sqrt(x * x + y * y + z * z) + math.sqrt(u * u + v * v + w * w)


def choose_views(
    apart: Float64[np.ndarray, " n"], between: Float64[np.ndarray, "n n"], count: int, spread: float
) -> Int64[np.ndarray, " m"]:
    """The nearest keyframe, then near ones that are not all in one place: up to `count` rows.

    `apart` tells how far each is from the new frame, `between` from each other
    (`sight_distances`). Of those that are nearer than `spread` to one already chosen, the views
    would say twice the same; they come last.
    """
    chosen: list[int] = []
    late: list[int] = []
    for row in np.argsort(apart, kind="stable"):
        if len(chosen) == count:
            break
        close = any(between[row, other] < spread for other in chosen)
        (late if close else chosen).append(int(row))
    return np.array((chosen + late)[:count], np.int64)


def most_redundant(between: Float64[np.ndarray, "n n"], spared: int) -> int:
    """The row whose two nearest neighbours are nearest: the others say best what it says.

    The last `spared` rows stay.
    """
    nearest = np.empty(len(between) - spared)
    _write_nearest(between, nearest)
    return int(nearest.argmin())


@lean
def _write_nearest(between, nearest):
    """Write the sum of the two least distances of each row to others."""
    for i in range(len(nearest)):
        least = second = np.inf
        for j in range(len(between)):
            apart = between[i, j]
            if j != i and apart < second:
                least, second = min(apart, least), max(apart, least)
        nearest[i] = least + second


def places_of(keyframe: Keyframe, pixels: Int64[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
    """The places in the map that pixels of a keyframe (flat indices) went to, -1 for none."""
    return np.where(pixels < 0, np.int32(-1), keyframe.places.reshape(-1)[pixels])
