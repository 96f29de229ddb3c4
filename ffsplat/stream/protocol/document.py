"""A delta as one document of named arrays; a snapshot has the same form.

PROTOCOL.md lists the arrays with their types and shapes, and what their values must be.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from ffsplat.stream.delta import FramePoses, MapDelta, SplatRows
from ffsplat.stream.protocol.checks import check_delta
from ffsplat.stream.protocol.errors import MALFORMED, ProtocolError
from ffsplat.stream.protocol.tensors import read_tensors, write_tensors
from ffsplat.types import Codebook

MAX_SPACES = 16

_ROWS = ("splats", SplatRows), ("frames", FramePoses)

_ARRAYS: Mapping[str, tuple[str, int]] = {
    "about": ("<i8", 0),
    "splats.gids": ("<u4", 0),
    "splats.submaps": ("<u2", 0),
    "splats.means": ("<f4", 3),
    "splats.scales": ("<f2", 3),
    "splats.quaternions_wxyz": ("i1", 4),
    "splats.opacities": ("u1", 0),
    "splats.colors": ("u1", 3),
    "splats.ids": ("<i2", 4),
    "splats.weights": ("u1", 4),
    "splats.instances": ("<i4", 0),
    "removed": ("<u4", 0),
    "submaps": ("<u2", 0),
    "submap_poses": ("<f8", 8),
    "removed_submaps": ("<u2", 0),
    "frames.numbers": ("<i8", 0),
    "frames.times_ns": ("<i8", 0),
    "frames.submaps": ("<u2", 0),
    "frames.poses": ("<f8", 7),
    "frames.intrinsics": ("<f4", 6),
    "frames.keyframes": ("u1", 0),
}
"""Type of each array that a delta has, and its columns, 0 for one axis."""


def write_document(delta: MapDelta) -> bytes:
    """The document of a delta, the same bytes for the same content.

    Gaussians, submaps and what was removed are put in rising order. Raises ProtocolError (4400) for
    a delta that `check_delta` refuses, or that gives one place or submap twice.
    """
    splats = delta.splats[_rising(delta.splats.gids, "place")]
    order = _rising(delta.submaps, "submap")
    tensors = {
        "about": np.array([delta.number, delta.epoch, delta.time_ns], np.int64),
        **_columns("splats", splats),
        "removed": np.unique(delta.removed),
        "submaps": delta.submaps[order],
        "submap_poses": delta.submap_poses[order],
        "removed_submaps": np.unique(delta.removed_submaps),
        **_columns("frames", delta.frames),
    }
    if delta.row_map is not None:
        tensors["row_map"] = delta.row_map
    if delta.codebook is not None:
        tensors |= _codebook_tensors(delta.codebook)
    check_delta(delta)
    return write_tensors(tensors)


def read_document(document: bytes) -> MapDelta:
    """The delta in a document, its arrays views of it that cannot be written to.

    Raises ProtocolError (4400) for a missing or unknown array, one of another type or shape, places
    or submaps that do not rise, and what `check_delta` refuses.
    """
    tensors = read_tensors(document)
    found: dict[str, Any] = {name: _take(tensors, name, *form) for name, form in _ARRAYS.items()}
    for name in ("splats.gids", "removed", "submaps", "removed_submaps"):
        if not _rise(found[name]):
            raise ProtocolError(MALFORMED, f"{name} do not rise")
    if len(found["submaps"]) != len(found["submap_poses"]):
        raise ProtocolError(MALFORMED, "submaps and their poses are not as many")
    about = found.pop("about")
    if len(about) != 3:
        raise ProtocolError(MALFORMED, f"{len(about)} numbers about a delta, not 3")
    found |= dict(zip(("number", "epoch", "time_ns"), about.tolist(), strict=True))
    for name, kind in _ROWS:
        columns = {one.name: found.pop(f"{name}.{one.name}") for one in fields(kind)}
        if len({len(column) for column in columns.values()}) > 1:
            raise ProtocolError(MALFORMED, f"{name} of different lengths")
        found[name] = kind(**columns)
    if "row_map" in tensors:
        found["row_map"] = _take(tensors, "row_map", "<i2", 0)
    if "codebook.names" in tensors:
        found["codebook"] = _read_codebook(tensors)
    if tensors:
        raise ProtocolError(MALFORMED, f"an unknown array {sorted(tensors)[0][:40]!r}")
    delta = MapDelta(**found)
    check_delta(delta)
    return delta


def _columns(prefix: str, rows: SplatRows | FramePoses) -> dict[str, np.ndarray]:
    return {f"{prefix}.{one.name}": getattr(rows, one.name) for one in fields(rows)}


def _rise(numbers: np.ndarray) -> bool:
    return bool((numbers[1:] > numbers[:-1]).all())


def _rising(numbers: np.ndarray, what: str) -> np.ndarray | slice:
    """The order in which numbers rise; ProtocolError if one stands twice."""
    if _rise(numbers):
        return slice(None)
    order = np.argsort(numbers)
    if not _rise(numbers[order]):
        raise ProtocolError(MALFORMED, f"a {what} stands twice in a delta")
    return order


def _take(tensors: dict[str, np.ndarray], name: str, dtype: str, columns: int | None) -> np.ndarray:
    """Take an array out; ProtocolError unless it has this type and, if known, these columns."""
    if name not in tensors:
        raise ProtocolError(MALFORMED, f"the array {name!r} is missing")
    array = tensors.pop(name)
    wanted = array.shape[-1:] if columns is None else (columns,) if columns else ()
    if array.dtype != np.dtype(dtype) or array.shape[1:] != wanted:
        raise ProtocolError(MALFORMED, f"the array {name!r} is {array.dtype} of {array.shape}")
    return array


def _codebook_tensors(codebook: Codebook) -> dict[str, np.ndarray]:
    tensors = {
        "codebook.names": _lines_array(codebook.names),
        "codebook.levels": codebook.levels,
        "codebook.parents": codebook.parents,
        "codebook.counts": codebook.counts,
        "codebook.spaces": _lines_array(tuple(codebook.spaces)),
    }
    tables = enumerate(codebook.spaces.values())
    return tensors | {f"codebook.space.{i}": table for i, table in tables}


def _read_codebook(tensors: dict[str, np.ndarray]) -> Codebook:
    names = _lines(_take(tensors, "codebook.names", "u1", 0))
    levels = _take(tensors, "codebook.levels", "i1", 0)
    parents = _take(tensors, "codebook.parents", "<i2", 0)
    counts = _take(tensors, "codebook.counts", "<f4", 0)
    spaces = _lines(_take(tensors, "codebook.spaces", "u1", 0))
    if len(spaces) > MAX_SPACES or len(set(spaces)) != len(spaces):
        raise ProtocolError(MALFORMED, "spaces that are too many, or named alike")
    tables = [_take(tensors, f"codebook.space.{i}", "<f2", None) for i in range(len(spaces))]
    if any(len(rows) != len(names) for rows in (levels, parents, counts, *tables)):
        raise ProtocolError(MALFORMED, "columns of the codebook of different lengths")
    # Copies: a codebook outlives its delta, whose document would stay with any view of it.
    levels, parents, counts, *tables = (one.copy() for one in (levels, parents, counts, *tables))
    return Codebook(names, levels, parents, counts, dict(zip(spaces, tables, strict=True)))


def _lines_array(lines: tuple[str, ...]) -> np.ndarray:
    """Texts with a line feed between them, as bytes of UTF-8."""
    if any("\n" in line for line in lines):
        raise ProtocolError(MALFORMED, "a name in the codebook has a line feed")
    return np.frombuffer("\n".join(lines).encode(), np.uint8)


def _lines(array: np.ndarray) -> tuple[str, ...]:
    try:
        return tuple(array.tobytes().decode().split("\n"))
    except UnicodeError as error:
        raise ProtocolError(MALFORMED, "a name in the codebook is not UTF-8") from error
