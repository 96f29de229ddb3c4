"""What leaves a map: all of it as a scene, or what changed since the last time."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int16, UInt8

from ffsplat.codebook import code_gram
from ffsplat.images import thumbnail
from ffsplat.stream.delta import MapDelta
from ffsplat.stream.keyframes import Keyframe
from ffsplat.stream.window import world_poses
from ffsplat.types import Cameras, Codebook, Scene

if TYPE_CHECKING:
    from ffsplat.stream.atlas import Atlas


class Outlet:
    """Numbers the deltas of one map, and remembers what they have not told yet."""

    def __init__(self, number: int = 0):
        self.number = number
        self._row_map: Int16[np.ndarray, " old"] | None = None
        self._codebook: Codebook | None = None
        self._epoch = 0

    def renumber(self, row_map: Int16[np.ndarray, " old"]) -> None:
        """Codebook rows have new IDs: the next delta says so."""
        if self._row_map is not None:
            known = self._row_map
            row_map = np.where(known < 0, np.int16(-1), row_map[known])
        self._row_map = row_map

    def take(self, atlas: "Atlas", codebook: Codebook | None) -> MapDelta | None:
        """What changed since the last call, None if nothing did."""
        changes = atlas.splats.take_changes()
        frames = atlas.trajectory.take()
        epoch = atlas.submaps.epoch
        fresh = codebook if codebook is not self._codebook else None
        quiet = fresh is None and self._row_map is None and epoch == self._epoch
        if quiet and not len(frames) and not changes:
            return None
        self.number += 1
        delta = MapDelta(
            number=self.number,
            epoch=epoch,
            time_ns=int(atlas.trajectory.last().times_ns.max(initial=0)),
            splats=changes.splats,
            removed=changes.removed,
            submaps=changes.submaps,
            submap_poses=changes.submap_poses,
            removed_submaps=changes.removed_submaps,
            frames=frames,
            row_map=self._row_map,
            codebook=fresh,
        )
        self._row_map, self._codebook, self._epoch = None, codebook, epoch
        return delta


def sizes_of(atlas: "Atlas | None", loops: int) -> dict[str, int]:
    """How large a map is, for those who watch it."""
    if atlas is None:
        return {"splats": 0, "submaps": 0, "keyframes": 0, "loops": 0}
    return {
        "splats": atlas.count(),
        "submaps": len(atlas.submaps.poses),
        "keyframes": len(atlas.keyframes),
        "loops": loops,
    }


def scene_of(
    atlas: "Atlas", codebook: Codebook | None, metric: bool, provenance: dict[str, str]
) -> Scene:
    """The map in the world, with the cameras of its keyframes in pixels of their pictures."""
    matrix = None if codebook is None else code_gram(codebook)
    bare = atlas.splats.gaussians(matrix)
    return replace(
        bare,
        codes=bare.codes if codebook is not None else None,
        instances=bare.instances if codebook is not None else None,
        codebook=codebook,
        cameras=_cameras(sorted(atlas.keyframes, key=lambda one: one.number), atlas),
        metric=metric,
        provenance=provenance,
    )


def _cameras(keyframes: list[Keyframe], atlas: "Atlas") -> Cameras:
    own = [one.source.original_from_view @ one.intrinsics for one in keyframes]
    return Cameras(
        world_poses(keyframes, atlas.submaps.poses).astype(np.float32),
        np.stack(own).astype(np.float32),
        np.array([(one.source.width, one.source.height) for one in keyframes], np.int32),
        tuple(one.source.name for one in keyframes),
        np.stack([thumbnail(_photo(one)) for one in keyframes]),
    )


def _photo(keyframe: Keyframe) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels without the part of the canvas beside them."""
    down, across = (int(photo.sum()) for photo in (keyframe.inside.any(1), keyframe.inside.any(0)))
    return keyframe.pixels[:down, :across]
