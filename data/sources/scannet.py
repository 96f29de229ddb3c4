"""ScanNet: the export of its .sens files with filtered labels, and the layouts of LSM and SIU3R.

Export (ScanNet/ScanNet, SensReader/python and BenchmarkScripts): `color/N.jpg`, `depth/N.png`
(millimetres, with its own lens), `pose/N.txt` (world_from_camera, OpenCV axes, metres; lost frames
are -inf), `intrinsic/intrinsic_color.txt` and `intrinsic_depth.txt` (4x4, integer pixel centres);
`label-filt/N.png` holds the ids of `scannetv2-labels.combined.tsv`, which lies in the folder or
above it, `instance-filt/N.png` object numbers of the scan (0 = none). LSM's training set has
`color/*.png`, `depth/*.png` and `pose/*.npz`; its test set `images/*.jpg` with their *.npz,
`depths/*.png` and `labels/*.png`. SIU3R's layout is described in `processed`.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.clip import UNKNOWN
from data.sources.files import find_scenes, image_size, pictures, read_matrix
from data.sources.frame import DepthMap, Frame, LabelMap, SourceScene
from data.sources.labels import whole_of
from data.sources.processed import (
    MILLIMETRE,
    is_siu3r,
    npz_frame,
    read_siu3r,
    square_intrinsics,
)
from ffsplat.errors import SceneFileError
from ffsplat.io.text import read_text

SPACE = "scannet"
LABELS = "scannetv2-labels.combined.tsv"
ABOVE = 4
NPZ = ("camera_intrinsics", "camera_pose")


def find(folder: Path) -> list[Path]:
    """Folders in one of the layouts."""
    return find_scenes(folder, lambda path: _layout(path) is not None)


def read(folder: Path) -> SourceScene:
    """Read one scan; SceneFileError names what is wrong."""
    layout = _layout(folder)
    if layout is None:
        raise SceneFileError(f"{folder} is in none of the layouts of ScanNet")
    return layout(folder)


def _layout(folder: Path) -> Callable[[Path], SourceScene] | None:
    """The reader whose files are there."""
    if (folder / "intrinsic/intrinsic_color.txt").is_file():
        return _read_export
    if is_siu3r(folder):
        return partial(read_siu3r, source="scannet")
    if next((folder / "pose").glob("*.npz"), None) is not None:
        return _read_lsm
    if next((folder / "images").glob("*.npz"), None) is not None:
        return _read_lsm_test
    return None


def _read_export(folder: Path) -> SourceScene:
    color = square_intrinsics(folder / "intrinsic/intrinsic_color.txt", integer_centres=True)
    own = square_intrinsics(folder / "intrinsic/intrinsic_depth.txt", integer_centres=True)
    names = _label_names(folder)
    frames, size = [], None
    for photo in pictures(folder / "color"):
        size = size or image_size(photo)
        depth, label = folder / f"depth/{photo.stem}.png", folder / f"label-filt/{photo.stem}.png"
        instance = folder / f"instance-filt/{photo.stem}.png"
        known = label.exists() and bool(names)
        objects = instance if instance.exists() else None
        frames.append(
            Frame(
                name=photo.stem,
                image=photo,
                size=size,
                intrinsics=color,
                world_from_camera=read_matrix(folder / f"pose/{photo.stem}.txt", 4, 4),
                depth=DepthMap(depth, MILLIMETRE, intrinsics=own) if depth.exists() else None,
                labels=LabelMap(label) if known else None,
                instances=objects if known else None,
            )
        )
    unnamed = (folder / "label-filt").is_dir() and not names
    notes = (f"labels are not used: no {LABELS} here or above",) if unnamed else ()
    return SourceScene(folder.name, "scannet", tuple(frames), True, names, SPACE, notes=notes)


def _read_lsm(folder: Path) -> SourceScene:
    frames = tuple(
        npz_frame(photo, folder / f"pose/{photo.stem}.npz", folder / f"depth/{photo.stem}.png", NPZ)
        for photo in pictures(folder / "color")
    )
    return SourceScene(folder.name, "scannet", frames, metric=True)


def _read_lsm_test(folder: Path) -> SourceScene:
    names = _label_names(folder)
    frames = []
    for photo in pictures(folder / "images"):
        depth, label = folder / f"depths/{photo.stem}.png", folder / f"labels/{photo.stem}.png"
        frame = npz_frame(photo, photo.with_suffix(".npz"), depth, NPZ)
        known = LabelMap(label) if label.exists() and names else None
        frames.append(replace(frame, labels=known))
    return SourceScene(folder.name, "scannet", tuple(frames), True, names, SPACE)


def _label_names(folder: Path) -> Mapping[int, str]:
    """Names by the ids of the export: its raw category, or its NYU40 class if that means more."""
    above = list(folder.absolute().parents)[:ABOVE]
    path = next((p / LABELS for p in (folder, *above) if (p / LABELS).is_file()), None)
    if path is None:
        return {}
    rows = csv.DictReader(read_text(path).splitlines(), delimiter="\t")
    names = {}
    for row in rows:
        number, raw, coarse = (row.get(key) or "" for key in ("id", "raw_category", "nyu40class"))
        if not number.isdecimal() or not raw:
            raise SceneFileError(f"{path} has a row without id or raw_category")
        names[int(number)] = coarse if whole_of(raw, SPACE) == UNKNOWN and coarse else raw
    return names
