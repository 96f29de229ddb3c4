"""The frames that Gaussians live in: where each lies in the world, and which of them moved."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt16

from ffsplat.alignment import Similarity
from ffsplat.stream.map.table import MAX_SUBMAPS
from ffsplat.stream.turns import quaternion_of, rotation_of


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
        self.move(number, pose)
        return number

    def move(self, number: int, pose: Similarity) -> None:
        """Put a submap elsewhere; it has changed only if the pose has."""
        self.check(number)
        turn = quaternion_of(pose.rotation)
        packed = np.concatenate([[pose.scale], turn, pose.translation])
        if not (np.isfinite(packed).all() and pose.scale > 0):
            raise ValueError(f"the pose of submap {number} is no similarity")
        if not np.array_equal(packed, self.poses[number]):
            self._place(number, packed)
            self.moved[number] = True

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
        for number in self.numbers():
            self._place(number, self.poses[number].copy())

    def _place(self, number: int, packed: Float64[np.ndarray, "8"]) -> None:
        pose = _unpacked(packed)
        self.poses[number] = packed
        self.into_world[number] = _matrix(pose)
        self.into_local[number] = _matrix(pose.inverse())


def _unpacked(packed: Float64[np.ndarray, "8"]) -> Similarity:
    return Similarity(float(packed[0]), rotation_of(packed[1:5]), packed[5:].copy())


def _matrix(pose: Similarity) -> Float64[np.ndarray, "3 4"]:
    return np.column_stack([pose.scale * pose.rotation, pose.translation])
