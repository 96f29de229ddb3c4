"""What corrects a map as a whole: places that come back, and poses that a sender gives."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64

from ffsplat.alignment import Similarity
from ffsplat.chunks.place import FIRST, Placement
from ffsplat.refine.equations import Sightings
from ffsplat.refine.matches import match_views
from ffsplat.stream.atlas import Atlas
from ffsplat.stream.given import DRIFT, UNKNOWN, by_baselines, sender_from_map, through, weigh
from ffsplat.stream.keyframes import Keyframe
from ffsplat.stream.loops import confirm_loop
from ffsplat.stream.parallax import by_parallax
from ffsplat.stream.placing import Tie, lay
from ffsplat.stream.submaps import Loop
from ffsplat.stream.window import Window, world_poses

_log = logging.getLogger(__name__)

PAUSE = 5
"""Keyframes after a closed loop in which no other is looked for."""

RECENT = 5
"""Keyframes that tell where the sender's world is, if all of them do not: the first ones of a map,
placed by the fewest views, may be the worst."""

FRAMES = 64
"""Latest frames that tell it, keyframes or not, as long as these do not."""


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


def take_senders_world(atlas: Atlas, proved: bool = True) -> bool:
    """Move the map into the sender's world, if the poses given so far tell where that is.

    They need not tell of the way that was seen if nothing of what the frames show has `proved` it.
    Submaps stand then where their first keyframe with a pose is said to have been taken, others
    where they stood beside them; each camera with a pose stands where it was said to be.
    """
    posed = [one for one in atlas.keyframes if one.given is not None]
    moved = (
        _sender_from_map(atlas, posed, proved)
        or _sender_from_map(atlas, posed[-RECENT:], proved)
        or _sender_from_frames(atlas)
    )
    if moved is None:
        return False
    _move(atlas, moved)
    atlas.latest = None  # it may have been a node that is none any more
    atlas.scale_error = UNKNOWN
    _log.info("the map lies in the world of the given poses, scale %.3g", moved.scale)
    return True


def _move(atlas: Atlas, moved: Similarity) -> None:
    """Move a map, all of it but the cameras with a pose, which stand where they are said to be."""
    atlas.submaps.move_all(moved)
    _grow(atlas, atlas.submaps.poses.keys(), 1.0)


def _grow(atlas: Atlas, submaps: Collection[int], factor: float) -> None:
    """Have submaps grow, about cameras with a pose, which stand where they are said to be."""
    first: dict[int, Similarity] = {}
    for one in atlas.keyframes:
        if one.given is not None and one.submap in submaps and one.submap not in first:
            scale = factor * atlas.submaps.poses[one.submap].scale
            first[one.submap] = through(one.submap_from_camera, one.given, scale)
    if first:
        atlas.submaps.adopt(first)
    atlas.stand_as_given(submaps)


def first_placed(window: Window, given: Sequence[Float64[np.ndarray, "4 4"] | None]) -> Placement:
    """Where the first window of a map lies: its first view with a pose stands there, in any unit.

    So where the first frames are said to be is nearly right before the sender's unit is known.
    """
    for row, pose in enumerate(given):
        if pose is not None:
            return replace(FIRST, similarity=through(window.local_pose(row), pose, 1.0))
    return FIRST


def stand_as_given(
    atlas: Atlas,
    window: Window,
    given: Sequence[Float64[np.ndarray, "4 4"] | None],
    proved: bool = True,
) -> dict[int, Similarity]:
    """How each view of the first window lies in the sender's world, if the poses `given` tell that.

    Views with a pose lie exactly there, others where they lie beside these. Empty if nothing tells.
    `proved` is as in `take_senders_world`.
    """
    posed = {row: pose for row, pose in enumerate(given) if pose is not None}
    base = window.placed.similarity
    if not posed:
        return {}
    found, middle = _found(window, posed)
    moved = sender_from_map(
        base.poses(found), np.stack([*posed.values()]), base.scale * middle, proved
    )
    if moved is None:
        return {}
    scale, atlas.scale_error = _weighed(window, posed, moved.scale * base.scale, UNKNOWN)
    return {
        row: moved @ base if pose is None else through(window.local_pose(row), pose, scale)
        for row, pose in enumerate(given)
    }


def _sender_from_map(atlas: Atlas, posed: Sequence[Keyframe], proved: bool) -> Similarity | None:
    if not posed:
        return None
    poses = atlas.submaps.poses
    middle = float(np.median([one.middle * poses[one.submap].scale for one in posed]))
    given = np.stack([one.given for one in posed if one.given is not None])
    return sender_from_map(world_poses(posed, poses), given, middle, proved)


def _sender_from_frames(atlas: Atlas) -> Similarity | None:
    """The same by the latest frames, where few of them are keyframes."""
    poses, there = atlas.trajectory.posed(atlas.submaps.poses, FRAMES)
    middle = float(np.median(atlas.keyframes.in_world(atlas.submaps.lies)[1]))
    return sender_from_map(poses, there, middle)


def where_given(window: Window, row: int, given: Float64[np.ndarray, "4 4"] | None) -> Similarity:
    """How a view lies in the world: exactly where it is said to be, in the unit of the map.

    As its window does, if nothing is said.
    """
    if given is None:
        return window.placed.similarity
    return through(window.local_pose(row), given, window.placed.similarity.scale)


def learn_scale(
    atlas: Atlas, window: Window, row: int, given: Float64[np.ndarray, "4 4"]
) -> Similarity:
    """How a new keyframe lies in the world: where it is said to be, at the scale that this tells.

    The views beside it take that over, as they err together; all of the map does as long as its
    scale is less sure than it drifts.
    """
    posed = {i: one.given for i, one in enumerate(window.past) if one.given is not None}
    known, young = window.placed.similarity.scale, atlas.scale_error > DRIFT
    scale, atlas.scale_error = _weighed(window, posed | {row: given}, known, atlas.scale_error)
    factor = scale / known
    if factor != 1 and young:
        _move(atlas, Similarity(factor, np.eye(3), (1 - factor) * given[:3, 3]))
    elif factor != 1:
        beside = [window.past[i] for i in posed]
        _grow(atlas, {one.submap for one in beside if one.number in atlas.keyframes}, factor)
    return through(window.local_pose(row), given, scale)


def _weighed(
    window: Window, posed: Mapping[int, Float64[np.ndarray, "4 4"]], scale: float, error: float
) -> tuple[float, float]:
    """A scale of a window and the error of its log, with what views with a pose tell of it.

    They tell it by parallax, by baselines where a network has no descriptors.
    """
    if window.prediction.descriptors.shape[-1]:
        told = by_parallax(_sightings(window), posed, scale)
    else:
        found, middle = _found(window, posed)
        told = by_baselines(found, np.stack([*posed.values()]), middle)
    return (scale, error) if told is None else weigh(scale, error, told)


def _sightings(window: Window) -> Sightings:
    """What the views of a window see of each other, by the descriptors of the network."""
    said, valid = window.prediction, window.views.valid
    inside = None if valid.all() else torch.from_numpy(valid)[None]
    matches = match_views(
        said.descriptors.float(), said.depth.float(), said.depth_error.float(),
        said.intrinsics.float(), inside,
    )  # fmt: skip
    return Sightings.of(matches, 0)


def _found(window: Window, rows: Iterable[int]) -> tuple[Float64[np.ndarray, "v 4 4"], float]:
    """Poses of some views in their window, and their median depth there."""
    rows = list(rows)
    poses = np.stack([window.local_pose(row) for row in rows])
    return poses, float(np.median([window.middle(row) for row in rows]))
