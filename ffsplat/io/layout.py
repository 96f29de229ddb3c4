"""Which columns a splat PLY has, and its rows as blocks of float32 that fit in the cache.

Source of the names: the 3DGS PLY (Kerbl et al. 2023); `cb_*` are ours.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from ffsplat.errors import SceneFileError
from ffsplat.io.header import Element, Header, open_regular

POSITION = ("x", "y", "z")
NORMAL = ("nx", "ny", "nz")
COLOR = ("f_dc_0", "f_dc_1", "f_dc_2")
SCALE = ("scale_0", "scale_1", "scale_2")
ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
INSTANCE = "cb_instance"
MEANING_OPACITY = "cb_opacity"

SH_COUNTS = (1, 4, 9, 16)
"""Spherical harmonic coefficients a channel, for degree 0 to 3."""

MAX_CODES = 16
MAX_ROWS = 32767
"""Codebook rows that an int16 ID can name, with -1 left for "no evidence"."""

LARGEST_LOG_SCALE = np.float32(88)
"""Its exponential is the largest, to a factor of two, that float32 holds."""

MAX_INSTANCE = 1 << 24
"""Integers below this are exact in float32."""

BLOCK_ROWS = 8192
BLOCK_BYTES = 1 << 22
THREAD_ROWS = 1 << 16
MAX_THREADS = 4

Columns = slice | list[int]


@dataclass(frozen=True)
class Layout:
    """The optional parts of a file: SH coefficients a channel, code pairs, and columns of ours.

    `meaning` is the opacity for meaning, a logit like that for colour.
    """

    sh: int
    codes: int = 0
    instances: bool = False
    meaning: bool = False

    @property
    def rest(self) -> tuple[str, ...]:
        """Names of the higher SH coefficients: all red, then all green, then all blue."""
        return tuple(f"f_rest_{i}" for i in range(3 * (self.sh - 1)))

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the codebook ID columns."""
        return tuple(f"cb_id_{i}" for i in range(self.codes))

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the code weight columns."""
        return tuple(f"cb_w_{i}" for i in range(self.codes))

    @property
    def standard(self) -> tuple[str, ...]:
        """The block that every 3DGS reader knows, in its customary order."""
        return (*POSITION, *NORMAL, *COLOR, *self.rest, "opacity", *SCALE, *ROTATION)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns in the order that we write."""
        instance = (INSTANCE,) if self.instances else ()
        meaning = (MEANING_OPACITY,) if self.meaning else ()
        return (*self.standard, *self.ids, *self.weights, *instance, *meaning)

    @property
    def needed(self) -> tuple[str, ...]:
        """All columns that a reader cannot do without."""
        return tuple(name for name in self.names if name not in NORMAL)


def layout_of(vertex: Element, name: str) -> Layout:
    """The layout of a file by any tool; SceneFileError when it is no Gaussian splat."""
    found = {item for item, _ in vertex.properties}
    rest, ids, weights = (
        sum(item.startswith(prefix) for item in found) for prefix in ("f_rest_", "cb_id_", "cb_w_")
    )
    if rest % 3 or rest // 3 + 1 not in SH_COUNTS:
        raise SceneFileError(f"{name} has {rest} f_rest properties, not 0, 9, 24 or 45")
    if ids != weights or ids > MAX_CODES:
        raise SceneFileError(f"{name} has {ids} cb_id and {weights} cb_w properties")
    layout = Layout(rest // 3 + 1, ids, INSTANCE in found, MEANING_OPACITY in found)
    missing = [item for item in layout.needed if item not in found]
    if missing:
        listed = " ".join(missing[:8])
        raise SceneFileError(
            f"{name} is not a Gaussian splat: it has no {listed}",
            "a point cloud or a compressed splat must be converted to a 3DGS PLY first",
        )
    return layout


def columns(vertex: Element, names: tuple[str, ...]) -> Columns:
    """Where these properties stand in a block: a slice when side by side, which is a view."""
    place = {name: i for i, (name, _) in enumerate(vertex.properties)}
    indices = [place[name] for name in names]
    if indices == list(range(indices[0], indices[0] + len(indices))):
        return slice(indices[0], indices[0] + len(indices))
    return indices


def blocks(
    path: Path, header: Header, span: slice
) -> Iterator[tuple[slice, Float32[np.ndarray, "rows properties"]]]:
    """The vertices of a span as float32, with their place; each block overwrites the last."""
    vertex, dtype = header.vertex, header.row_dtype()
    limit = max(1, min(BLOCK_ROWS, BLOCK_BYTES // dtype.itemsize, span.stop - span.start))
    raw = np.empty(limit, dtype)
    plain = all(kind == "f4" for kind in vertex.kinds) and header.order == "<"
    converted = None if plain else np.empty((limit, len(vertex.properties)), np.float32)
    with open_regular(path) as file:
        file.seek(header.vertex_offset + span.start * dtype.itemsize)
        for start in range(span.start, span.stop, limit):
            rows = raw[: span.stop - start]
            if file.readinto(rows.view(np.uint8).data) != rows.nbytes:
                raise SceneFileError(f"{path.name} became shorter while it was read")
            place = slice(start, start + len(rows))
            if converted is None:
                yield place, rows.view("<f4").reshape(len(rows), -1)
            else:
                yield place, _convert(rows, converted[: len(rows)])


def spans(count: int) -> list[slice]:
    """All rows in one contiguous part for each thread that is worth starting."""
    parts = max(1, min(MAX_THREADS, os.cpu_count() or 1, count // THREAD_ROWS))
    ends = [count * part // parts for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(ends)]


def _convert(
    rows: np.ndarray, block: Float32[np.ndarray, "rows properties"]
) -> Float32[np.ndarray, "rows properties"]:
    with np.errstate(all="ignore"):  # a double too large becomes infinity, which is refused
        for i, name in enumerate(rows.dtype.names or ()):
            block[:, i] = rows[name]
    return block


class Fault(NamedTuple):
    """What is wrong with a row: the rule of `ffsplat.io.check` that it breaks, and a phrase."""

    rule: str
    phrase: str


class RowChecks:
    """Counts rows that break the format; `rows` is the size of the codebook where known.

    With `saturated`, the logit of an opacity may be infinite, which other tools write for 0 and 1.
    """

    def __init__(
        self, vertex: Element, layout: Layout, rows: int = MAX_ROWS, saturated: bool = False
    ):
        self.layout, self.rows = layout, rows
        opacities = {"opacity"} if saturated else set()
        self.needed = columns(vertex, tuple(n for n in layout.needed if n not in opacities))
        self.opacity = columns(vertex, ("opacity",))
        self.rotation = columns(vertex, ROTATION)
        self.scale = columns(vertex, SCALE)
        self.ids = columns(vertex, layout.ids) if layout.codes else []
        self.weights = columns(vertex, layout.weights) if layout.codes else []
        self.instance = columns(vertex, (INSTANCE,)) if layout.instances else []

    def count(self, block: Float32[np.ndarray, "rows properties"]) -> Counter[Fault]:
        """Faulty rows of one block, by fault; empty when all is well."""
        with np.errstate(all="ignore"):  # NaN and infinity are what is looked for
            return self._count(block)

    def _count(self, block: Float32[np.ndarray, "rows properties"]) -> Counter[Fault]:
        faults: Counter[Fault] = Counter()
        faults[Fault("finite", "hold NaN or infinity")] = self._not_finite(block)
        rotation = block[:, self.rotation]
        squared = np.einsum("nk,nk->n", rotation, rotation)
        faults[Fault("quaternion", "have a zero quaternion")] = _bad_rows(squared != 0)
        scale = block[:, self.scale]
        if scale.max() > LARGEST_LOG_SCALE:
            beyond = Fault("finite", "have a scale beyond float32")
            faults[beyond] = _bad_rows(scale <= LARGEST_LOG_SCALE)
        if self.layout.codes:
            self._count_codes(faults, block[:, self.ids], block[:, self.weights])
        if self.layout.instances:
            instances = block[:, self.instance]
            good = (instances == np.floor(instances)) & (instances >= -1)
            good &= instances < MAX_INSTANCE
            faults[Fault("ids", "have a bad instance")] = _bad_rows(good)
        return +faults

    def _not_finite(self, block: Float32[np.ndarray, "rows properties"]) -> int:
        if np.isfinite(block).all():  # the whole block lies side by side, so this is quick
            return 0
        opacity_known = ~np.isnan(block[:, self.opacity])
        return _bad_rows(np.hstack([np.isfinite(block[:, self.needed]), opacity_known]))

    def _count_codes(self, faults: Counter[Fault], ids: np.ndarray, weights: np.ndarray) -> None:
        total = weights @ np.ones(weights.shape[1], np.float32)
        outside = f"have a codebook ID outside -1..{self.rows - 1}"
        good = {
            Fault("ids", "have a fractional codebook ID"): ids == np.floor(ids),
            Fault("ids", outside): (ids >= -1) & (ids < self.rows),
            Fault("weights", "have a negative code weight"): weights >= 0,
            Fault("weights", "have code weights that sum to more than 1"): total <= 1 + 1e-3,
            Fault("weights", "have a weight on no codebook ID"): (ids != -1) | (weights == 0),
        }
        for fault, rows in good.items():
            faults[fault] = _bad_rows(rows)


def describe_faults(faults: Counter[Fault]) -> str:
    """The counts of `RowChecks` as one phrase."""
    return "; ".join(f"{number} {fault.phrase}" for fault, number in faults.items())


def _bad_rows(good: np.ndarray) -> int:
    """Rows in which any entry is False."""
    if good.all():
        return 0
    return int((~good.reshape(len(good), -1).all(axis=1)).sum())
