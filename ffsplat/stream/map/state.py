"""A map as plain arrays, to be written to a file, and back: it goes on as if nothing had been."""

import numpy as np

from ffsplat.errors import StreamError
from ffsplat.stream.map.places import FREE, ROWS, Places
from ffsplat.stream.map.submaps import SubmapPoses
from ffsplat.stream.map.table import Table, fill
from ffsplat.types import NO_ID

Arrays = dict[str, np.ndarray]


def pack(places: Places, submaps: SubmapPoses) -> Arrays:
    """The places that hold something, the order of the free ones, and the submaps."""
    alive = np.flatnonzero(places.keys >= 0)
    arrays: Arrays = {name: getattr(places, name)[alive] for name in ROWS}
    arrays["places"] = alive.astype(np.int32)
    arrays["unused"] = places.unused[: places.free[0]].copy()
    arrays["lost"] = np.flatnonzero((places.sent >= 0) & (places.keys < 0)).astype(np.int32)
    arrays["lost_from"] = places.sent[arrays["lost"]]
    return arrays | {f"submap_{name}": array.copy() for name, array in submaps.state().items()}


def unpack(arrays: Arrays, places: Places, table: Table, submaps: SubmapPoses) -> None:
    """Fill an empty map with what `pack` gave; the table may get another order, found is the same.

    Raises StreamError for arrays that are no map of this capacity.
    """
    check(arrays, places, submaps)
    alive = arrays["places"]
    for name in ROWS:
        getattr(places, name)[alive] = arrays[name]
    places.sent[arrays["lost"]] = arrays["lost_from"]
    places.touched[arrays["lost"]] = True
    places.free[0] = len(arrays["unused"])
    places.unused[: places.free[0]] = arrays["unused"]
    fill(table.keys, table.places, places.keys)
    submaps.restore({name: arrays[f"submap_{name}"] for name in submaps.state()})


def read_numbers(arrays: Arrays) -> tuple[float, int, int]:
    """Side of a cell, calls of `fuse`, objects numbered. Raises StreamError for impossible ones."""
    for name, kind in (("cell", np.float64), ("clock", np.int64), ("instance_count", np.int64)):
        _check_type(arrays, name, np.dtype(kind), ())
    cell, clock, count = float(arrays["cell"]), int(arrays["clock"]), int(arrays["instance_count"])
    _require(cell > 0 and clock >= 0 and count >= 0, "a number is below 0")
    return cell, clock, count


def check(arrays: Arrays, places: Places, submaps: SubmapPoses) -> None:
    """Refuse arrays that a map of this capacity cannot have given."""
    for name in ("places", "lost", "unused"):
        _check_type(arrays, name, np.dtype(np.int32), None)
    count, capacity = len(arrays["places"]), len(places.keys)
    _check_type(arrays, "lost_from", places.sent.dtype, arrays["lost"].shape)
    for name in ROWS:
        like = getattr(places, name)
        _check_type(arrays, name, like.dtype, (count, *like.shape[1:]))
    for name, like in submaps.state().items():
        _check_type(arrays, f"submap_{name}", like.dtype, like.shape)
    every = np.sort(np.append(arrays["places"], arrays["unused"]))
    _require(np.array_equal(every, np.arange(capacity)), f"it does not have {capacity} places")
    _require(np.isin(arrays["lost"], arrays["unused"]).all(), "a place is both lost and taken")
    keys, used = arrays["keys"], arrays["submap_used"]
    _require(len(np.unique(keys)) == count, "two places have one cell")
    _require((keys > FREE).all() and (keys >> 48 < len(used)).all(), "a submap is out of range")
    _require(used[keys >> 48].all(), "a place is in no submap")
    for name, least in (("sent", -1), ("lost_from", 0)):
        inside = (arrays[name] >= least) & (arrays[name] < len(used))
        _require(inside.all(), f"{name} is out of range")
    _require((arrays["submap_poses"][used, 0] > 0).all(), "a submap has no scale")
    _require((arrays["weights"] > 0).all() and (arrays["sums"] >= 0).all(), "confidence is below 0")
    _require((arrays["ids"] >= NO_ID).all(), "a codebook ID is negative")


def _check_type(arrays: Arrays, name: str, dtype: np.dtype, shape: tuple[int, ...] | None) -> None:
    array = arrays.get(name)
    _require(isinstance(array, np.ndarray), f"{name} is missing")
    assert array is not None
    _require(array.dtype == dtype, f"{name} has the type {array.dtype}")
    shape = (array.size,) if shape is None else shape
    _require(array.shape == shape, f"{name} has the shape {array.shape}")
    _require(dtype.kind != "f" or np.isfinite(array).all(), f"{name} is not finite")


def _require(holds: object, problem: str) -> None:
    if not holds:
        raise StreamError(f"the saved map is damaged, or has another size: {problem}")
