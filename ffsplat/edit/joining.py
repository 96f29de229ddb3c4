"""Several scenes of one place become one: placed, with one codebook and objects that go on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32

from ffsplat.alignment import Similarity
from ffsplat.chunks.join import join_thumbnails, link_instances, median_cell
from ffsplat.edit.codebooks import join_codebooks, with_rows
from ffsplat.edit.placing import Placed, place_by_views, shared_views
from ffsplat.errors import UsageError
from ffsplat.fusion import merge_voxels
from ffsplat.io.ply import with_norms
from ffsplat.types import NO_ID, Cameras, Codebook, Gaussians, Scene, SparseCode


@dataclass(frozen=True, eq=False)
class Merged:
    """The scene, in the world of the first of them, and how it came about.

    `placed` says for each further scene, in the order given, how its photos fit; None for one that
    came with its transform. `completed` and `dropped` are text spaces that some scene lacked, and
    that the names of its rows could make or not.
    """

    scene: Scene
    placed: tuple[Placed | None, ...]
    completed: tuple[str, ...]
    dropped: tuple[str, ...]


def merge(
    scenes: Sequence[Scene],
    transforms: Sequence[Similarity] | None = None,
    voxel: float | None = None,
) -> Merged:
    """Join scenes in the world of the first.

    `transforms` map the worlds of the others to that world; without them each is placed by the
    photos that it shares with what is joined so far, most shared first (`place_by_views`, which
    says what is raised). Codebooks become one (`join_codebooks`), objects that lie in one place
    and mean the same become one, and others get new numbers (`link_instances`). With `voxel`, the
    Gaussians in each cell of that side, in units of the first world, become one (`merge_voxels`).
    Raises UsageError for fewer than two scenes, not one transform for each but the first, and a
    side that is not a positive number.
    """
    if voxel is not None and not 0 < voxel < np.inf:
        raise UsageError(f"there are no cells of side {voxel}")
    if len(scenes) < 2:
        raise UsageError("there is nothing to merge", "give two scenes or more")
    if transforms is not None and len(transforms) != len(scenes) - 1:
        raise UsageError(
            f"{len(transforms)} transforms for {len(scenes)} scenes",
            "give one for each scene but the first, which stays where it is",
        )
    merged = Merged(scenes[0], (None,) * (len(scenes) - 1), (), ())
    waiting = list(range(1, len(scenes)))
    while waiting:
        best = waiting[0]
        if transforms is None:
            cameras = merged.scene.cameras
            shared = {row: len(shared_views(scenes[row].cameras, cameras)) for row in waiting}
            best = max(waiting, key=lambda row: shared[row])
        waiting.remove(best)
        merged = _with_scene(merged, scenes[best], best, transforms)
    joined = merged.scene
    if voxel is not None:
        joined, _ = merge_voxels(joined, np.ones(len(joined), np.float32), voxel)
    return replace(merged, scene=replace(joined, provenance=_provenance(scenes)))


def _with_scene(
    merged: Merged, scene: Scene, index: int, transforms: Sequence[Similarity] | None
) -> Merged:
    """One scene more, placed by its transform or by its photos."""
    placed = list(merged.placed)
    if transforms is None:
        found = place_by_views(scene, merged.scene)
        placed[index - 1], similarity = found, found.similarity
    else:
        similarity = transforms[index - 1]
    joined, completed, dropped = join_two(merged.scene, similarity.scene(scene))
    return Merged(
        joined,
        tuple(placed),
        tuple(sorted({*merged.completed, *completed} - {*dropped})),
        tuple(sorted({*merged.dropped, *dropped})),
    )


def join_two(a: Scene, b: Scene) -> tuple[Scene, tuple[str, ...], tuple[str, ...]]:
    """Two scenes in one world as one, the Gaussians and cameras of `a` first.

    Also returns the text spaces that were completed and dropped. What one of them does not say is
    unknown of its Gaussians: no evidence, no object. A camera of a photo that `a` has already goes.
    """
    codebook, codes_a, codes_b = a.codebook or b.codebook, a.codes, b.codes
    completed, dropped = (), ()
    if a.codebook is not None and b.codebook is not None and a.codebook is not b.codebook:
        joined = join_codebooks(a.codebook, b.codebook)
        codebook, completed, dropped = joined.codebook, joined.completed, joined.dropped
        codes_b = None if codes_b is None else with_rows(codes_b, joined.rows_b)
    scene = Scene(
        gaussians=join_gaussians(a.gaussians, b.gaussians),
        codes=_join_codes(codes_a, codes_b, len(a), len(b), codebook),
        codebook=codebook,
        cameras=_join_cameras(a.cameras, b.cameras),
        metric=a.metric,
        provenance=a.provenance,
    )
    if a.instances is None and b.instances is None:
        return scene, completed, dropped
    instances = _join_instances(a, b, scene)
    return replace(scene, instances=instances), completed, dropped


def join_gaussians(a: Gaussians, b: Gaussians) -> Gaussians:
    """The Gaussians of `a`, then those of `b`, with as many harmonics as the richer of both."""
    count = max(a.sh.shape[1], b.sh.shape[1])
    values = {
        name: np.concatenate([getattr(a, name), getattr(b, name)])
        for name in ("means", "scales", "quaternions_wxyz", "opacities")
    }
    sh = [np.pad(one.sh, ((0, 0), (0, count - one.sh.shape[1]), (0, 0))) for one in (a, b)]
    meaning = None
    if a.meaning_opacities is not None or b.meaning_opacities is not None:
        meaning = np.concatenate([a.opacities_of_meaning, b.opacities_of_meaning])
    return Gaussians(sh=np.concatenate(sh), meaning_opacities=meaning, **values)


def _join_codes(
    a: SparseCode | None, b: SparseCode | None, size_a: int, size_b: int, codebook: Codebook | None
) -> SparseCode | None:
    if a is None and b is None:
        return None
    width = max(one.ids.shape[1] for one in (a, b) if one is not None)
    ids = np.full((size_a + size_b, width), NO_ID, np.int16)
    weights = np.zeros(ids.shape, np.float16)
    for code, start in ((a, 0), (b, size_a)):
        if code is not None:
            part = slice(start, start + len(code)), slice(code.ids.shape[1])
            ids[part], weights[part] = code.ids, code.weights
    return with_norms(ids, weights, codebook)


def _join_instances(a: Scene, b: Scene, joined: Scene) -> Int32[np.ndarray, " n"]:
    """The numbers of `a`, and for `b` those of `a` where an object goes on, else new ones."""
    parts = []
    for scene, rows in ((a, slice(0, len(a))), (b, slice(len(a), len(joined)))):
        none = np.full(len(scene), NO_ID, np.int32)
        numbers = none if scene.instances is None else scene.instances
        parts.append(replace(joined[rows], instances=numbers))
    first, second = parts
    cell = _object_cell(joined)
    return np.concatenate([first.instances, link_instances(first, second, cell)])


def _object_cell(scene: Scene) -> float:
    """Side of the cells in which objects are compared: by the depth at which cameras see them."""
    means = scene.gaussians.means
    if scene.cameras is not None and len(scene.cameras):
        places = scene.cameras.world_from_camera[:, :3, 3]
        place = np.median(places, axis=0)
    else:
        place = np.median(means, axis=0)
    return max(median_cell(np.linalg.norm(means - place, axis=1).astype(np.float32)), 1e-9)


def _join_cameras(a: Cameras | None, b: Cameras | None) -> Cameras | None:
    if a is None or b is None:
        return a or b
    again = set(shared_views(a, b)[:, 1].tolist())
    new = b[[row for row in range(len(b)) if row not in again]]
    values = {
        name: np.concatenate([getattr(a, name), getattr(new, name)])
        for name in ("world_from_camera", "intrinsics", "sizes")
    }
    return Cameras(names=a.names + new.names, thumbnails=join_thumbnails(a, new), **values)


def _provenance(scenes: Sequence[Scene]) -> dict[str, str]:
    """Whatever any of the scenes says of its making, in the order given, and that it was merged."""
    said = {}
    for key in dict.fromkeys(key for scene in scenes for key in scene.provenance):
        values = dict.fromkeys(s.provenance[key] for s in scenes if key in s.provenance)
        said[key] = " + ".join(values)
    return said | {"merged": f"{len(scenes)} scenes"}
