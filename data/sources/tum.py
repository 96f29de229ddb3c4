"""TUM RGB-D: `rgb.txt`, `depth.txt` and `groundtruth.txt`, joined by time.

Layout (dataset page "File formats", as read by ORB-SLAM2 and cvg/nice-slam): every line of rgb.txt
and depth.txt is "timestamp file", of groundtruth.txt "timestamp tx ty tz qx qy qz qw", the pose of
the colour camera in a fixed world, OpenCV axes; lines with # are comments. Depth is 16-bit PNG,
registered to the colour image, metres = value / 5000. A photo takes the nearest depth map within
20 ms, as the benchmark's `associate.py` does, and a pose interpolated between its two neighbours,
of which one is as near. Calibrations are those of ORB-SLAM2 for Freiburg 1, 2 and 3, for pixels
with integer centres; the name of the folder says which one it is.
"""

from bisect import bisect_left
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from data.sources.files import find_scenes, inside, pinhole
from data.sources.frame import DepthMap, Frame, SourceScene
from data.sources.poses import rigid, rotation_wxyz
from ffsplat.errors import SceneFileError
from ffsplat.io.text import lines, numbers

SIZE = (640, 480)
DEPTH_SCALE = 1 / 5000
NEAR = 0.02
"""Seconds between what counts as simultaneous."""
CALIBRATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "freiburg1": (
        (517.306408, 516.469215, 318.643040, 255.313989),
        (0.262383, -0.953104, -0.005358, 0.002628, 1.163314),
    ),
    "freiburg2": (
        (520.908620, 521.007327, 325.141442, 249.701764),
        (0.231222, -0.784899, -0.003257, -0.000105, 0.917205),
    ),
    "freiburg3": ((535.4, 539.2, 320.1, 247.6), ()),
}
"""fx, fy, cx, cy and the lens (k1, k2, p1, p2, k3) of the colour cameras."""
UNCALIBRATED = ((525.0, 525.0, 319.5, 239.5), ())
"""What the benchmark proposes for a camera without calibration."""


def find(folder: Path) -> list[Path]:
    """Folders with rgb.txt and groundtruth.txt."""
    names = ("rgb.txt", "groundtruth.txt")
    return find_scenes(folder, lambda path: all((path / name).is_file() for name in names))


def read(folder: Path) -> SourceScene:
    """Read one sequence; photos without a pose near in time are left out and counted."""
    photos = _listed(folder, "rgb.txt")
    maps = _listed(folder, "depth.txt") if (folder / "depth.txt").is_file() else []
    times = [time for time, _ in maps]
    poses = _trajectory(folder / "groundtruth.txt")
    camera = next((name for name in CALIBRATIONS if name in folder.name), "")
    values, lens = CALIBRATIONS.get(camera, UNCALIBRATED)
    fx, fy, cx, cy = values
    intrinsics = pinhole(fx, fy, cx, cy, folder, integer_centres=True)
    frames = []
    for time, photo in photos:
        pose = _pose_at(poses, time)
        if pose is None:
            continue
        near = _nearest(times, time)
        depth = None if near is None else DepthMap(maps[near][1], DEPTH_SCALE)
        frame = Frame(photo.stem, photo, SIZE, intrinsics, pose, time, depth, distortion=lens)
        frames.append(frame)
    notes = []
    if len(frames) < len(photos):
        notes.append(f"{len(photos) - len(frames)} photos have no pose within {NEAR:g} s")
    if not camera:
        notes.append("the folder's name has no freiburg1, 2 or 3: default intrinsics")
    return SourceScene(folder.name, "tum", tuple(frames), metric=True, notes=tuple(notes))


def _listed(folder: Path, name: str) -> list[tuple[float, Path]]:
    """(seconds, file) in the order of time."""
    rows = []
    for words in lines(folder / name):
        if len(words) < 2:
            raise SceneFileError(f"{folder / name}: {words[0][:40]!r} has no file")
        rows.append((float(numbers(words[:1], folder / name)[0]), inside(folder, words[1])))
    return sorted(rows)


def _trajectory(path: Path) -> Float64[np.ndarray, "n 8"]:
    rows = [numbers(words, path) for words in lines(path)]
    if not rows or any(len(row) != 8 for row in rows):
        raise SceneFileError(f"{path} is no list of timestamp, translation and quaternion")
    table = np.stack(rows)
    return table[np.argsort(table[:, 0], kind="stable")]


def _nearest(times: list[float], time: float) -> int | None:
    """The index of the nearest of sorted times, None if none is simultaneous."""
    place = bisect_left(times, time)
    around = [index for index in (place - 1, place) if 0 <= index < len(times)]
    best = min(around, key=lambda index: abs(times[index] - time), default=None)
    return best if best is not None and abs(times[best] - time) <= NEAR else None


def _pose_at(table: Float64[np.ndarray, "n 8"], time: float) -> Float64[np.ndarray, "4 4"] | None:
    """The pose at a time between two rows.

    Quaternions are blended linearly: rows are 10 ms apart, so that differs from the arc by nothing.
    """
    times = table[:, 0]
    if np.abs(times - time).min() > NEAR:
        return None
    after = int(np.searchsorted(times, time).clip(1, max(len(times) - 1, 1)))
    first, second = table[after - 1], table[min(after, len(table) - 1)]
    span = second[0] - first[0]
    part = np.clip((time - first[0]) / span, 0, 1) if span > 0 else 0.0
    sign = 1.0 if first[4:] @ second[4:] >= 0 else -1.0
    blend = (1 - part) * first + part * np.concatenate([second[:4], sign * second[4:]])
    return rigid(rotation_wxyz(blend[[7, 4, 5, 6]], f"pose at {time}"), blend[1:4])
