"""RealEstate10K: a text file of cameras a clip, with the frames cut from the video in a folder.

Layout (google.github.io/realestate10k, as read by dcharatan/pixelsplat): the first line is the
video's address; every other one is "timestamp fx fy cx cy k1 k2" and the 3x4 camera_from_world in
rows. Timestamps are microseconds, intrinsics are fractions of width and height (the middle is 0.5),
axes are OpenCV's, the unit is arbitrary. Frames are pictures named by their timestamp in a folder
named like the text file: beside it, or under `frames/` where the text lies under `cameras/`.
"""

from pathlib import Path

import numpy as np

from data.sources.files import image_size, natural, pictures, pinhole
from data.sources.frame import Frame, SourceScene
from data.sources.poses import inverse
from ffsplat.errors import SceneFileError
from ffsplat.io.text import lines, numbers

COLUMNS = 19


def find(folder: Path) -> list[Path]:
    """Text files whose folder of frames is there."""
    files = [folder] if folder.suffix == ".txt" else sorted(folder.rglob("*.txt"), key=natural)
    return [path for path in files if _frames(path) is not None]


def read(path: Path) -> SourceScene:
    """Read one clip's text file; lines without a picture are left out and counted."""
    folder = _frames(path)
    if folder is None:
        raise SceneFileError(f"{path} has no folder of frames")
    photos = {photo.stem: photo for photo in pictures(folder)}
    frames, missing, size = [], 0, None
    for words in _rows(path):
        photo = photos.get(words[0])
        if photo is None:
            missing += 1
            continue
        size = size or image_size(photo)
        frames.append(_frame(path, words, photo, size))
    notes = (f"{missing} lines have no picture",) if missing else ()
    return SourceScene(path.stem, "realestate10k", tuple(frames), metric=False, notes=notes)


def _rows(path: Path) -> list[list[str]]:
    rows = list(lines(path))
    rows = rows[1:] if rows and len(rows[0]) == 1 else rows
    if any(len(row) != COLUMNS for row in rows):
        raise SceneFileError(f"{path} has lines of other than {COLUMNS} numbers")
    return rows


def _frame(path: Path, words: list[str], photo: Path, size: tuple[int, int]) -> Frame:
    values = numbers(words, path)
    width, height = size
    fx, fy, cx, cy, k1, k2 = (float(value) for value in values[1:7])
    where = f"{path}: {words[0]}"
    if not np.isfinite([k1, k2]).all():
        raise SceneFileError(f"{where} has distortion {k1}, {k2}")
    camera_from_world = np.concatenate([values[7:].reshape(3, 4), [[0, 0, 0, 1]]])
    return Frame(
        name=words[0],
        image=photo,
        size=size,
        intrinsics=pinhole(
            fx * width, fy * height, cx * width, cy * height, where, integer_centres=False
        ),
        world_from_camera=inverse(camera_from_world),
        timestamp=float(values[0]) * 1e-6,
        distortion=(k1, k2) if k1 or k2 else (),
    )


def _frames(path: Path) -> Path | None:
    beside = path.with_suffix("")
    apart = Path(*("frames" if part == "cameras" else part for part in beside.parts))
    return next((folder for folder in (beside, apart) if folder.is_dir()), None)
