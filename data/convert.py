"""From a published data set on disk to clips in shards."""

import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.clip import UNKNOWN, Clip
from data.shards import ShardError, write_shards, written_keys
from data.shards.meta import check_clip
from data.sources.clips import ClipRule, cut, overlap, sound_frames
from data.sources.frame import Frame, SourceScene
from data.sources.labels import clip_instances, whole_rows
from data.sources.poses import nearest_rigid
from data.sources.registry import Source
from data.sources.view import Target, View, load_view
from ffsplat.errors import FFSplatError, UsageError

SLUG = 40


@dataclass(frozen=True)
class Options:
    """How views are resized, how scenes are cut, and how many clips are enough (None: all)."""

    target: Target
    rule: ClipRule
    limit: int | None = None


@dataclass
class Report:
    """What became of a data set, filled while it is read.

    `dropped` names frames that were left out, `failed` scenes and clips, each with the reason;
    `notes` says what the readers passed over.
    """

    scenes: int = 0
    clips: int = 0
    views: int = 0
    labelled: int = 0
    dropped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def source_clips(
    source: Source,
    folder: Path,
    options: Options,
    report: Report,
    stored: Collection[str] = (),
) -> Iterator[Clip]:
    """All clips of a data set in order; what cannot be read is named in the report and skipped.

    Clips whose keys are `stored` are counted but not made again. Raises UsageError if the folder
    has no scene of the source.
    """
    paths = source.find(folder)
    if not paths:
        raise UsageError(f"no scene of {source.name} in {folder}", f"its layout: {source.about}")
    for path in paths:
        where = path.relative_to(folder).as_posix() if path != folder else path.name
        try:
            scene = source.read(path)
            report.notes += [f"{where}: {note}" for note in scene.notes]
            groups = _groups(scene, options.rule, where, report)
        except FFSplatError as error:
            report.failed.append(f"{where}: {error}")
            continue
        report.scenes += 1
        for number, frames in enumerate(groups):
            if options.limit is not None and report.clips >= options.limit:
                return
            key = clip_key(source.name, where, number)
            try:
                clip = None if key in stored else make_clip(scene, frames, options.target, key)
                if clip is not None:
                    check_clip(clip)
            except FFSplatError as error:
                report.failed.append(f"{where}, clip {number}: {error}")
                continue
            report.clips += 1
            report.views += len(frames)
            report.labelled += any(frame.labels is not None for frame in frames)
            if clip is not None:
                yield clip


def _groups(scene: SourceScene, rule: ClipRule, where: str, report: Report) -> list[list[Frame]]:
    frames, dropped = sound_frames(scene, rule.stride)
    report.dropped += [f"{where}: {reason}" for reason in dropped]
    groups = cut(overlap(scene, frames), rule, where)
    if not groups:
        raise UsageError(f"no {rule.views} of its {len(frames)} usable frames overlap enough")
    return [[frames[index] for index in group] for group in groups]


def clip_key(source: str, where: str, number: int) -> str:
    """A key that says where a clip came from and is unique within the data set."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", where)[-SLUG:].strip("-")
    return f"{source}-{slug}-{zlib.crc32(where.encode()):08x}-{number:05d}"


def make_clip(scene: SourceScene, frames: list[Frame], target: Target, key: str) -> Clip:
    """Decode frames into a clip; ImageError names the first picture that cannot be read."""
    return clip_of(scene, frames, [load_view(frame, target) for frame in frames], key)


def clip_of(scene: SourceScene, frames: list[Frame], views: list[View], key: str) -> Clip:
    """A clip of frames and their decoded views; poses of few digits become exactly rigid."""
    labels = stacked([view.labels for view in views], UNKNOWN)
    objects = stacked([view.instances for view in views], UNKNOWN)
    whole = instance = None
    if labels is not None:
        whole = whole_rows(labels, scene.label_names, scene.label_space)
    if objects is not None:
        unnamed = np.full(objects.shape, UNKNOWN, np.int16)
        instance = clip_instances(objects, unnamed if whole is None else whole)
    poses = np.stack([nearest_rigid(frame.world_from_camera) for frame in frames])
    with np.errstate(over="ignore"):  # `check_clip` refuses what becomes infinite
        poses = poses.astype(np.float32)
    return Clip(
        key=key,
        source=scene.source,
        metric=scene.metric,
        images=np.stack([view.image for view in views]),
        intrinsics=np.stack([view.intrinsics for view in views]).astype(np.float32),
        world_from_camera=poses,
        depth=stacked([view.depth for view in views], 0),
        whole=whole,
        instance=instance,
    )


def stacked(maps: Sequence[np.ndarray | None], blank: int) -> np.ndarray | None:
    """The maps of all views (v, h, w), `blank` for a view without; None if no view has one."""
    known = next((values for values in maps if values is not None), None)
    if known is None:
        return None
    return np.stack([np.full_like(known, blank) if m is None else m for m in maps])


def convert(source: Source, folder: Path, out: Path, options: Options) -> Report:
    """Write the clips of a data set to shards; an interrupted run goes on where it stopped.

    Raises FFSplatError if nothing could be written; what was skipped is named in the report.
    """
    report = Report()
    stored = written_keys(out, source.name)
    try:
        write_shards(source_clips(source, folder, options, report, stored), out, source.name)
    except ShardError as error:
        if report.clips:
            raise
        reasons = report.failed[:1]
        raise UsageError(f"{folder} gave no clip", *reasons) from error
    return report


def summary(report: Report) -> list[str]:
    """Counts, then what was dropped, passed over and failed, a line each."""
    rows = [
        f"{report.scenes} scenes, {report.clips} clips, {report.views} views, "
        f"{report.labelled} clips with labels"
    ]
    rows += [f"note: {note}" for note in report.notes]
    rows += [f"dropped: {frame}" for frame in report.dropped]
    rows += [f"skipped: {scene}" for scene in report.failed]
    return rows
