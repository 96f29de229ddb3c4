"""A copy of a map that follows its deltas: the server's own, and that of every client."""

import threading

import numpy as np
from jaxtyping import Int64

from ffsplat.stream.delta import MapDelta
from ffsplat.stream.protocol.errors import MALFORMED, ProtocolError
from ffsplat.stream.replica.scene import SceneKeeper
from ffsplat.stream.replica.state import ReplicaState
from ffsplat.types import Scene

MAX_SPLATS = 1 << 21
"""Places that a copy has at most, unless told otherwise: 94 MiB."""

MAX_KEYFRAMES = 1000
"""Keyframes that a copy, and so a snapshot, remembers. All copies of a map must agree on it."""


class Replica:
    """A map as of delta `number`, all zero before the first; may be used from any thread.

    Two copies that stand at the same number are the same, byte by byte in `snapshot`, whether they
    began with a snapshot or with delta 1. Memory: 47 bytes for each place up to the highest one
    that was used (room doubles, up to `max_splats`), the poses of at most 65536 submaps, the
    keyframes, the codebook; once a scene was asked for, 81 bytes a place more (and a quarter of
    that as room to grow), and the scene.
    """

    def __init__(self, max_splats: int = MAX_SPLATS, max_keyframes: int = MAX_KEYFRAMES):
        if min(max_splats, max_keyframes) < 1:
            raise ValueError(f"no room: {max_splats} Gaussians, {max_keyframes} keyframes")
        self._caps = max_splats, max_keyframes
        self._state = ReplicaState(*self._caps)
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self._keeper = SceneKeeper()
        self._scene: tuple[ReplicaState, int, Scene, Int64[np.ndarray, " n"]] | None = None

    @property
    def number(self) -> int:
        """That of the last delta."""
        return self._state.number

    @property
    def epoch(self) -> int:
        """How often the poses were corrected."""
        return self._state.epoch

    def __len__(self) -> int:
        """How many Gaussians there are."""
        with self._lock:
            return int(self._state.present.sum())

    def apply(self, delta: MapDelta) -> bool:
        """Apply the next delta as a whole; False, and nothing happens, for one that came before.

        Raises ProtocolError (4400), with nothing changed, for a gap in the numbers and a delta that
        does not fit the map.
        """
        with self._lock:
            if delta.number <= self._state.number:
                return False
            if delta.number != self._state.number + 1:
                raise ProtocolError(
                    MALFORMED, f"delta {delta.number} after {self._state.number}: some are missing"
                )
            self._state.change(delta)
            return True

    def restore(self, snapshot: MapDelta) -> None:
        """Forget all and begin with a snapshot; ProtocolError, with nothing changed, as `apply`."""
        state = ReplicaState(*self._caps)
        state.change(snapshot)
        with self._lock:
            self._state = state

    def clear(self) -> None:
        """Forget all: the map is empty and its number 0."""
        with self._lock:
            self._state = ReplicaState(*self._caps)

    def snapshot(self) -> MapDelta:
        """The delta that makes this map from nothing; it stays as it is when the map changes."""
        with self._lock:
            return self._state.snapshot()

    def scene(self) -> Scene:
        """The map as a scene in the world, kept until the next delta.

        Gaussians stand by rising place, as in `snapshot`. Only those that changed since the last
        scene are worked out again, while deltas may be applied. The arrays are not to be changed.
        """
        return self.scene_and_gids()[0]

    def scene_and_gids(self) -> tuple[Scene, Int64[np.ndarray, " n"]]:
        """The same, and the gid of each of its Gaussians."""
        with self._building:
            with self._lock:
                state, number = self._state, self._state.number
                if self._scene is not None and self._scene[:2] == (state, number):
                    return self._scene[2:]
                behind = state.take_behind()
            scene = self._keeper.scene(behind, {"delta": str(number)})
            self._scene = state, number, scene, behind.places
            return scene, behind.places
