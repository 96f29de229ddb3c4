"""Places as the rows that go over the wire, and which of them changed since they last went."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int64, UInt8, UInt16, UInt32

from ffsplat.stream.delta import CODES, SplatRows
from ffsplat.stream.map.compiled import lean
from ffsplat.stream.map.pairs import read_pairs
from ffsplat.stream.map.places import Places
from ffsplat.stream.map.submaps import SubmapPoses

SCALES = 2.0**-24, 65504.0
"""The positive numbers that float16 has."""


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
    ids = np.empty((len(numbers), CODES), np.int16)
    weights = np.empty((len(numbers), CODES), np.uint8)
    read_pairs(places.ids, places.sums, numbers, np.empty(CODES, np.int64), ids, weights)
    return SplatRows(
        gids=numbers.astype(np.uint32),
        submaps=(places.keys[numbers] >> 48).astype(np.uint16),
        means=places.means[numbers],
        scales=np.clip(places.scales[numbers], *SCALES).astype(np.float16),
        quaternions_wxyz=_signed(places.quaternions_wxyz[numbers]),
        opacities=_share(places.opacities[numbers]),
        colors=_share(places.colors[numbers]),
        ids=ids,
        weights=weights,
        instances=places.instances[numbers],
    )


def take_changes(places: Places, submaps: SubmapPoses) -> Changes:
    """All that changed since the last call.

    A place is removed only if it was there then, so one that came and went is not named, and one
    that was given again is a row. Those of a removed submap go with it.
    """
    touched, removed = np.empty((2, len(places.keys)), np.int64)
    counts = collect(places.keys, places.touched, places.sent, submaps.gone, touched, removed)
    moved = submaps.take_changes()
    return Changes(
        rows_of(places, touched[: counts[0]]),
        removed[: counts[1]].astype(np.uint32),
        moved.numbers,
        moved.poses,
        moved.removed,
    )


@lean
def collect(keys, touched, sent, gone, changed, removed):
    """Write down which places changed and which are no more, and take them as sent; how many."""
    changes = removals = 0
    for place in range(len(keys)):
        now = keys[place] >> 48
        if now >= 0 and touched[place]:
            changed[changes] = place
            changes += 1
        elif now < 0 <= sent[place] and not gone[sent[place]]:
            removed[removals] = place
            removals += 1
        sent[place], touched[place] = now, False
    return changes, removals


def _share(values: Float32[np.ndarray, "n *c"]) -> UInt8[np.ndarray, "n *c"]:
    """Numbers in [0, 1] in steps of 1/255."""
    return (np.clip(values, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _signed(quaternions: Float32[np.ndarray, "n 4"]) -> Int8[np.ndarray, "n 4"]:
    """Unit quaternions in steps of 1/127."""
    return np.rint(quaternions * np.float32(127)).clip(-127, 127).astype(np.int8)
