"""The frames that Gaussians live in: where each lies in the world, and which of them moved."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt16

from ffsplat.alignment import Similarity
from ffsplat.stream.map.compiled import brief
from ffsplat.stream.map.shape import quaternion
from ffsplat.stream.map.table import MAX_SUBMAPS
from ffsplat.stream.turns import rotation_of


@dataclass(frozen=True, eq=False)
class SubmapChanges:
    """Submaps that are new or moved, their poses world_from_submap, and those that are gone.

    A pose is (scale, quaternion wxyz, translation). A number may be among both: it was given again.
    """

    numbers: UInt16[np.ndarray, " s"]
    poses: Float64[np.ndarray, "s 8"]
    removed: UInt16[np.ndarray, " t"]


class SubmapPoses:
    """Poses of up to `capacity` submaps, by number; the lowest free number is given first."""

    def __init__(self, capacity: int):
        if not 0 < capacity <= MAX_SUBMAPS:
            raise ValueError(f"a map has 1 to {MAX_SUBMAPS} submaps, not {capacity}")
        self.used: Bool[np.ndarray, " s"] = np.zeros(capacity, bool)
        self.moved: Bool[np.ndarray, " s"] = np.zeros(capacity, bool)
        self.sent: Bool[np.ndarray, " s"] = np.zeros(capacity, bool)
        self.gone: Bool[np.ndarray, " s"] = np.zeros(capacity, bool)
        self.poses: Float64[np.ndarray, "s 8"] = np.zeros((capacity, 8))
        self.into_local: Float64[np.ndarray, "s 3 4"] = np.zeros((capacity, 3, 4))
        self.into_world: Float64[np.ndarray, "s 3 4"] = np.zeros((capacity, 3, 4))

    def add(self, pose: Similarity) -> int:
        """The number of a new submap. Raises ValueError when there are as many as can be."""
        if self.used.all():
            raise ValueError(f"there are {len(self.used)} submaps already: remove one first")
        number = int(np.argmin(self.used))
        self.used[number] = True
        try:
            self.move([number], [pose])
        except ValueError:
            self.used[number] = False
            raise
        return number

    def move(self, numbers: Sequence[int], poses: Sequence[Similarity]) -> None:
        """Put submaps elsewhere; one has changed only if its pose has."""
        self.check(*numbers)
        if not len(numbers):
            return
        rows, packed = np.array(numbers, np.int64), np.empty((len(numbers), 8))
        packed[:, 0] = [one.scale for one in poses]
        packed[:, 5:] = [one.translation for one in poses]
        pack_turns(np.array([one.rotation for one in poses], np.float64), packed)
        good = np.isfinite(packed).all(1) & (packed[:, 0] > 0)
        if not good.all():
            raise ValueError(f"the pose of submap {rows[~good][0]} is no similarity")
        self.moved[rows] |= (packed != self.poses[rows]).any(1)
        self._place(rows, packed)

    def remove(self, number: int) -> None:
        """Free a number."""
        self.check(number)
        self.gone[number] |= self.sent[number]
        self.used[number] = self.sent[number] = self.moved[number] = False
        self.poses[number] = 0

    def pose(self, number: int) -> Similarity:
        """world_from_submap."""
        self.check(number)
        return _unpacked(self.poses[number])

    def numbers(self) -> list[int]:
        """The submaps that there are, rising."""
        return np.flatnonzero(self.used).tolist()

    def tell_again(self) -> None:
        """Let the next changes name every submap, and none that is gone."""
        self.moved[:] = self.used
        self.sent[:] = self.gone[:] = False

    def check(self, *numbers: int) -> None:
        """Raise ValueError for a submap that is not there."""
        for number in numbers:
            if not (0 <= number < len(self.used) and self.used[number]):
                raise ValueError(f"there is no submap {number}")

    def take_changes(self) -> SubmapChanges:
        """What changed since the last call."""
        moved = np.flatnonzero(self.moved)
        changes = SubmapChanges(
            moved.astype(np.uint16),
            self.poses[moved],
            np.flatnonzero(self.gone).astype(np.uint16),
        )
        self.sent |= self.moved
        self.moved[:] = self.gone[:] = False
        return changes

    def state(self) -> dict[str, np.ndarray]:
        """All that `restore` needs."""
        return {name: getattr(self, name) for name in ("used", "moved", "sent", "gone", "poses")}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Become what a `state` says."""
        for name in self.state():
            getattr(self, name)[:] = arrays[name]
        rows = np.flatnonzero(self.used)
        self._place(rows, self.poses[rows])

    def _place(self, rows: Int64[np.ndarray, " n"], packed: Float64[np.ndarray, "n 8"]) -> None:
        self.poses[rows] = packed
        write_matrices(self.poses, rows, self.into_world, self.into_local)


@brief
def pack_turns(rotations, packed):
    """Write the quaternion of each rotation to its columns."""
    for i in range(len(packed)):
        turn = quaternion(rotations[i], 1.0)
        for k in range(4):
            packed[i, 1 + k] = turn[k]


@brief
def write_matrices(poses, numbers, into_world, into_local):
    """Write the 3x4 matrices of some poses and of their inverses."""
    for number in numbers:
        scale, w, x, y, z = poses[number, :5]
        turn = (
            (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        )
        into_local[number, :, 3] = 0
        for i in range(3):
            move = poses[number, 5 + i]
            into_world[number, i, 3] = move
            for j in range(3):
                into_world[number, i, j] = scale * turn[i][j]
                into_local[number, j, i] = turn[i][j] / scale
                into_local[number, j, 3] -= turn[i][j] * move / scale


def _unpacked(packed: Float64[np.ndarray, "8"]) -> Similarity:
    return Similarity(float(packed[0]), rotation_of(packed[1:5]), packed[5:].copy())
