"""Scenes of passes, all in one world, become one scene; it stays within a bound."""

import logging
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8

from ffsplat import codes
from ffsplat.codebook import code_gram
from ffsplat.codebook import join as join_codebooks
from ffsplat.merge import INSTANCE_CELL, merge_voxels, strongest
from ffsplat.types import LEVELS, NO_ID, Cameras, Gaussians, Scene, SparseCode
from ffsplat.voxels import BITS, cell_keys, group

_log = logging.getLogger(__name__)

MOST_GAUSSIANS = 4_000_000
"""Gaussians of a scene of several passes, unless told otherwise; then cells are merged."""

ROOM = 0.7
"""Share of MOST_GAUSSIANS that merging leaves, so that it is not needed again at once."""

GROWTH = 1.25
"""Factor by which cells grow until that is reached."""

SAMPLE = 200_000
"""Gaussians of a scene that its objects are compared by, evenly spaced in their order."""

SAME_OBJECT = 0.1
"""Two objects are one if they share this part of the cells of the smaller one."""


@dataclass(frozen=True, eq=False)
class Bound:
    """What keeps a scene small: `voxel` and `max_gaussians` as the user gave them, or None.

    `automatic` is the side of the cells that are merged because the scene would be too large; 0
    as long as it is not.
    """

    voxel: float | None = None
    max_gaussians: int | None = None
    most: int = MOST_GAUSSIANS
    automatic: float = 0.0

    @property
    def cell(self) -> float | None:
        """Side of the cells that are merged now, None if none are."""
        return self.voxel or self.automatic or None


def join_scenes(a: Scene, b: Scene, cell: float) -> Scene:
    """One scene of two in one world, the Gaussians, cameras and codebook rows of `a` first.

    Objects of `b` that lie where objects of `a` do get their numbers (`link_instances`); `cell` is
    the side of the cells that decide that, in the unit of the world.
    """
    a, b = _with_one_codebook(a, b)
    instances = None
    if a.instances is not None and b.instances is not None:
        instances = np.concatenate([a.instances, link_instances(a, b, cell)])
    return replace(
        a,
        gaussians=_join_gaussians(a.gaussians, b.gaussians),
        codes=_join_codes(a.codes, b.codes),
        instances=instances,
        cameras=_join_cameras(a.cameras, b.cameras),
    )


def link_instances(a: Scene, b: Scene, cell: float) -> Int32[np.ndarray, " n"]:
    """Object numbers for the Gaussians of `b`: those of `a` where an object goes on, else new ones.

    An object of `b` is the object of `a` with which it shares most nodes - cells that hold
    Gaussians of both with one row of the codebook - if these are SAME_OBJECT of the nodes of the
    smaller one, both as far as the other scene reaches.
    """
    assert a.instances is not None
    assert b.instances is not None
    fresh = np.where(b.instances == NO_ID, NO_ID, b.instances + a.instances.max(initial=NO_ID) + 1)
    near_a, near_b = _within_reach(a, b, cell), _within_reach(b, a, cell)
    if not len(near_a) or not len(near_b):
        return fresh.astype(np.int32)
    nodes = _nodes(a[near_a], b[near_b], cell)
    pairs_a = _pairs(nodes[: len(near_a)], a.instances[near_a])
    pairs_b = _pairs(nodes[len(near_a) :], b.instances[near_b])
    for new, old in _matches(pairs_a, pairs_b):
        fresh[b.instances == new] = old
    return fresh.astype(np.int32)


def keep_within(
    scene: Scene, bound: Bound, footprint: float, last: bool = False
) -> tuple[Scene, Bound]:
    """The scene, thinned to what the bound allows, and the bound with the cells that took.

    Beyond `bound.most` Gaussians, cells of `bound.voxel` are merged; without one, cells start at
    `footprint`, the side of a pixel in the world, and grow. The `last` call merges cells of
    `bound.voxel` in any case. Gaussians of several passes are weighed by opacity alone. Then the
    `max_gaussians` most opaque ones stay.
    """
    many = len(scene) > bound.most
    if bound.voxel is not None:
        scene = _merged(scene, bound.voxel) if many or last else scene
    elif many and bound.max_gaussians is None:
        cell = bound.automatic or footprint
        merged = _merged(scene, cell)
        while len(merged) > ROOM * bound.most:
            cell *= GROWTH
            merged = _merged(merged, cell)
        _log.info("%d Gaussians merged to %d in cells of %.3g", len(scene), len(merged), cell)
        scene, bound = merged, replace(bound, automatic=cell)
    if bound.max_gaussians is not None and len(scene) > bound.max_gaussians:
        scene = scene[strongest(scene.gaussians.presence, bound.max_gaussians)]
    return scene, bound


def number_by_size(scene: Scene) -> Scene:
    """The scene with its objects numbered anew: 0 has the most Gaussians."""
    if scene.instances is None:
        return scene
    known = scene.instances != NO_ID
    objects = group(scene.instances[known].astype(np.int64))
    numbers = np.empty(len(objects), np.int32)
    numbers[np.argsort(-objects.sizes, kind="stable")] = np.arange(len(objects))
    instances = np.full(len(scene), NO_ID, np.int32)
    instances[known] = numbers[objects.index]
    return replace(scene, instances=instances)


def median_cell(depth: Float32[np.ndarray, " n"]) -> float:
    """Side of the cells in which objects of several passes are compared.

    Twice those in which they were connected: passes lie a little apart.
    """
    return 2 * INSTANCE_CELL * float(np.median(depth))


def _merged(scene: Scene, cell: float) -> Scene:
    return merge_voxels(scene, np.ones(len(scene), np.float32), cell)[0]


def _join_gaussians(a: Gaussians, b: Gaussians) -> Gaussians:
    both = {
        name: np.concatenate([getattr(a, name), getattr(b, name)])
        for name, value in vars(a).items()
        if value is not None and name != "sh"
    }
    count = max(a.sh.shape[1], b.sh.shape[1])
    sh = [np.pad(one.sh, ((0, 0), (0, count - one.sh.shape[1]), (0, 0))) for one in (a, b)]
    return Gaussians(sh=np.concatenate(sh), **both)


def _with_one_codebook(a: Scene, b: Scene) -> tuple[Scene, Scene]:
    """The scenes with codes that point into one table."""
    if a.codebook is None or b.codebook is None or b.codebook is a.codebook:
        return a, b
    codebook, _, rows = join_codebooks(a.codebook, b.codebook)
    code = None if b.codes is None else codes.remap(b.codes, rows, code_gram(codebook))
    return replace(a, codebook=codebook), replace(b, codebook=codebook, codes=code)


def _join_codes(a: SparseCode | None, b: SparseCode | None) -> SparseCode | None:
    if a is None or b is None:
        return None
    pairs = zip(vars(a).values(), vars(b).values(), strict=True)
    return SparseCode(*(np.concatenate(both) for both in pairs))


def _join_cameras(a: Cameras | None, b: Cameras | None) -> Cameras | None:
    if a is None or b is None:
        return a or b
    return Cameras(
        np.concatenate([a.world_from_camera, b.world_from_camera]),
        np.concatenate([a.intrinsics, b.intrinsics]),
        np.concatenate([a.sizes, b.sizes]),
        a.names + b.names,
        join_thumbnails(a, b),
    )


def join_thumbnails(a: Cameras, b: Cameras) -> UInt8[np.ndarray, "v 16 16"] | None:
    """The thumbnails of both, black for those that one lacks; None where neither has any."""
    if a.thumbnails is None and b.thumbnails is None:
        return None
    parts = (
        np.zeros((len(one), 16, 16), np.uint8) if one.thumbnails is None else one.thumbnails
        for one in (a, b)
    )
    return np.concatenate(list(parts))


def _within_reach(scene: Scene, other: Scene, cell: float) -> Int64[np.ndarray, " m"]:
    """Rows of up to SAMPLE Gaussians of known objects in the box around the other scene."""
    assert scene.instances is not None
    if not len(other):
        return np.zeros(0, np.int64)
    rows = np.arange(0, len(scene), _step(scene))
    rows = rows[scene.instances[rows] != NO_ID]
    there = other.gaussians.means[:: _step(other)]
    low, high = there.min(0) - cell, there.max(0) + cell
    means = scene.gaussians.means[rows]
    return rows[((means >= low) & (means <= high)).all(1)]


def _step(scene: Scene) -> int:
    return max(1, len(scene) // SAMPLE)


def _nodes(a: Scene, b: Scene, cell: float) -> Int64[np.ndarray, " k"]:
    """One number for each codebook row in each cell, for Gaussians of `a`, then of `b`."""
    means = np.concatenate([a.gaussians.means, b.gaussians.means])
    return np.append(_meant(a), _meant(b)) << 3 * BITS | cell_keys(means, cell)


def _meant(scene: Scene) -> Int64[np.ndarray, " n"]:
    """What each Gaussian is as a whole: the first ID of that level, or of any, or 0."""
    if scene.codes is None or scene.codebook is None:
        return np.zeros(len(scene), np.int64)
    ids = scene.codes.ids.astype(np.int64)
    whole = (scene.codebook.levels == LEVELS.index("whole"))[ids] & (ids != NO_ID)
    best = np.take_along_axis(ids, whole.argmax(1)[:, None], 1)[:, 0]
    return np.where(whole.any(1), best, np.maximum(ids[:, 0], 0))


def _pairs(
    nodes: Int64[np.ndarray, " n"], instances: Int32[np.ndarray, " n"]
) -> dict[int, set[int]]:
    """The nodes of each object."""
    pairs = np.unique(np.stack([instances.astype(np.int64), nodes], 1), axis=0)
    objects = group(pairs[:, 0])
    parts = np.split(pairs[objects.order, 1], objects.starts[1:])
    return {int(key): set(part.tolist()) for key, part in zip(objects.keys, parts, strict=True)}


def _matches(a: dict[int, set[int]], b: dict[int, set[int]]) -> list[tuple[int, int]]:
    """For objects of `b`, the object of `a` that it goes on."""
    found = []
    for new, nodes in b.items():
        old = max(a, key=lambda number: len(nodes & a[number]))
        if len(nodes & a[old]) >= max(1, SAME_OBJECT * min(len(nodes), len(a[old]))):
            found.append((new, old))
    return found
