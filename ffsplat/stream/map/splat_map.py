"""The map of a stream: a fixed number of places for Gaussians, in submaps that can move."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int16, Int32, Int64

from ffsplat import codes
from ffsplat.alignment import Similarity
from ffsplat.stream.delta import SplatRows
from ffsplat.stream.map.carve import AMOUNT, carve_places
from ffsplat.stream.map.changes import Changes, rows_of, take_changes
from ffsplat.stream.map.evict import BATCH, find_inside, free_places, least
from ffsplat.stream.map.fuse import find_places, find_valid, join_meanings, join_shapes, take_places
from ffsplat.stream.map.instances import match_instances
from ffsplat.stream.map.observed import Batch, Observed
from ffsplat.stream.map.pairs import remap_pairs
from ffsplat.stream.map.places import empty_places
from ffsplat.stream.map.state import pack, read_numbers, unpack
from ffsplat.stream.map.submaps import SubmapPoses
from ffsplat.stream.map.table import empty_table
from ffsplat.stream.map.world import to_world
from ffsplat.stream.settings import MapperSettings
from ffsplat.types import SH_C0, Gaussians, Scene


class SplatMap:
    """At most `settings.max_splats` Gaussians, each found by the cell of its submap it lies in.

    Memory is all taken at the start, about 155 bytes a place. Gaussians live in the frames of
    submaps: a correction moves these alone. `cell` is the side of a cell in the unit of the world
    of submaps of scale 1. Not safe for several threads. Whatever it does is the same for the same
    calls.
    """

    def __init__(self, settings: MapperSettings, cell: float):
        if not (np.isfinite(cell) and cell > 0):
            raise ValueError(f"a cell has a positive size, not {cell}")
        self.settings = settings
        self.cell = float(cell)
        self.clock = 0
        """Calls of `fuse` so far: what `valid_targets` wants to know of a place."""
        self.instance_count = 0
        """Objects that the map has numbered so far; no number is ever given again."""
        self._places = empty_places(settings.max_splats)
        self._table = empty_table(settings.max_splats)
        self._submaps = SubmapPoses(settings.max_submaps)

    def __len__(self) -> int:
        return len(self._places.keys) - int(self._places.free[0])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, from the start to the end."""
        arrays = [*self._places, *self._table, *vars(self._submaps).values()]
        owners = [array if array.base is None else array.base for array in arrays]
        return sum({id(owner): owner.nbytes for owner in owners}.values())

    def add_submap(self, pose: Similarity) -> int:
        """The number of a new submap at `pose`, world_from_submap; the lowest that is free.

        Raises ValueError when there are `settings.max_submaps`.
        """
        return self._submaps.add(pose)

    def move_submaps(self, numbers: Sequence[int], poses: Sequence[Similarity]) -> None:
        """Put submaps elsewhere, with all that is in them."""
        self._submaps.move(numbers, poses)

    def submap_pose(self, number: int) -> Similarity:
        """world_from_submap."""
        return self._submaps.pose(number)

    def submaps(self) -> list[int]:
        """The numbers of the submaps, rising."""
        return self._submaps.numbers()

    def remove_submap(self, number: int) -> None:
        """Forget a submap and all Gaussians in it; its number may be given again."""
        self._submaps.remove(number)
        self._free_all_of(number)

    def empty_submap(self, number: int) -> None:
        """Forget all Gaussians in a submap, which stays where it is."""
        self._submaps.check(number)
        self._free_all_of(number)

    def _free_all_of(self, number: int) -> None:
        inside = np.empty(len(self._places.keys), np.int64)
        count = find_inside(self._places.keys, number, inside)
        free_places(self._table, self._places, inside[:count])

    def fuse(
        self, observed: Observed, submap: int, near: Sequence[int], now: int
    ) -> Int32[np.ndarray, " n"]:
        """Take in what one frame shows, and say in which place each observation now is.

        An observation joins its target if that is alive, else the place of its cell in one of the
        submaps `near`, in their order, else in `submap`; else it takes a place there. -1 is for
        what is not usable, lies beyond the cells of the submap (`table.cell_key`), or finds all
        places taken by others of this call. `now` counts what a Gaussian ages by, frames or
        keyframes; calls of one `now` are one moment.
        """
        searched = [number for number in dict.fromkeys(near) if number != submap] + [submap]
        self._submaps.check(*searched)
        batch = Batch.of(observed)
        into_local, places = self._submaps.into_local, self._places
        self.clock += 1
        found = np.empty(len(observed), np.int32)
        own = np.empty(len(observed), np.int64)
        order = np.array(searched, np.int64)
        find_places(
            self._table, places.keys, batch.target, batch.means, batch.usable(),
            into_local, order, self.cell, found, own,
        )  # fmt: skip
        self._take_places(found, own, now)
        placed = found >= 0
        met = placed & (places.born[found] < self.clock)
        numbers, self.instance_count = match_instances(
            np.where(placed, batch.instances, np.int32(-1)),
            places.instances[found],
            met,
            self.instance_count,
        )
        poses, cell = self._submaps.poses, self.cell
        join_shapes(self._table, places, batch, found, into_local, poses, now, cell)
        join_meanings(places, batch, found, numbers)
        return found

    def valid_targets(self, places: Int[np.ndarray, " *n"], clock: int) -> Bool[np.ndarray, " *n"]:
        """Which places still hold what they held when `clock` was that of the map.

        -1 is none; a place that was freed and given again is not what it was.
        """
        valid = np.empty(places.size, bool)
        flat = np.ascontiguousarray(places).ravel()
        find_valid(self._places.keys, self._places.born, flat, clock, valid)
        return valid.reshape(places.shape)

    def carve(
        self,
        depth: Float32[np.ndarray, "h w"],
        world_from_camera: Float[np.ndarray, "4 4"],
        intrinsics: Float[np.ndarray, "3 3"],
        error: Float32[np.ndarray, "h w"],
        valid: Bool[np.ndarray, "h w"],
        near: Sequence[int],
        amount: float = AMOUNT,
    ) -> int:
        """Let a depth map speak against the Gaussians of some submaps that stand before it.

        A Gaussian is in free space if its log depth is less than that of the surface in its pixel,
        and in those around it, by more than FREE_SPACE and the expected errors of both. It loses
        `amount` times the confidence of that pixel, exp(-error / ERROR_SCALE), and goes when it has
        none left: how many did is returned. `depth` is z-depth in the unit of the world, `error`
        the expected error of its logarithm, `intrinsics` is in pixels of this map.
        """
        self._submaps.check(*near)
        among = np.zeros(len(self._submaps.used), bool)
        among[list(near)] = True
        camera_from_world = np.linalg.inv(world_from_camera.astype(np.float64))
        into_camera = camera_from_world[:3, :3] @ self._submaps.into_world
        into_camera[:, :, 3] += camera_from_world[:3, 3]
        usable = valid & np.isfinite(depth) & (depth > 0) & np.isfinite(error)
        gone = np.empty(len(self._places.keys), np.int64)
        count = carve_places(
            self._places, among, into_camera, intrinsics.astype(np.float64),
            np.require(depth, requirements=["C", "W"]), np.require(error, requirements=["C", "W"]),
            usable, float(amount), gone,
        )  # fmt: skip
        free_places(self._table, self._places, gone[:count])
        return count

    def remap(self, row_map: Int16[np.ndarray, " old"]) -> None:
        """Give codebook IDs new numbers: ID i becomes `row_map[i]`, -1 goes, equal ones add."""
        places = self._places
        rows = np.require(row_map, requirements=["C", "W"])
        remap_pairs(places.keys, places.ids, places.sums, rows, places.touched)

    def take_changes(self) -> Changes:
        """All that changed since the last call; at first, all that there is.

        Renaming by `remap` is not among it: whoever has the rows renames them himself.
        """
        return take_changes(self._places, self._submaps)

    def tell_again(self) -> None:
        """Let the next changes be all that there is, as for one who knows nothing yet."""
        self._places.sent[:] = -1
        self._places.touched[:] = True
        self._submaps.tell_again()

    def alive(self) -> Int64[np.ndarray, " n"]:
        """The places that hold a Gaussian, rising."""
        return np.flatnonzero(self._places.keys >= 0)

    def rows(self, places: Int[np.ndarray, " n"]) -> SplatRows:
        """Some places that hold a Gaussian, as they go over the wire."""
        return rows_of(self._places, places.astype(np.int64))

    def gaussians(self, gram: codes.Gram = None) -> Scene:
        """All Gaussians in the world, with codes and instances, by rising place.

        `gram` is that of the codebook's rows (`codebook.code_gram`). Codebook and cameras are for
        the caller to add.
        """
        alive, places = self.alive(), self._places
        shapes = to_world(places, alive, self._submaps.into_world, self._submaps.poses)
        gaussians = Gaussians(
            *shapes,
            places.opacities[alive],
            ((places.colors[alive] - np.float32(0.5)) / np.float32(SH_C0))[:, None],
        )
        code = codes.from_pairs(places.ids[alive], places.sums[alive], gram=gram)
        return Scene(gaussians, code, places.instances[alive])

    def state(self) -> dict[str, np.ndarray]:
        """All that `from_state` needs to go on from here, bit for bit."""
        numbers = {"cell": np.float64(self.cell), "clock": np.int64(self.clock)}
        numbers["instance_count"] = np.int64(self.instance_count)
        return pack(self._places, self._submaps) | {k: np.array(v) for k, v in numbers.items()}

    @classmethod
    def from_state(cls, settings: MapperSettings, arrays: dict[str, np.ndarray]) -> "SplatMap":
        """The map that gave this state under settings of the same `max_splats` and `max_submaps`.

        Raises StreamError if these differ, or the arrays are not those of a map.
        """
        cell, clock, count = read_numbers(arrays)
        splats = cls(settings, cell)
        splats.clock, splats.instance_count = clock, count
        unpack(arrays, splats._places, splats._table, splats._submaps)
        return splats

    def _take_places(
        self, found: Int32[np.ndarray, " n"], own: Int64[np.ndarray, " n"], now: int
    ) -> None:
        """Places for those that have none, evicting as often as need be."""
        start = 0
        while True:
            start = take_places(self._table, self._places, found, own, start, self.clock)
            if start == len(found):
                return
            protected = np.zeros(len(self._places.keys), bool)
            protected[found[found >= 0]] = True
            batch = max(1, int(BATCH * len(protected)))
            weakest = least(self._places, now, protected, batch)
            if not len(weakest):
                return
            free_places(self._table, self._places, weakest)
