"""Objects from the masks of each photo: identities carried over views by the Gaussians they share.

Source: Gaga (Lyu et al., arXiv 2404.07977). Which object a mask shows is decided by
`semantics.associate.ObjectMemory`; here stands what a mask sees of a scene that is not aligned
with its pixels, and the vote that gives every Gaussian its object, where Gaga trains a field.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from ffsplat.errors import UsageError
from ffsplat.grouping.neighbors import nearest
from ffsplat.semantics.associate import OVERLAP, ObjectMemory
from ffsplat.types import NO_ID, Cameras, Scene
from ffsplat.voxels import group

PATCHES = 32
"""Patches along a side of a photo."""

FRONT = 0.2
"""Share of a mask's Gaussians in a patch that count as seen: the nearest."""


def group_by_masks(
    scene: Scene,
    cameras: Cameras,
    masks: Sequence[Int32[np.ndarray, "_ _"]],
    *,
    overlap: float = OVERLAP,
    exclusive: bool = False,
    reach: float | None = None,
) -> Scene:
    """The scene with an object number for each Gaussian from numbered masks, -1 for none.

    `masks` has one (height, width) array a camera, negative for no mask; views go in order. A
    Gaussian gets the object that most views see it in front of; one that no mask sees gets that of
    its nearest neighbour, within `reach` in world units (three times the median distance between
    seen Gaussians unless given). Raises UsageError where masks and cameras differ in number or
    size, and without SciPy.
    """
    if len(masks) != len(cameras):
        raise UsageError(f"{len(masks)} masks for {len(cameras)} cameras")
    memory = ObjectMemory(overlap, exclusive)
    gaussians, objects = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for view, mask in enumerate(masks):
        members = front_gaussians(scene.gaussians.means, cameras, view, mask)
        numbers = memory.assign(members)
        gaussians += members
        sizes = [len(part) for part in members]
        objects.append(np.repeat(numbers.astype(np.int64), sizes))
    votes = _most_votes(np.concatenate(gaussians), np.concatenate(objects), len(scene))
    return replace(scene, instances=_spread(votes, scene.gaussians.means, reach))


def front_gaussians(
    means: Float32[np.ndarray, "n 3"], cameras: Cameras, view: int, mask: Int32[np.ndarray, "h w"]
) -> list[Int64[np.ndarray, " _"]]:
    """The Gaussians that each mask of a view sees, rising, in the order of the masks' numbers.

    Those whose centre falls into the mask and that are among the nearest `FRONT` of it in one of
    `PATCHES` by `PATCHES` patches of the photo, at least one a patch.
    """
    width, height = (int(side) for side in cameras.sizes[view])
    if mask.shape != (height, width):
        raise UsageError(f"mask {view} is {mask.shape[1]}x{mask.shape[0]}, not {width}x{height}")
    pixels, depth, seen = _project(means, cameras, view)
    rows = np.flatnonzero(seen)
    x, y = pixels[rows].T
    patch = (y // -(-height // PATCHES)) * PATCHES + x // -(-width // PATCHES)
    number = mask[y, x].astype(np.int64)
    kept = number >= 0
    rows, keys = rows[kept], number[kept] << 20 | patch[kept]
    order = np.lexsort((depth[rows], keys))
    pieces = group(keys[order])
    place = np.arange(len(rows)) - np.repeat(pieces.starts, pieces.sizes)
    few = np.maximum((FRONT * pieces.sizes).astype(np.int64), 1)
    front = rows[order[place < np.repeat(few, pieces.sizes)]]
    owner = mask[pixels[front, 1], pixels[front, 0]]
    numbers = np.unique(mask[mask >= 0])
    return [np.sort(front[owner == which]) for which in numbers]


def _project(
    means: Float32[np.ndarray, "n 3"], cameras: Cameras, view: int
) -> tuple[Int64[np.ndarray, "n 2"], Float32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The pixel that each centre falls into, its depth, and whether it is in the picture."""
    pose, intrinsics = cameras.world_from_camera[view], cameras.intrinsics[view]
    local = (means - pose[:3, 3]) @ pose[:3, :3]
    depth = local[:, 2]
    ahead = depth > 0
    scaled = local[:, :2] / np.where(ahead, depth, 1)[:, None]
    exact = scaled * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2]
    inside = ahead & (exact >= 0).all(axis=1) & (exact < cameras.sizes[view]).all(axis=1)
    return np.where(inside[:, None], np.floor(exact), 0).astype(np.int64), depth, inside


def _most_votes(
    gaussians: Int64[np.ndarray, " v"], objects: Int64[np.ndarray, " v"], count: int
) -> Int32[np.ndarray, " count"]:
    """The most frequent object of each Gaussian, ties to the older object; -1 without votes."""
    numbers = np.full(count, NO_ID, np.int32)
    ballots = group(gaussians << 32 | objects)
    owner, order = ballots.keys >> 32, np.arange(len(ballots))
    ranked = np.lexsort((order, -ballots.sizes, owner))
    first = ranked[np.unique(owner[ranked], return_index=True)[1]]
    numbers[owner[first]] = ballots.keys[first] & 0xFFFFFFFF
    return numbers


def _spread(
    numbers: Int32[np.ndarray, " n"], means: Float32[np.ndarray, "n 3"], reach: float | None
) -> Int32[np.ndarray, " n"]:
    """Gaussians without an object take that of the nearest that has one, within reach."""
    known, unknown = np.flatnonzero(numbers >= 0), np.flatnonzero(numbers < 0)
    spread = numbers.copy()
    if not len(known) or not len(unknown):
        return spread
    if reach is None:
        spacing = nearest(means[known], means[known], 2)[1][:, -1]
        reach = 3 * float(np.median(spacing))
    closest, far = nearest(means[unknown], means[known], 1)
    near = far[:, 0] <= reach
    spread[unknown[near]] = numbers[known[closest[near, 0]]]
    return spread
