"""Data checked against itself: views reprojected into each other, and what would fit better."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from data.clip import UNKNOWN, Clip
from data.convert import clip_of, stacked
from data.epipolar import epipolar_distance, matches
from data.landing import land, lift
from data.shards import ShardDataset
from data.shards.index import INDEX
from data.sources.clips import sound_frames
from data.sources.frame import SourceScene
from data.sources.registry import guess_source, source_of
from data.sources.view import Target, load_view
from ffsplat.errors import FFSplatError, UsageError
from ffsplat.io.text import OPENGL

Pairs = list[tuple[int, int]]

SIZE = Target(320, multiple=1)
WINDOWS = 8
"""Places of a scene that are looked at; three frames each."""
STEPS = 60
"""Frames of a window are this fraction of the scene apart: far enough to move."""
COVISIBLE = 0.05
"""Largest relative depth error of pixels whose labels are compared."""
MIN_SHARE = 0.02
"""Of a view's known pixels, how many must land in the other for an error to mean anything."""
MIN_MATCHES = 8
BETTER = 0.5
"""A hypothesis is reported if it leaves less than this part of the error."""
DEPTH_FLOOR, EPIPOLAR_FLOOR = 0.02, 2.0
"""Errors (relative; pixels) below which nothing else is suspected."""
SCALE = (0.05, 100.0)
"""Metres that the median depth of a scene in metres lies between."""


@dataclass(frozen=True)
class Check:
    """What one scene or clip says about itself; None where it cannot say.

    `depth` is the median relative difference between the depth of one view reprojected into
    another and that view's own, `epipolar` the median distance of SIFT matches from their lines in
    pixels of the checked views; `..._shuffled` are the same with poses exchanged between views.
    `labels` and `instances` are the shares of covisible pixels with the same label in both.
    """

    name: str
    views: int
    depth: float | None
    depth_shuffled: float | None
    epipolar: float | None
    epipolar_shuffled: float | None
    labels: float | None
    instances: float | None
    warnings: tuple[str, ...]


def check_path(path: str, source: str | None, limit: int, failed: list[str]) -> Iterator[Check]:
    """Check at most `limit` clips of a set of shards, or scenes of a source.

    A set of shards is an address or a folder with an index; of any other folder the source is
    guessed where it is not named. Scenes that cannot be read are added to `failed`. Raises
    UsageError if there is nothing to check.
    """
    folder = Path(path)
    if source is None and ("://" in path or (folder / INDEX).exists()):
        yield from check_shards(path, limit)
        return
    if not folder.exists():
        raise UsageError(f"{path} does not exist")
    reader = guess_source(folder) if source is None else source_of(source)
    found = reader.find(folder)
    if not found:
        raise UsageError(f"no scene of {reader.name} in {path}", f"its layout: {reader.about}")
    for scene in found[:limit]:
        name = scene.relative_to(folder).as_posix() if scene != folder else scene.name
        try:
            yield check_scene(reader.read(scene), name)
        except FFSplatError as error:
            failed.append(f"{name}: {error}")


def check_shards(path: str, limit: int) -> Iterator[Check]:
    """The first clips of a set of shards, all pairs of their views."""
    dataset = ShardDataset(path)
    for number in range(min(limit, len(dataset))):
        clip = dataset[number]
        yield check_clip(clip, list(combinations(range(len(clip.images)), 2)))


def check_scene(scene: SourceScene, name: str) -> Check:
    """A scene of a source, at a few places along its frames; broken poses are counted by kind.

    Raises UsageError if fewer than two frames have sound poses.
    """
    frames, dropped = sound_frames(scene, 1)
    if len(frames) < 2:
        raise UsageError(f"{len(frames)} of {len(scene.frames)} frames are usable", *dropped[:1])
    groups = _windows(len(frames))
    used = sorted({index for group in groups for index in group})
    place = {index: row for row, index in enumerate(used)}
    chosen = [frames[index] for index in used]
    views = [load_view(frame, SIZE) for frame in chosen]
    clip = clip_of(scene, chosen, views, "checked")
    published = stacked([view.labels for view in views], UNKNOWN)
    if published is not None:
        clip = replace(clip, whole=published.astype(np.int16))  # also what the lexicon lacks
    pairs = [(place[a], place[b]) for group in groups for a, b in combinations(group, 2)]
    found = check_clip(clip, pairs)
    reasons = [reason.split(": ")[-1] for reason in dropped]
    counted = tuple(f"{reasons.count(r)} frames: {r}" for r in dict.fromkeys(reasons))
    return replace(found, name=name, warnings=counted + scene.notes + found.warnings)


def _windows(count: int) -> list[tuple[int, ...]]:
    step = max(1, round(count / STEPS))
    last = max(count - 1 - 2 * step, 0)
    starts = dict.fromkeys(int(start) for start in np.linspace(0, last, WINDOWS))
    return [tuple(i for i in (s, s + step, s + 2 * step) if i < count) for s in starts]


def check_clip(clip: Clip, pairs: Pairs) -> Check:
    """Compare pairs of views of a clip, and look for a reading of its numbers that fits better."""
    if clip.depth is None:
        matched = [matches(clip.images[a], clip.images[b]) for a, b in pairs]

        def measure(candidate: Clip) -> float | None:
            return _epipolar_error(candidate, pairs, matched)

    else:

        def measure(candidate: Clip) -> float | None:
            return _depth_error(candidate, pairs)

    error, shuffled = measure(clip), measure(_shuffled(clip))
    floor = EPIPOLAR_FLOOR if clip.depth is None else DEPTH_FLOOR
    warnings = _scale_warnings(clip) + _better(clip, error, floor, measure)
    with_depth = clip.depth is not None
    return Check(
        name=clip.key,
        views=len(clip.images),
        depth=error if with_depth else None,
        depth_shuffled=shuffled if with_depth else None,
        epipolar=None if with_depth else error,
        epipolar_shuffled=None if with_depth else shuffled,
        labels=_same(clip, clip.whole, pairs),
        instances=_same(clip, clip.instance, pairs),
        warnings=tuple(warnings),
    )


def _better(
    clip: Clip, error: float | None, floor: float, measure: Callable[[Clip], float | None]
) -> list[str]:
    """The reading that leaves the least error, if it is much less than as the clip was read."""
    if error is not None and error <= floor:
        return []
    found = {name: measure(change(clip)) for name, change in HYPOTHESES.items()}
    known = {name: value for name, value in found.items() if value is not None}
    best = min(known, key=lambda name: known[name], default=None)
    if best is None or known[best] > BETTER * (np.inf if error is None else error):
        return []
    before = "cannot be measured" if error is None else f"is {error:.3g}"
    return [f"{best}: the error {before} as read, and would be {known[best]:.3g}"]


def _poses_inverted(clip: Clip) -> Clip:
    return replace(clip, world_from_camera=np.linalg.inv(clip.world_from_camera))


def _opengl(clip: Clip) -> Clip:
    turned = clip.world_from_camera @ OPENGL
    return replace(clip, world_from_camera=turned.astype(np.float32))


def _scaled(factor: float) -> Callable[[Clip], Clip]:
    def change(clip: Clip) -> Clip:
        depth = None if clip.depth is None else clip.depth * np.float32(factor)
        return replace(clip, depth=depth)

    return change


HYPOTHESES: dict[str, Callable[[Clip], Clip]] = {
    "poses look inverted (camera_from_world)": _poses_inverted,
    "camera axes look like OpenGL's": _opengl,
    "depth looks 1000 times too large for the poses": _scaled(1e-3),
    "depth looks 1000 times too small for the poses": _scaled(1e3),
}
"""Usual mistakes, as the changes that undo them."""


def _shuffled(clip: Clip) -> Clip:
    """The clip with poses that belong to other views, far away in its order."""
    count = len(clip.images)
    poses = np.roll(clip.world_from_camera, max(1, count // 2), axis=0)
    return replace(clip, world_from_camera=poses)


def _scale_warnings(clip: Clip) -> list[str]:
    if not clip.metric or clip.depth is None or not (clip.depth > 0).any():
        return []
    middle = float(np.median(clip.depth[clip.depth > 0]))
    if SCALE[0] <= middle <= SCALE[1]:
        return []
    unit = "millimetres taken for metres" if middle > SCALE[1] else "another unit than the metre"
    return [f"suspicious scale: the median depth is {middle:.3g} m ({unit}?)"]


def _depth_error(clip: Clip, pairs: Pairs) -> float | None:
    """Median relative depth difference over all pixels that land on known depth, both ways."""
    errors = [_errors(clip, a, b)[0] for pair in pairs for a, b in (pair, pair[::-1])]
    joined = np.concatenate([error for error in errors if error is not None] or [np.zeros(0)])
    return float(np.median(joined)) if len(joined) else None


def _errors(
    clip: Clip, first: int, second: int
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Relative depth errors of the pixels of one view in another, None if too few land there.

    Beside them the flat indices of these pixels in the first view and where they land.
    """
    depth = clip.depth
    if depth is None:
        return None, np.zeros(0, np.int64), np.zeros(0, np.int64)
    known = np.flatnonzero(depth[first] > 0)
    k, poses = clip.intrinsics.astype(np.float64), clip.world_from_camera.astype(np.float64)
    points = lift(depth[first].astype(np.float64), k[first], poses[first])[known]
    landing = land(points, k[second], poses[second], depth.shape[1:])
    there = depth[second].ravel()[landing.index]
    hit = landing.inside & (there > 0)
    error = np.abs(there[hit] / landing.z[hit] - 1)
    enough = hit.sum() > MIN_SHARE * len(known)
    return error if enough else None, known[hit], landing.index[hit]


def _same(clip: Clip, labels: np.ndarray | None, pairs: Pairs) -> float | None:
    """The share of covisible pixels, labelled in both views, whose labels are the same."""
    if labels is None or clip.depth is None:
        return None
    same = []
    for a, b in pairs:
        error, here, there = _errors(clip, a, b)
        if error is None:
            continue
        first, second = labels[a].ravel()[here], labels[b].ravel()[there]
        counted = (error < COVISIBLE) & (first != UNKNOWN) & (second != UNKNOWN)
        same.append((first == second)[counted])
    joined = np.concatenate(same or [np.zeros(0, bool)])
    return float(joined.mean()) if len(joined) else None


def _epipolar_error(
    clip: Clip, pairs: Pairs, matched: list[tuple[np.ndarray, np.ndarray]]
) -> float | None:
    """Median over the matches of all pairs that have enough of them."""
    k, poses = clip.intrinsics.astype(np.float64), clip.world_from_camera.astype(np.float64)
    distances = [
        epipolar_distance(first, second, k[list(pair)], poses[list(pair)])
        for pair, (first, second) in zip(pairs, matched, strict=True)
        if len(first) >= MIN_MATCHES
    ]
    return float(np.median(np.concatenate(distances))) if distances else None


def table(checks: Iterable[Check]) -> Iterator[str]:
    """A line a check, with what fits better in lines below it."""
    for check in checks:
        cells = [f"{check.name}: {check.views} views"]
        if check.depth is not None:
            cells.append(f"depth error {_shown(check.depth, check.depth_shuffled, 100, ' %')}")
        if check.epipolar is not None:
            cells.append(f"epipolar {_shown(check.epipolar, check.epipolar_shuffled, 1, ' px')}")
        for name in ("labels", "instances"):
            share = getattr(check, name)
            if share is not None:
                cells.append(f"{name} agree {100 * share:.1f} %")
        if check.depth is None and check.epipolar is None:
            cells.append("nothing to compare")
        yield ", ".join(cells)
        yield from (f"warning: {check.name}: {warning}" for warning in check.warnings)


def _shown(error: float, shuffled: float | None, factor: int, unit: str) -> str:
    other = "none" if shuffled is None else f"{factor * shuffled:.2f}{unit}"
    return f"{factor * error:.2f}{unit} (poses shuffled {other})"
