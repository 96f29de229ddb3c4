"""What corrects a map as a whole: places that come back, and poses that a sender gives."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float64

from ffsplat.alignment import Similarity
from ffsplat.chunks.place import FIRST, Placement
from ffsplat.stream.atlas import Atlas
from ffsplat.stream.given import sender_from_map, through, window_scale
from ffsplat.stream.keyframes import Keyframe
from ffsplat.stream.loops import confirm_loop
from ffsplat.stream.placing import Tie, lay
from ffsplat.stream.submaps import Loop
from ffsplat.stream.window import Window, world_poses

_log = logging.getLogger(__name__)

PAUSE = 5
"""Keyframes after a closed loop in which no other is looked for."""

RECENT = 5
"""Keyframes that tell where the sender's world is, if all of them do not: the first ones of a map,
placed by the fewest views, may be the worst."""


class Revisits:
    """Looks for old keyframes that show the present place, and closes the loops that they prove.

    `candidate` is the number of a keyframe that goes through the network with the next frame.
    """

    def __init__(self, logs: bool = True):
        """Nothing is known to come back yet; `logs` says whether loops are logged."""
        self.logs = logs
        self.candidate: int | None = None
        self.pause = 0
        self.closed = 0
        self.proof: Future[Loop | None] | None = None
        """What comes out beside of whether the last window closes a loop."""

    def choose(self, atlas: Atlas, window: Sequence[Keyframe]) -> None:
        """Choose an old keyframe that looks like the newest one, the last of the window."""
        self.pause = max(0, self.pause - 1)
        if self.pause:
            return
        near = atlas.keyframes.of_submaps(*(one.submap for one in window))
        found = atlas.memory.candidates(window[-1].descriptor, near, 1)
        self.candidate = found[0][0] if found else None

    def close(self, atlas: Atlas, window: Window, row: int) -> None:
        """Begin to prove that the candidate, the last keyframe of a window, shows what `row` does.

        `settle` takes in what comes out, and the map is corrected a few frames later.
        """
        self.candidate = None
        submaps = atlas.submaps
        where = dict(submaps.poses), submaps.current, submaps.epoch
        self.proof = submaps.await_loop(partial(prove_loop, window, row, *where))

    def settle(self, atlas: Atlas | None) -> None:
        """Close the loop that the last window proves, if any; raises once what the proof raised."""
        if self.proof is None or atlas is None:
            return
        proof, self.proof, loop = self.proof, None, None
        try:
            loop = proof.result()
        finally:  # nothing is awaited any more, also where the proof failed
            closed = atlas.submaps.take_loop(loop)
        if closed:
            if self.logs:
                _log.info("closed a %s", loop)
            self.closed += 1
            self.pause, self.candidate = PAUSE - 1, None


def prove_loop(
    window: Window, row: int, submaps: Mapping[int, Similarity], current: int, epoch: int
) -> Loop | None:
    """The loop from the last keyframe of a window to `row`, a view in the submap `current`."""
    old_row = len(window.past) - 1
    old = window.past[old_row]
    evidence = confirm_loop(window.posed, old_row, row)
    if not evidence.ok:
        return None
    by_old = lay(window, [Tie(old_row, evidence.likeness, apart=0.0)], submaps)
    moved = by_old.similarity @ window.placed.similarity.inverse()
    depth = by_old.similarity.scale * window.middle(row)
    return Loop(old.submap, current, moved, depth, by_old.agreement, epoch)


def take_senders_world(atlas: Atlas) -> bool:
    """Move the map into the sender's world, if the poses given so far tell where that is.

    Submaps stand then where their first keyframe with a pose is said to have been taken, others
    where they stood beside them; each camera with a pose stands where it was said to be.
    """
    posed = [one for one in atlas.keyframes if one.given is not None]
    moved = _sender_from_map(atlas, posed) or _sender_from_map(atlas, posed[-RECENT:])
    if moved is None:
        return False
    submaps = atlas.submaps
    submaps.move_all(moved)
    inside: dict[int, list[Keyframe]] = {}
    for one in posed:
        inside.setdefault(one.submap, []).append(one)
    submaps.adopt({n: _as_given(submaps.poses[n].scale, some) for n, some in inside.items()})
    atlas.stand_as_given()
    _log.info("the map lies in the world of the given poses, scale %.3g", moved.scale)
    return True


def first_placed(window: Window, given: Sequence[Float64[np.ndarray, "4 4"] | None]) -> Placement:
    """Where the first window of a map lies: its first view with a pose stands there, in any unit.

    So where the first frames are said to be is nearly right before the sender's unit is known.
    """
    for row, pose in enumerate(given):
        if pose is not None:
            return replace(FIRST, similarity=through(window.local_pose(row), pose, 1.0))
    return FIRST


def stand_as_given(
    window: Window, given: Sequence[Float64[np.ndarray, "4 4"] | None]
) -> dict[int, Similarity]:
    """How each view of the first window lies in the sender's world, if the poses `given` tell that.

    Views with a pose lie exactly there, others where they lie beside these. Empty if nothing tells.
    """
    posed = [row for row, pose in enumerate(given) if pose is not None]
    base, poses = window.placed.similarity, [pose for pose in given if pose is not None]
    if not posed:
        return {}
    there, found = np.stack(poses), np.stack([window.local_pose(row) for row in posed])
    middle = float(np.median([window.middle(row) for row in posed]))
    moved = sender_from_map(base.poses(found), there, base.scale * middle)
    if moved is None:
        return {}
    scale = window_scale(moved.scale * base.scale, found, there, middle)
    return {
        row: moved @ base if pose is None else through(window.local_pose(row), pose, scale)
        for row, pose in enumerate(given)
    }


def _as_given(scale: float, keyframes: Sequence[Keyframe]) -> Similarity:
    """Where a submap of this scale lies by the poses that are given for keyframes in it."""
    found = np.stack([one.submap_from_camera for one in keyframes])
    there, first = _given(keyframes), keyframes[0]
    return through(found[0], there[0], window_scale(scale, found, there, first.middle))


def _sender_from_map(atlas: Atlas, posed: Sequence[Keyframe]) -> Similarity | None:
    if not posed:
        return None
    poses = atlas.submaps.poses
    middle = float(np.median([one.middle * poses[one.submap].scale for one in posed]))
    return sender_from_map(world_poses(posed, poses), _given(posed), middle)


def where_given(
    window: Window, row: int, given: Float64[np.ndarray, "4 4"] | None, known: Sequence[Keyframe]
) -> Similarity:
    """How a view lies in the world: exactly where it is said to be, at the scale of its window.

    As its window does, if nothing is said.
    """
    if given is None:
        return window.placed.similarity
    posed = [i for i, one in enumerate(known[: len(window.past)]) if one.given is not None]
    found = np.stack([window.local_pose(i) for i in [*posed, row]])
    there = np.concatenate([_given([known[i] for i in posed]), given[None]])
    scale = window_scale(window.placed.similarity.scale, found, there, window.middle(row))
    return through(window.local_pose(row), given, scale)


def _given(keyframes: Sequence[Keyframe]) -> Float64[np.ndarray, "v 4 4"]:
    """The given poses of keyframes that have one."""
    poses = [one.given for one in keyframes if one.given is not None]
    return np.stack(poses) if poses else np.zeros((0, 4, 4))
