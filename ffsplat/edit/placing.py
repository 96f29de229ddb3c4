"""Where one scene lies in another's world: by the photos that both were made from."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float32, Float64, Int64

from ffsplat.alignment import (
    KERNEL,
    DegenerateAlignment,
    Similarity,
    camera_similarity,
)
from ffsplat.edit.comparing import depth_ratios, likeness
from ffsplat.errors import FFSplatError, UsageError
from ffsplat.types import Cameras, Scene

FEWEST = 2
"""Shared photos that place a scene: of fewer nobody could say whether they are the same photo."""

GUESSED = 32
"""Shared photos, evenly spaced, of which all pairs are tried to begin with."""

SAME = 1e-3
"""Error, as below, of a camera that never counts as a contradiction."""

LARGEST_ERROR = 0.2
"""Median of a camera's turn in radians plus its shift over depth, from which photos of one name
are taken for different ones."""

ALIKE, DIFFERENT = 0.97, 0.5
"""Correlations of thumbnails: from which photos may be the same, below which they are not. Halved
and saved again as JPEG of quality 40, a photo has 0.998 in the median of 280 photos and 0.71 at the
least, where it is dark; the nearest other photo of a room has 0.9, the next of a video 0.999."""

SURE = 0.01
"""Relative error of the scale by camera centres below which depths are not asked."""


@dataclass(frozen=True, eq=False)
class Placed:
    """How a scene lies in another's world, and how well the shared photos agree on that.

    `names` are the photos that count, `left_out` those that contradict them. `turns` are the angles
    in radians and `shifts` the distances, in the unit of the target, by which the cameras that
    count are off; `depth` is what they see in the median, in that unit. `scale_from` says what told
    the scale: "centers" of the cameras or "depths". `likeness` is that of the photos in both scenes
    (`ffsplat.edit.comparing.likeness`). `kept` are the shared photos that count, by their place
    among `shared_views`.
    """

    similarity: Similarity
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    turns: Float64[np.ndarray, " v"]
    shifts: Float64[np.ndarray, " v"]
    depth: float
    scale_from: str
    kept: Int64[np.ndarray, " k"]
    likeness: float | None = None


def shared_views(a: Cameras | None, b: Cameras | None) -> Int64[np.ndarray, "v 2"]:
    """Pairs of cameras, by index, of one photo.

    They are those whose thumbnails are the nearest to each other and alike (`same_photos`); where
    fewer than FEWEST are, those of one file name that is unique in both scenes, unless thumbnails
    show that they are different photos.
    """
    if a is None or b is None:
        return np.zeros((0, 2), np.int64)
    alike = thumbnail_likeness(a, b)
    pairs = same_photos(alike)
    if len(pairs) >= FEWEST:
        return pairs
    keys = [_unique_names(cameras) for cameras in (a, b)]
    named = [(row, keys[1][name]) for name, row in keys[0].items() if name in keys[1]]
    named = [pair for pair in named if not alike[pair] < DIFFERENT]
    return np.array(sorted(named), np.int64).reshape(-1, 2)


def thumbnail_likeness(a: Cameras, b: Cameras) -> Float64[np.ndarray, "a b"]:
    """Correlation of the thumbnails of all pairs; NaN where one is unknown."""
    tables = []
    for cameras in (a, b):
        small = cameras.thumbnails
        rows = np.zeros((len(cameras), 256)) if small is None else small.reshape(-1, 256) / 255.0
        rows = rows - rows.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        tables.append(np.divide(rows, lengths, out=np.full_like(rows, np.nan), where=lengths > 0))
    return tables[0] @ tables[1].T


def same_photos(likeness: Float64[np.ndarray, "a b"]) -> Int64[np.ndarray, "v 2"]:
    """Pairs, each of which is the other's most alike, and at least ALIKE."""
    known = np.nan_to_num(likeness, nan=-1.0)
    best = known.argmax(axis=1)
    rows = np.arange(len(known))
    mutual = (known.argmax(axis=0)[best] == rows) & (known[rows, best] >= ALIKE)
    return np.stack([rows[mutual], best[mutual]], axis=1)


def place_by_views(source: Scene, target: Scene) -> Placed:
    """The similarity from the world of the source to that of the target, by shared photos.

    Of the fits (`camera_similarity`) to pairs of shared photos, that with the least median error
    comes first, so nearly half of the names may be those of other photos; then all that fit are
    fitted together. The scale is that of the camera centres, or of the depths that both scenes
    show in the shared photos where these tell it more surely. Raises UsageError for fewer than
    FEWEST shared photos and FFSplatError where they contradict each other.
    Source: Rousseeuw, "Least median of squares regression", 1984.
    """
    if source.cameras is None or target.cameras is None:
        raise UsageError(
            "the scenes share no photos that are known: one has no cameras",
            "give --cameras of each, from ffsplat infer --cameras-out, or a --transform",
        )
    pairs = shared_views(source.cameras, target.cameras)
    if len(pairs) < FEWEST:
        raise UsageError(
            f"the scenes share {_photos(len(pairs))}; placing one takes {FEWEST}",
            "give cameras of the same photos (--cameras), or a --transform",
        )
    cameras = source.cameras[pairs[:, 0]], target.cameras[pairs[:, 1]]
    depth = _usual_depth(target, cameras[1])
    placed = _by_centers(*cameras, depth)
    if placed is None or _scale_error(placed, cameras[1]) > SURE:
        placed = _by_depths(source, target, cameras, depth, placed)
    error = np.median(placed.turns + placed.shifts / depth)
    if len(placed.names) < FEWEST or error > LARGEST_ERROR:
        raise FFSplatError(
            f"the {len(pairs)} shared photos do not fit together: cameras are off by "
            f"{np.degrees(np.median(placed.turns)):.0f} degrees and "
            f"{np.median(placed.shifts) / depth:.0%} of the depth",
            "are they the same photos? else give a --transform",
        )
    kept = placed.kept
    alike = likeness(source, target, (cameras[0][kept], cameras[1][kept]))
    return replace(placed, likeness=alike)


def _by_centers(source: Cameras, target: Cameras, depth: float) -> Placed | None:
    """With the scale of the camera centres; None where they are in one place."""
    with suppress(DegenerateAlignment):
        return _consensus(source, target, depth, None)
    return None


def _by_depths(
    source: Scene,
    target: Scene,
    cameras: tuple[Cameras, Cameras],
    depth: float,
    by_centers: Placed | None,
) -> Placed:
    """With the scale of the depths, unless that of the camera centres is surer."""
    ratios = depth_ratios(source, target, cameras)
    if len(ratios):
        middle = float(np.median(ratios))
        error = float(np.abs(ratios / middle - 1).mean()) if len(ratios) > 1 else SURE
        if by_centers is None or error < _scale_error(by_centers, cameras[1]):
            return replace(_consensus(*cameras, depth, middle), scale_from="depths")
    if by_centers is None:
        raise FFSplatError(
            "neither camera centres nor depths tell the scale between the scenes",
            "give a --transform",
        )
    return by_centers


def _consensus(source: Cameras, target: Cameras, depth: float, scale: float | None) -> Placed:
    """The fit to all cameras but those that contradict the fit that most of them agree with."""
    poses = source.world_from_camera, target.world_from_camera
    some = range(0, len(source), -(-len(source) // GUESSED))
    guesses = []
    for pair in combinations(some, 2):
        with suppress(DegenerateAlignment):
            first, second = (one[list(pair)] for one in poses)
            guesses.append(camera_similarity(first, second, scale))
    if not guesses:
        raise DegenerateAlignment("the cameras are in one place")

    def errors(similarity: Similarity) -> Float64[np.ndarray, " v"]:
        turns, shifts = _off(similarity, *poses)
        return turns + shifts / depth

    found = errors(min(guesses, key=lambda guess: float(np.median(errors(guess)))))
    kept = found <= max(KERNEL * float(np.median(found)), SAME)
    similarity = camera_similarity(poses[0][kept], poses[1][kept], scale)
    turns, shifts = _off(similarity, poses[0][kept], poses[1][kept])
    names = np.array(target.names, object)
    lists = tuple(names[kept]), tuple(names[~kept])
    return Placed(similarity, *lists, turns, shifts, depth, "centers", np.flatnonzero(kept))


def _off(
    similarity: Similarity,
    source: Float32[np.ndarray, "v 4 4"],
    target: Float32[np.ndarray, "v 4 4"],
) -> tuple[Float64[np.ndarray, " v"], Float64[np.ndarray, " v"]]:
    """Angles in radians and distances between cameras of the source, moved, and of the target."""
    moved, there = similarity.poses(source.astype(np.float64)), target.astype(np.float64)
    # The chord of two rotations: arccos of the trace would lose half of the digits near 0.
    chords = np.linalg.norm(moved[:, :3, :3] - there[:, :3, :3], axis=(1, 2))
    turns = 2 * np.arcsin(np.clip(chords / np.sqrt(8), 0, 1))
    return turns, np.linalg.norm(moved[:, :3, 3] - there[:, :3, 3], axis=1)


def _scale_error(placed: Placed, target: Cameras) -> float:
    """The relative error of a scale by camera centres: their misfit over their spread."""
    centers = target.world_from_camera[placed.kept, :3, 3].astype(np.float64)
    spread = np.linalg.norm(centers - centers.mean(0))
    return float(np.linalg.norm(placed.shifts) / max(spread, 1e-12))


def _usual_depth(scene: Scene, cameras: Cameras) -> float:
    """The median depth of the Gaussians before the cameras; 1 if there is nothing."""
    centers = scene.gaussians.means[:: max(1, len(scene) // 10_000)].astype(np.float64)
    forward = cameras.world_from_camera[:, :3, 2].astype(np.float64)
    places = cameras.world_from_camera[:, :3, 3].astype(np.float64)
    depths = (centers @ forward.T - np.einsum("vi,vi->v", places, forward)).ravel()
    before = depths[depths > 0]
    return float(np.median(before)) if len(before) else 1.0


def _unique_names(cameras: Cameras) -> dict[str, int]:
    """File names that only one camera has, and its row."""
    names = [PurePosixPath(name).name for name in cameras.names]
    counts = Counter(names)
    return {name: row for row, name in enumerate(names) if counts[name] == 1}


def _photos(count: int) -> str:
    return "one photo" if count == 1 else f"{count or 'no'} photos"
