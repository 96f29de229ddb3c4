"""What deltas do to a map, one Gaussian at a time: the text of PROTOCOL.md in the fewest words."""

from dataclasses import fields

import numpy as np

from ffsplat.stream.delta import FramePoses, MapDelta, SplatRows


class PlainMap:
    """A slow oracle for `Replica`: dictionaries of plain numbers, keyframes without a cap."""

    def __init__(self):
        self.splats: dict[int, dict] = {}
        self.poses: dict[int, list[float]] = {}
        self.frames: dict[int, dict] = {}

    def apply(self, delta: MapDelta) -> None:
        if delta.row_map is not None:
            for row in self.splats.values():
                row["ids"], row["weights"] = recoded(row["ids"], row["weights"], delta.row_map)
        for gid in delta.removed.tolist():
            self.splats.pop(gid, None)
        for submap in delta.removed_submaps.tolist():
            self._remove(submap)
        self.poses |= dict(zip(delta.submaps.tolist(), delta.submap_poses.tolist(), strict=True))
        for row in listed(delta.splats):
            self.splats[row["gids"]] = row
        for row in listed(delta.frames):
            self.frames.pop(row["numbers"], None)
            if row["keyframes"]:
                self.frames[row["numbers"]] = row

    def _remove(self, submap: int) -> None:
        self.poses.pop(submap, None)
        self.splats = {k: row for k, row in self.splats.items() if row["submaps"] != submap}
        self.frames = {k: row for k, row in self.frames.items() if row["submaps"] != submap}

    def same_as(self, snapshot: MapDelta) -> bool:
        poses = dict(zip(snapshot.submaps.tolist(), snapshot.submap_poses.tolist(), strict=True))
        return (
            listed(snapshot.splats) == [self.splats[gid] for gid in sorted(self.splats)]
            and listed(snapshot.frames) == [self.frames[n] for n in sorted(self.frames)]
            and poses == self.poses
        )


def listed(rows: SplatRows | FramePoses) -> list[dict]:
    columns = {one.name: getattr(rows, one.name).tolist() for one in fields(rows)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def recoded(ids: list[int], weights: list[int], row_map: np.ndarray) -> tuple[list[int], list[int]]:
    moved = [int(row_map[i]) if i >= 0 else -1 for i in ids]
    if moved == ids:
        return ids, weights
    sums: dict[int, int] = {}
    for new, weight in zip(moved, weights, strict=True):
        if new >= 0:
            sums[new] = sums.get(new, 0) + weight
    pairs = sorted((-min(255, total), new) for new, total in sums.items())
    unused = 4 - len(pairs)
    return [new for _, new in pairs] + [-1] * unused, [-w for w, _ in pairs] + [0] * unused
