"""A map as plain arrays, to be written to a file, and back: it goes on as if nothing had been."""

import numpy as np

from ffsplat.errors import StreamError
from ffsplat.stream.map.places import FREE, ROWS, Places
from ffsplat.stream.map.submaps import SubmapPoses
from ffsplat.stream.map.table import Table, fill

Arrays = dict[str, np.ndarray]


def pack(places: Places, submaps: SubmapPoses) -> Arrays:
    """The places that hold something, the order of the free ones, and the submaps."""
    alive = np.flatnonzero(places.keys >= 0)
    arrays: Arrays = {name: getattr(places, name)[alive] for name in ROWS}
    arrays["places"] = alive.astype(np.int32)
    arrays["unused"] = places.unused[: places.free[0]].copy()
    arrays["lost"] = np.flatnonzero(places.sent & (places.keys < 0)).astype(np.int32)
    return arrays | {f"submap_{name}": array.copy() for name, array in submaps.state().items()}


def unpack(arrays: Arrays, places: Places, table: Table, submaps: SubmapPoses) -> None:
    """Fill an empty map with what `pack` gave; the table may get another order, found is the same.

    Raises StreamError for arrays that are no map of this capacity.
    """
    check(arrays, places, submaps)
    alive = arrays["places"]
    for name in ROWS:
        getattr(places, name)[alive] = arrays[name]
    places.sent[arrays["lost"]] = True
    places.free[0] = len(arrays["unused"])
    places.unused[: places.free[0]] = arrays["unused"]
    fill(table.keys, table.places, places.keys)
    submaps.restore({name: arrays[f"submap_{name}"] for name in submaps.state()})


def read_numbers(arrays: Arrays) -> tuple[float, int, int]:
    """Side of a cell, calls of `fuse`, objects numbered. Raises StreamError for impossible ones."""
    values = [arrays.get(name) for name in ("cell", "clock", "instance_count")]
    for array in values:
        _require(array is not None and array.shape == () and array >= 0, "a number is missing")
    cell, clock, count = (array.item() for array in values if array is not None)
    _require(np.isfinite(cell) and cell > 0, f"its cells measure {cell}")
    return float(cell), int(clock), int(count)


def check(arrays: Arrays, places: Places, submaps: SubmapPoses) -> None:
    """Refuse arrays that a map of this capacity cannot have given."""
    count, capacity = len(arrays.get("places", ())), len(places.keys)
    wanted = {name: (getattr(places, name).dtype, _shape(places, name, count)) for name in ROWS}
    for name in ("places", "lost", "unused"):
        wanted[name] = np.dtype(np.int32), (np.size(arrays.get(name)),)
    for name, array in submaps.state().items():
        wanted[f"submap_{name}"] = (array.dtype, array.shape)
    for name, (dtype, shape) in wanted.items():
        array = arrays.get(name)
        _require(array is not None, f"{name} is missing")
        assert array is not None
        _require(array.dtype == dtype, f"{name} has the type {array.dtype}")
        _require(array.shape == shape, f"{name} has the shape {array.shape}")
        _require(dtype.kind != "f" or np.isfinite(array).all(), f"{name} is not finite")
    every = np.sort(np.append(arrays["places"], arrays["unused"]))
    _require(np.array_equal(every, np.arange(capacity)), f"it does not have {capacity} places")
    _require(np.isin(arrays["lost"], arrays["unused"]).all(), "a place is both lost and taken")
    keys, used = arrays["keys"], arrays["submap_used"]
    _require(len(np.unique(keys)) == count, "two places have one cell")
    _require((keys > FREE).all() and (keys >> 48 < len(used)).all(), "a submap is out of range")
    _require(used[keys >> 48].all(), "a place is in no submap")
    _require((arrays["submap_poses"][used, 0] > 0).all(), "a submap has no scale")


def _shape(places: Places, name: str, count: int) -> tuple[int, ...]:
    return (count, *getattr(places, name).shape[1:])


def _require(holds: object, problem: str) -> None:
    if not holds:
        raise StreamError(f"the saved map is damaged, or has another size: {problem}")
