"""The bank: codebook rows made while features arrive, by joining, appending and merging."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, Int16, Int64

from ffsplat.codebook import add_space
from ffsplat.codes import MAX_GRAM, MAX_ROWS
from ffsplat.errors import MemoryLimit
from ffsplat.semantics.calibration import Thresholds, unit
from ffsplat.types import LEVELS, NO_ID, Codebook
from ffsplat.voxels import group

COLUMNS = ("_sums", "_confidence", "_squares", "_alias", "_seen", "_color", "_box")
"""Arrays of a bank that have one entry a row."""

BLOCK = 1024
"""Features that are compared with all rows at a time."""

SLACK = 0.95
"""Of the cosine that two noisy means of one thing have on average, what suffices to merge them."""


@dataclass(frozen=True, eq=False)
class RowStatistics:
    """What stands behind each row of a bank.

    `confidence` is the sum of confidences; `agreement` the length of the confidence-weighted mean
    of the unit features, 1 where all of them are equal. `views` and `cells` count views and places
    that showed the row, `color` is the mean sRGB, `low` and `high` the corners of its bounding box
    in world units (NaN for a row that nobody observed).
    """

    confidence: Float32[np.ndarray, " rows"]
    agreement: Float32[np.ndarray, " rows"]
    views: Int64[np.ndarray, " rows"]
    cells: Int64[np.ndarray, " rows"]
    color: Float32[np.ndarray, "rows 3"]
    low: Float32[np.ndarray, "rows 3"]
    high: Float32[np.ndarray, "rows 3"]


class Bank:
    """Rows of one space, each the running confidence-weighted mean of the features that joined it.

    A feature joins the nearest row whose cosine reaches `thresholds.join`, else it opens a row;
    rows whose cosine reaches `thresholds.merge` become one; of more than `cap` rows those with the
    least evidence go. An ID, once given, stays: `alias` says which row it means now, -1 if that row
    is gone. Join, merge and bound as in the adaptive codebook of DF-3DGS (Dai et al., CVPR 2025),
    for the bank of unmerged rows of EmbodiedSplat (arXiv 2603.04254).
    """

    def __init__(self, size: int, thresholds: Thresholds | None = None, cap: int = 1024):
        """A bank for features of `size` numbers. Raises ValueError for a cap out of range."""
        if not 1 <= cap <= MAX_GRAM:
            raise ValueError(f"a bank holds 1 to {MAX_GRAM} rows, not {cap}")
        self.thresholds = thresholds or Thresholds()
        self.cap = cap
        self._sums = np.zeros((0, size), np.float32)
        self._confidence = np.zeros(0, np.float32)
        self._squares = np.zeros(0, np.float64)  # sums of squared confidences
        self._alias = np.zeros(0, np.int16)
        self._seen = np.zeros((0, 2), np.int64)  # views, cells
        self._color = np.zeros((0, 4), np.float64)  # sums of red, green, blue, and of cells
        self._box = np.zeros((0, 2, 3), np.float32)

    def __len__(self) -> int:
        """How many IDs were given out since the bank was last compacted."""
        return len(self._sums)

    @property
    def size(self) -> int:
        """Numbers in a feature."""
        return self._sums.shape[1]

    @property
    def alias(self) -> Int16[np.ndarray, " rows"]:
        """The row that each ID means now: itself, the row it was merged into, or -1."""
        return self._alias.copy()

    @property
    def alive(self) -> Bool[np.ndarray, " rows"]:
        """Which IDs are rows of their own."""
        return self._alias == np.arange(len(self))

    @property
    def rows(self) -> Float32[np.ndarray, "rows d"]:
        """The unit embedding that each ID means now; 0 for a row that is gone."""
        table = unit(self._sums)
        return np.where((self._alias == NO_ID)[:, None], np.float32(0), table[self._alias])

    def update(
        self, features: Float32[np.ndarray, "n d"], confidence: Float32[np.ndarray, " n"]
    ) -> Int16[np.ndarray, " n"]:
        """Take in features and say which row each belongs to.

        Features need not be unit; one of length 0 or with a confidence of 0 gets -1 and leaves no
        trace. The most confident ones open rows first, twice `cap` at most; then each feature goes
        to the nearest of all rows, one step of k-means on the sphere. One that is unlike all rows
        that are left gets -1. Raises MemoryLimit when the IDs are used up.
        """
        ids = np.full(len(features), NO_ID, np.int16)
        table = unit(features)
        used = np.flatnonzero((confidence > 0) & table.any(axis=1))
        if not len(used):
            return ids
        table, weights = table[used], confidence[used]
        alive = np.flatnonzero(self.alive)
        known = self._sums[alive]
        fresh = _new_rows(table, weights, unit(known), self.thresholds.join, 2 * self.cap)
        sums = np.concatenate([known, fresh])
        place = self._nearest(table, unit(sums))
        sums[len(known) :] = 0
        place = self._nearest(table, unit(_added(sums, place, table, weights)))
        joined = place != NO_ID
        opened = np.bincount(place[joined], minlength=len(sums))[len(known) :] > 0
        rows = np.concatenate([alive, len(self) + np.cumsum(opened) - 1])[place[joined]]
        self._grow(int(opened.sum()))
        self._add(rows, table[joined], weights[joined])
        self._merge()
        self._evict()
        alive = np.flatnonzero(self.alive)
        ids[used] = np.append(alive, NO_ID)[self._nearest(table, unit(self._sums[alive]))]
        return ids

    def observe(
        self,
        ids: Int[np.ndarray, " n"],
        views: Int[np.ndarray, " n"],
        points: Float32[np.ndarray, "n 3"],
        colors: Float32[np.ndarray, "n 3"] | None = None,
    ) -> None:
        """Count where rows were seen: one entry for each of n places of `views`, in the world.

        View numbers need only differ within one call: each call counts its own views anew.
        """
        kept = np.flatnonzero(ids != NO_ID)
        rows = self._alias[ids[kept]].astype(np.int64)
        kept, rows = kept[rows != NO_ID], rows[rows != NO_ID]
        if not len(kept):
            return
        pairs = np.unique(rows << 32 | views[kept].astype(np.int64)) >> 32
        self._seen += np.stack([np.bincount(r, minlength=len(self)) for r in (pairs, rows)], 1)
        groups = group(rows)
        ordered = points[kept][groups.order]
        low, high = (f.reduceat(ordered, groups.starts) for f in (np.fmin, np.fmax))
        self._box[groups.keys, 0] = np.fmin(self._box[groups.keys, 0], low)
        self._box[groups.keys, 1] = np.fmax(self._box[groups.keys, 1], high)
        if colors is not None:
            counted = np.concatenate([colors[kept], np.ones((len(kept), 1))], axis=1)
            self._color[groups.keys] += groups.sum(counted)

    def statistics(self) -> RowStatistics:
        """What stands behind each ID; all of it lies with the rows that are alive."""
        lengths = np.linalg.norm(self._sums, axis=1)
        colors = self._color[:, :3] / np.maximum(self._color[:, 3:], 1)
        return RowStatistics(
            confidence=self._confidence.copy(),
            agreement=lengths / np.maximum(self._confidence, np.float32(1e-12)),
            views=self._seen[:, 0].copy(),
            cells=self._seen[:, 1].copy(),
            color=colors.astype(np.float32),
            low=self._box[:, 0].copy(),
            high=self._box[:, 1].copy(),
        )

    def codebook(self, space: str) -> Codebook:
        """The table that codes of this bank point into: one row an ID, in one space.

        An ID that was merged has the embedding of the row it means now, so that codes made before
        stay right; its count is 0. Counts are sums of confidence.
        """
        return nameless(self._confidence, self.rows, space)

    def compact(self) -> Int16[np.ndarray, " rows"]:
        """Number the living rows anew, without gaps; gives the new ID of each old one.

        Codes made before need `ffsplat.codes.remap` with that map.
        """
        alive = self.alive
        number = np.append(np.cumsum(alive) - 1, NO_ID).astype(np.int16)
        mapped = number[self._alias]
        self._keep(alive)
        self._alias = np.arange(len(self), dtype=np.int16)
        return mapped

    def state(self) -> dict[str, np.ndarray]:
        """All that the bank knows, as arrays; `from_state` goes on from them."""
        columns = {name.removeprefix("_"): getattr(self, name) for name in COLUMNS}
        thresholds = np.array(astuple(self.thresholds), np.float64)
        return columns | {"thresholds": thresholds, "cap": np.array(self.cap)}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray]) -> "Bank":
        """The bank that `state` was asked of. Raises KeyError for an array that is missing."""
        thresholds = Thresholds(*arrays["thresholds"].tolist())
        bank = cls(arrays["sums"].shape[1], thresholds, int(arrays["cap"]))
        for name in COLUMNS:
            setattr(bank, name, arrays[name.removeprefix("_")].copy())
        return bank

    def _grow(self, count: int) -> None:
        """Make room for new rows without evidence."""
        total = len(self) + count
        if total > MAX_ROWS:
            raise MemoryLimit(f"the bank gave out all {MAX_ROWS} IDs", "compact it")
        self._sums = np.pad(self._sums, ((0, count), (0, 0)))
        self._confidence = np.pad(self._confidence, (0, count))
        self._squares = np.pad(self._squares, (0, count))
        self._alias = np.append(self._alias, np.arange(total - count, total)).astype(np.int16)
        self._seen = np.pad(self._seen, ((0, count), (0, 0)))
        self._color = np.pad(self._color, ((0, count), (0, 0)))
        self._box = np.append(self._box, np.full((count, 2, 3), np.nan, np.float32), axis=0)

    def _keep(self, rows: Bool[np.ndarray, " rows"]) -> None:
        for name in COLUMNS:
            setattr(self, name, getattr(self, name)[rows])

    def _add(
        self,
        rows: Int64[np.ndarray, " n"],
        table: Float32[np.ndarray, "n d"],
        weights: Float32[np.ndarray, " n"],
    ) -> None:
        self._sums = _added(self._sums, rows, table, weights)
        self._confidence += np.bincount(rows, weights, len(self)).astype(np.float32)
        self._squares += np.bincount(rows, np.square(weights, dtype=float), len(self))

    def _nearest(
        self, table: Float32[np.ndarray, "n d"], rows: Float32[np.ndarray, "rows d"]
    ) -> Int64[np.ndarray, " n"]:
        """The most similar row of each feature, -1 if none is similar enough to join."""
        nearest = np.full(len(table), NO_ID, np.int64)
        for start in range(0, len(table) if len(rows) else 0, BLOCK):
            cosines = table[start : start + BLOCK] @ rows.T
            place = cosines.argmax(axis=1)
            near = cosines.max(axis=1) >= self.thresholds.join
            nearest[start : start + BLOCK] = np.where(near, place, NO_ID)
        return nearest

    def _merge(self) -> None:
        """Merge until no two rows are alike; the row with more evidence takes the other in."""
        while True:
            alive = np.flatnonzero(self.alive)
            alive = alive[np.argsort(-self._confidence[alive], kind="stable")]
            table = unit(self._sums[alive])
            alike = np.triu(table @ table.T >= self._needed(alive), 1)
            taken = np.zeros(len(alive), bool)
            for i in np.flatnonzero(alike.any(axis=1)):
                others = np.flatnonzero(alike[i] & ~taken)
                if not taken[i] and len(others):
                    taken[others] = True
                    self._take_in(int(alive[i]), alive[others])
            if not taken.any():
                return

    def _needed(self, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n n"]:
        """Cosine from which each pair of rows is one, less for rows of few features.

        Features of one thing with cosines 1 / (1 + t) have means of n with the cosine
        1 / sqrt((1 + t / n) (1 + t / m)) to those of m: SLACK of that is enough. Of features that
        weigh unequally, n is Kish's effective number, (sum w)^2 / sum w^2.
        """
        count = np.maximum(np.square(self._confidence[rows], dtype=float) / self._squares[rows], 1)
        noise = 1 / self.thresholds.alike - 1
        clean = 1 / np.sqrt(1 + noise / count)
        needed = np.minimum(self.thresholds.merge, SLACK * clean[:, None] * clean)
        return needed.astype(np.float32)

    def _all_sums(self) -> tuple[np.ndarray, ...]:
        """All that adds up when two rows become one."""
        return self._sums, self._confidence, self._squares, self._seen, self._color

    def _take_in(self, row: int, others: Int64[np.ndarray, " n"]) -> None:
        for sums in self._all_sums():
            sums[row] += sums[others].sum(axis=0)
            sums[others] = 0
        boxes = np.append(others, row)
        self._box[row, 0] = np.fmin.reduce(self._box[boxes, 0])
        self._box[row, 1] = np.fmax.reduce(self._box[boxes, 1])
        self._alias[np.isin(self._alias, others)] = row

    def _evict(self) -> None:
        """Let the rows with the least evidence go while there are more than `cap`."""
        alive = np.flatnonzero(self.alive)
        surplus = len(alive) - self.cap
        if surplus <= 0:
            return
        weakest = alive[np.argsort(self._confidence[alive], kind="stable")[:surplus]]
        for sums in self._all_sums():
            sums[weakest] = 0
        self._alias[np.isin(self._alias, weakest)] = NO_ID


def nameless(
    counts: Float32[np.ndarray, " rows"], embeddings: Float32[np.ndarray, "rows d"], space: str
) -> Codebook:
    """A codebook of whole things in one space, of which nobody knows a name."""
    bare = Codebook(
        names=("",) * len(counts),
        levels=np.full(len(counts), LEVELS.index("whole"), np.int8),
        parents=np.full(len(counts), NO_ID, np.int16),
        counts=counts.copy(),
        spaces={},
    )
    return add_space(bare, space, embeddings)


def _added(
    sums: Float32[np.ndarray, "rows d"],
    rows: Int64[np.ndarray, " n"],
    table: Float32[np.ndarray, "n d"],
    weights: Float32[np.ndarray, " n"],
) -> Float32[np.ndarray, "rows d"]:
    """The sums with weight times feature added to the row of each feature, if it has one."""
    kept = np.flatnonzero(rows != NO_ID)
    added = sums.copy()
    if len(kept):
        groups = group(rows[kept])
        order = kept[groups.order]
        weighted = table[order] * weights[order, None]
        added[groups.keys] += np.add.reduceat(weighted, groups.starts)
    return added


def _new_rows(
    table: Float32[np.ndarray, "n d"],
    weights: Float32[np.ndarray, " n"],
    known: Float32[np.ndarray, "rows d"],
    join: float,
    most: int,
) -> Float32[np.ndarray, "fresh d"]:
    """Up to `most` unit rows for features that are not near a known row, most confident first."""
    order = np.argsort(-weights, kind="stable")
    fresh = np.zeros((0, table.shape[1]), np.float32)
    for start in range(0, len(table), BLOCK):
        block = order[start : start + BLOCK]
        rows = np.concatenate([known, fresh])
        if len(rows):
            block = block[(table[block] @ rows.T).max(axis=1) < join]
        fresh = np.concatenate([fresh, _leaders(table[block], weights[block], join)])
        if len(fresh) >= most:
            break
    return fresh[:most]


def _leaders(
    table: Float32[np.ndarray, "n d"], weights: Float32[np.ndarray, " n"], join: float
) -> Float32[np.ndarray, "leaders d"]:
    """The mean of what is near the first feature, then of what is near the first one left, ..."""
    leaders = [np.zeros((0, table.shape[1]), np.float32)]
    while len(table):
        near = table @ table[0] >= join
        near[0] = True
        leaders.append(unit(weights[near][None] @ table[near]))
        table, weights = table[~near], weights[~near]
    return np.concatenate(leaders)
