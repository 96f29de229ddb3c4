"""ScanNet's labelled points, and the class that a scene gives to each of them."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int

from ffsplat.alignment import Similarity, camera_similarity
from ffsplat.errors import SceneFileError, UsageError
from ffsplat.evaluation.asking import Subject, stem
from ffsplat.evaluation.classes import UNLABELLED, class_scores, confusion
from ffsplat.grouping.neighbors import nearest
from ffsplat.io.header import MAX_HEADER, SCALARS, open_regular
from ffsplat.io.text import matrix, numbers, read_text
from ffsplat.types import Cameras

NYU40 = {
    1: "wall", 2: "floor", 3: "cabinet", 4: "bed", 5: "chair", 6: "sofa", 7: "table", 8: "door",
    9: "window", 10: "bookshelf", 11: "picture", 12: "counter", 14: "desk", 16: "curtain",
    24: "refrigerator", 28: "shower curtain", 33: "toilet", 34: "sink", 36: "bathtub",
    39: "other furniture",
}  # fmt: skip
"""Numbers of NYU40 in ScanNet's label files, and the words that each is asked with."""

CLASSES = {
    20: tuple(NYU40),
    19: tuple(NYU40)[:-1],
    15: (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 33, 34),
    10: (1, 2, 4, 5, 6, 7, 8, 9, 10, 33),
}
"""The subsets under which numbers are published: 20 of ScanNet's benchmark (Dai et al., 2017), the
others of `eval_scannet.py` of OpenGaussian."""

MAX_POINTS = 20_000_000
SOLID = 0.1
"""Opacity under which a Gaussian is not counted, as in `eval_scannet.py`."""
REACH = 0.1
"""Metres from a point to the Gaussian that speaks for it, at most."""


def read_labelled_points(path: Path) -> tuple[Float32[np.ndarray, "n 3"], Int[np.ndarray, " n"]]:
    """Points and NYU40 numbers of a `*_vh_clean_2.labels.ply`; SceneFileError says what is wrong.

    Its faces, behind the points, are not read.
    """
    with open_regular(path) as file:
        start = file.read(MAX_HEADER)
        head, mark, _ = start.partition(b"end_header\n")
        kind = _row_kind(head.decode("latin-1").splitlines(), path)
        count = _count(head, path)
        if not mark or count > MAX_POINTS:
            raise SceneFileError(
                f"{path} has no end of its header, or more than {MAX_POINTS} points"
            )
        file.seek(len(head) + len(mark))
        content = file.read(count * kind.itemsize)
    if len(content) < count * kind.itemsize:
        raise SceneFileError(f"{path} ends before its last point")
    rows = np.frombuffer(content, kind)
    points = np.stack([rows[axis] for axis in "xyz"], axis=1).astype(np.float32)
    return points, rows["label"].astype(np.int64)


def _row_kind(lines: list[str], path: Path) -> np.dtype:
    """The layout of a point: the first element's properties."""
    if lines[:2] != ["ply", "format binary_little_endian 1.0"]:
        raise SceneFileError(f"{path} is not a binary PLY file")
    starts = [i for i, line in enumerate(lines) if line.startswith("element ")]
    first, end = [*starts, len(lines), len(lines)][:2]
    columns = [line.split() for line in lines[first + 1 : end] if line.startswith("property ")]
    if any(len(words) != 3 or words[1] not in SCALARS for words in columns):
        raise SceneFileError(f"{path} has points with a property that is no number")
    kinds = [(name, "<" + SCALARS[word]) for _, word, name in columns]
    names = [name for name, _ in kinds]
    if not {"x", "y", "z", "label"} <= set(names) or len(set(names)) < len(names):
        raise SceneFileError(f"{path} has no points with x, y, z and label")
    return np.dtype(kinds)


def _count(head: bytes, path: Path) -> int:
    found = re.search(rb"\nelement (\w+) ([0-9]{1,12})\n", head)
    if found is None or found[1] != b"vertex":
        raise SceneFileError(f"{path} does not begin with its points")
    return int(found[2])


def read_poses(folder: Path, cameras: Cameras) -> Float64[np.ndarray, "v 4 4"]:
    """The pose (camera to world) of each camera, from `<name>.txt` of 4 x 4 numbers; NaN if absent.

    ScanNet writes minus infinity where it lost its way.
    """
    poses = np.full((len(cameras), 4, 4), np.nan)
    for i, name in enumerate(cameras.names):
        path = folder / f"{stem(name)}.txt"
        if path.is_file():
            poses[i] = matrix(numbers(read_text(path).split(), path), 4, 4, path)
    return poses


def align(cameras: Cameras, poses: Float64[np.ndarray, "v 4 4"]) -> Similarity:
    """From the scene to the world of the poses; UsageError for fewer than two known ones."""
    known = np.isfinite(poses).all(axis=(1, 2))
    if known.sum() < 2:
        raise UsageError("fewer than two cameras of the scene have a pose of that name")
    return camera_similarity(cameras.world_from_camera[known], poses[known])


def measure_points(
    subject: Subject,
    points: Float32[np.ndarray, "n 3"],
    labels: Int[np.ndarray, " n"],
    classes: int = 19,
    world: Similarity | None = None,
) -> dict[str, float]:
    """Mean IoU and accuracy of classes over points in metres; see `PROTOCOLS` for the rule.

    `world` takes the scene to the world of the points; without one they are the same.
    """
    wanted = CLASSES[classes]
    truth = np.full(len(labels), UNLABELLED)
    for place, number in enumerate(wanted):
        truth[labels == number] = place
    guess = np.full(len(points), UNLABELLED)
    solid = np.flatnonzero(subject.scene.gaussians.opacities >= SOLID)
    if len(solid):
        scores = np.stack([subject.matches(NYU40[number])[0] for number in wanted], axis=1)[solid]
        means = subject.scene.gaussians.means[solid]
        means = means if world is None else world.points(means)
        called = np.where(scores.max(axis=1) > 0, scores.argmax(axis=1), UNLABELLED)
        index, far = nearest(points, means, 1)
        guess = np.where(far[:, 0] <= REACH, called[index[:, 0]], UNLABELLED)
    return class_scores(confusion(guess, truth, len(wanted)))
