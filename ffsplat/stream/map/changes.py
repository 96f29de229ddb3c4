"""Places as the rows that go over the wire, and which of them changed since they last went."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt16, UInt32

from ffsplat.stream.delta import CODES, SplatRows
from ffsplat.stream.map.compiled import lean
from ffsplat.stream.map.pairs import read_pairs
from ffsplat.stream.map.places import Places
from ffsplat.stream.map.submaps import SubmapPoses

SCALES = 2.0**-24, 65504.0
"""The positive numbers that float16 has."""

ZERO, ONE = np.float32(0), np.float32(1)


@dataclass(frozen=True, eq=False)
class Changes:
    """What changed in a map: the fields of `MapDelta` that it knows."""

    splats: SplatRows
    removed: UInt32[np.ndarray, " r"]
    submaps: UInt16[np.ndarray, " s"]
    submap_poses: Float64[np.ndarray, "s 8"]
    removed_submaps: UInt16[np.ndarray, " t"]

    def __bool__(self) -> bool:
        counts = self.splats, self.removed, self.submaps, self.removed_submaps
        return any(len(one) for one in counts)


def rows_of(places: Places, numbers: Int64[np.ndarray, " n"]) -> SplatRows:
    """Some places, in the order given, at the precision of the wire."""
    count = len(numbers)
    scales = np.empty((count, 3), np.float32)
    rows = SplatRows(
        gids=numbers.astype(np.uint32),
        submaps=np.empty(count, np.uint16),
        means=np.empty((count, 3), np.float32),
        scales=np.empty((count, 3), np.float16),
        quaternions_wxyz=np.empty((count, 4), np.int8),
        opacities=np.empty(count, np.uint8),
        colors=np.empty((count, 3), np.uint8),
        ids=np.empty((count, CODES), np.int16),
        weights=np.empty((count, CODES), np.uint8),
        instances=places.instances[numbers],
    )
    write_rows(
        places, numbers, rows.submaps, rows.means, scales, rows.quaternions_wxyz, rows.opacities,
        rows.colors,
    )  # fmt: skip
    rows.scales[:] = scales
    order = np.empty(CODES, np.int64)
    read_pairs(places.ids, places.sums, numbers, order, rows.ids, rows.weights)
    return rows


@lean
def write_rows(places, numbers, submaps, means, scales, quaternions, opacities, colors):
    """Write all of some places but their meaning, at the precision of the wire if numba has it."""
    for i in range(len(numbers)):
        place = numbers[i]
        submaps[i] = places.keys[place] >> 48
        for k in range(3):
            means[i, k] = places.means[place, k]
            scales[i, k] = min(max(places.scales[place, k], SCALES[0]), SCALES[1])
            colors[i, k] = share(places.colors[place, k])
        for k in range(4):
            step = np.rint(places.quaternions_wxyz[place, k] * np.float32(127))
            quaternions[i, k] = np.int8(min(max(step, -127), 127))
        opacities[i] = share(places.opacities[place])


@lean
def share(value):
    """A number in [0, 1] in steps of 1/255."""
    return np.uint8(min(max(value, ZERO), ONE) * np.float32(255) + np.float32(0.5))


def take_changes(places: Places, submaps: SubmapPoses) -> Changes:
    """All that changed since the last call.

    A place is removed only if it was there then, so one that came and went is not named, and one
    that was given again is a row. Those of a removed submap go with it.
    """
    touched = np.flatnonzero(places.touched)
    changed, removed = np.empty((2, len(touched)), np.int64)
    counts = collect(places, touched, submaps.gone, changed, removed)
    moved = submaps.take_changes()
    return Changes(
        rows_of(places, changed[: counts[0]]),
        removed[: counts[1]].astype(np.uint32),
        moved.numbers,
        moved.poses,
        moved.removed,
    )


@lean
def collect(places, touched, gone, changed, removed):
    """Tell the places that hold something from those that are no more, and take all as sent.

    `gone` marks removed submaps, whose places need not be named. Returns how many are which.
    """
    changes = removals = 0
    for place in touched:
        now, before = places.keys[place] >> 48, places.sent[place]
        if now >= 0:
            changed[changes] = place
            changes += 1
        elif before >= 0 and not gone[before]:
            removed[removals] = place
            removals += 1
        places.sent[place], places.touched[place] = now, False
    return changes, removals
