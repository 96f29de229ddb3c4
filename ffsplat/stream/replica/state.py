"""The arrays of a copied map, and how a delta changes them: all of it or nothing."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Int16, Int64, UInt8

from ffsplat.stream.delta import CODES, FramePoses, MapDelta, SplatRows
from ffsplat.stream.protocol.errors import MALFORMED, ProtocolError
from ffsplat.types import NO_ID, Codebook

FIRST_STEP = 4096
"""Places that there is room for at first; room doubles up to the cap."""

MAX_SUBMAP = 2**16


@dataclass(frozen=True, eq=False)
class Behind:
    """What a scene that was made earlier has to catch up with.

    `snapshot` holds all but the Gaussians; `places` are all places in use, rising. `moved` are the
    Gaussians that are new or whose pose changed, `recoded` those whose code or its length did.
    """

    snapshot: MapDelta
    places: Int64[np.ndarray, " n"]
    moved: SplatRows
    recoded: SplatRows


_COLUMNS = tuple(one.name for one in fields(SplatRows) if one.name != "gids")


class ReplicaState:
    """Gaussians by place, submaps, codebook and keyframes; 47 bytes a place.

    A place is a row of each array in `columns`, `present` marks those in use; `moved` and `recoded`
    those that `take_behind` has not given yet. `frames` holds the keyframes with the
    `max_keyframes` largest numbers, rising.
    """

    def __init__(self, max_splats: int, max_keyframes: int):
        self.number = self.epoch = self.time_ns = 0
        self.codebook: Codebook | None = None
        self.poses: dict[int, np.ndarray] = {}
        self.present, self.moved, self.recoded = np.zeros((3, 0), bool)
        self.columns = {name: getattr(_no_splats(), name) for name in _COLUMNS}
        self.frames = _no_frames()
        self._max_splats = max_splats
        self._max_keyframes = max_keyframes

    def change(self, delta: MapDelta) -> None:
        """Apply a delta, whatever its number, in the order that `MapDelta` states.

        Raises ProtocolError (4400), with nothing changed, for a place beyond the cap, a Gaussian or
        frame in a submap that is not there, and an ID that the codebook or `row_map` lacks.
        """
        self._check(delta)
        if delta.row_map is not None:
            self._remap(delta.row_map)
        self._remove(delta)
        self._place(delta)
        self._put(delta.splats)
        if delta.codebook is not None:
            self._replace(delta.codebook, delta.row_map)
        self._follow(delta)
        self.number, self.epoch, self.time_ns = delta.number, delta.epoch, delta.time_ns

    def take_behind(self) -> Behind:
        """What changed since the last call, copied."""
        moved, recoded = self.present & self.moved, self.present & self.recoded
        self.moved[:], self.recoded[:] = False, False
        return Behind(
            self.snapshot(np.zeros(0, np.int64)),
            np.flatnonzero(self.present),
            self._rows(np.flatnonzero(moved)),
            self._rows(np.flatnonzero(recoded)),
        )

    def snapshot(self, places: Int64[np.ndarray, " n"] | None = None) -> MapDelta:
        """All that there is, in canonical order: places, submaps and frames rising.

        `places` chooses the Gaussians, all of them unless given.
        """
        if places is None:
            places = np.flatnonzero(self.present)
        submaps = sorted(self.poses)
        poses = np.array([self.poses[submap] for submap in submaps], np.float64).reshape(-1, 8)
        return MapDelta(
            number=self.number,
            epoch=self.epoch,
            time_ns=self.time_ns,
            splats=self._rows(places),
            removed=np.zeros(0, np.uint32),
            submaps=np.array(submaps, np.uint16),
            submap_poses=poses,
            removed_submaps=np.zeros(0, np.uint16),
            frames=self.frames,
            codebook=self.codebook,
        )

    def _rows(self, places: Int64[np.ndarray, " n"]) -> SplatRows:
        columns = {name: column[places] for name, column in self.columns.items()}
        return SplatRows(gids=places.astype(np.uint32), **columns)

    def _check(self, delta: MapDelta) -> None:
        """Refuse a delta that does not fit what is there."""
        splats = delta.splats
        if len(splats) and int(splats.gids.max()) >= self._max_splats:
            raise ProtocolError(MALFORMED, f"place {splats.gids.max()} is over {self._max_splats}")
        there = np.zeros(MAX_SUBMAP, bool)
        there[list(self.poses)] = True
        there[delta.removed_submaps] = False
        there[delta.submaps] = True
        if not (there[splats.submaps].all() and there[delta.frames.submaps].all()):
            raise ProtocolError(MALFORMED, "a Gaussian or a frame is in a submap that is not there")
        largest = NO_ID
        if delta.row_map is not None or delta.codebook is not None:
            largest = int(self.columns["ids"][self.present].max(initial=NO_ID))
        if delta.row_map is not None:
            if largest >= len(delta.row_map):
                raise ProtocolError(MALFORMED, f"row_map has no row {largest}")
            largest = int(delta.row_map.max(initial=NO_ID))
        codebook = self.codebook if delta.codebook is None else delta.codebook
        largest = max(largest, int(splats.ids.max(initial=NO_ID)))
        if codebook is not None and largest >= len(codebook):
            raise ProtocolError(MALFORMED, f"the codebook has no row {largest}")

    def _remap(self, row_map: Int16[np.ndarray, " old"]) -> None:
        ids, weights = self.columns["ids"], self.columns["weights"]
        changes = np.append(row_map != np.arange(len(row_map)), False)
        places = self._where(changes)
        ids[places], weights[places] = remapped(ids[places], weights[places], row_map)
        self.recoded[places] = True

    def _replace(self, codebook: Codebook, row_map: Int16[np.ndarray, " old"] | None) -> None:
        """Take a new table; codes with a row that is another vector now have another length."""
        changes = np.ones(len(codebook) + 1, bool)
        changes[-1] = False
        if self.codebook is not None:
            changes[:-1] = _changed_rows(self.codebook, codebook, row_map)
        self.recoded[self._where(changes)] = True
        self.codebook = codebook

    def _where(self, rows: Bool[np.ndarray, " rows_and_none"]) -> Int64[np.ndarray, " n"]:
        """Places in use whose code has one of the marked rows; the last mark is for no row."""
        places = np.flatnonzero(self.present)
        return places[rows[self.columns["ids"][places]].any(axis=1)]

    def _remove(self, delta: MapDelta) -> None:
        removed = delta.removed[delta.removed < len(self.present)]
        self.present[removed] = False
        if len(delta.removed_submaps):
            self.present &= ~_among(self.columns["submaps"], delta.removed_submaps)
        for submap in delta.removed_submaps.tolist():
            self.poses.pop(submap, None)

    def _place(self, delta: MapDelta) -> None:
        poses = delta.submap_poses.copy()
        self.poses |= dict(zip(delta.submaps.tolist(), poses, strict=True))
        if len(delta.submaps):
            self.moved |= _among(self.columns["submaps"], delta.submaps)

    def _put(self, splats: SplatRows) -> None:
        if not len(splats):
            return
        self._grow(int(splats.gids.max()) + 1)
        for marks in (self.present, self.moved, self.recoded):
            marks[splats.gids] = True
        for name, column in self.columns.items():
            column[splats.gids] = getattr(splats, name)

    def _grow(self, needed: int) -> None:
        """Make room for places up to `needed`."""
        if needed <= len(self.present):
            return
        room = min(max(needed, 2 * len(self.present), FIRST_STEP), self._max_splats)
        self.columns = {name: lengthened(one, room) for name, one in self.columns.items()}
        self.present = lengthened(self.present, room)
        self.moved, self.recoded = (lengthened(m, room) for m in (self.moved, self.recoded))

    def _follow(self, delta: MapDelta) -> None:
        """Forget frames of removed submaps; each new one replaces that of its number."""
        stay = ~_among(self.frames.submaps, delta.removed_submaps)
        joined = {
            one.name: np.concatenate(
                [getattr(self.frames, one.name)[stay], getattr(delta.frames, one.name)]
            )
            for one in fields(FramePoses)
        }
        backwards = np.unique(joined["numbers"][::-1], return_index=True)[1]
        last = len(joined["numbers"]) - 1 - backwards  # the last row of each number, rising
        kept = last[joined["keyframes"][last] == 1][-self._max_keyframes :]
        self.frames = FramePoses(**{name: column[kept] for name, column in joined.items()})


def remapped(
    ids: Int16[np.ndarray, "n 4"],
    weights: UInt8[np.ndarray, "n 4"],
    row_map: Int16[np.ndarray, " old"],
) -> tuple[Int16[np.ndarray, "n 4"], UInt8[np.ndarray, "n 4"]]:
    """Codes after their rows were replaced, in whole numbers so that all copies are the same.

    Weights of pairs that become equal are added, up to 255; a pair without a row becomes (-1, 0).
    Pairs then stand by falling weight, of equal weights the lower ID first, unused ones last.
    A copy does this only to codes of which an ID changes.
    """
    ids = np.append(row_map, np.int16(NO_ID))[ids]
    sums = np.where(ids == NO_ID, 0, weights).astype(np.int32)
    for later in range(1, CODES):
        for first in range(later):
            same = (ids[:, first] == ids[:, later]) & (ids[:, later] != NO_ID)
            sums[same, first] += sums[same, later]
            sums[same, later], ids[same, later] = 0, NO_ID
    sums = np.minimum(sums, 255)
    keys = np.where(ids == NO_ID, 2**30, -(sums << 16) + ids)
    order = np.argsort(keys, axis=1, kind="stable")
    return np.take_along_axis(ids, order, 1), np.take_along_axis(sums, order, 1).astype(np.uint8)


def _changed_rows(
    before: Codebook, after: Codebook, row_map: Int16[np.ndarray, " old"] | None
) -> Bool[np.ndarray, " new"]:
    """Which rows of a table are, in its first space, other vectors than the rows they were."""
    (name, old), (same_name, new) = (next(iter(one.spaces.items())) for one in (before, after))
    if name != same_name or old.shape[1] != new.shape[1]:
        return np.ones(len(new), bool)
    numbers = np.arange(len(old)) if row_map is None else row_map[: len(old)]
    kept = np.flatnonzero((numbers >= 0) & (numbers < len(new))[: len(numbers)])
    changed = np.zeros(len(new), bool)
    changed[numbers[kept][(old[kept] != new[numbers[kept]]).any(axis=1)]] = True
    return changed


def _among(submaps: np.ndarray, chosen: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Which submaps are chosen."""
    marks = np.zeros(MAX_SUBMAP, bool)
    marks[chosen] = True
    return marks[submaps]


def lengthened(array: np.ndarray, length: int) -> np.ndarray:
    """The array with rows of zeros after its own."""
    longer = np.zeros((length, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


def _no_splats() -> SplatRows:
    return SplatRows(
        gids=np.zeros(0, np.uint32),
        submaps=np.zeros(0, np.uint16),
        means=np.zeros((0, 3), np.float32),
        scales=np.zeros((0, 3), np.float16),
        quaternions_wxyz=np.zeros((0, 4), np.int8),
        opacities=np.zeros(0, np.uint8),
        colors=np.zeros((0, 3), np.uint8),
        ids=np.zeros((0, CODES), np.int16),
        weights=np.zeros((0, CODES), np.uint8),
        instances=np.zeros(0, np.int32),
    )


def _no_frames() -> FramePoses:
    numbers: Int64[np.ndarray, " c"] = np.zeros(0, np.int64)
    return FramePoses(
        numbers=numbers,
        times_ns=numbers,
        submaps=np.zeros(0, np.uint16),
        poses=np.zeros((0, 7)),
        intrinsics=np.zeros((0, 6), np.float32),
        keyframes=np.zeros(0, np.uint8),
    )
