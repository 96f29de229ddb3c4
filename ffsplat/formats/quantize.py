"""Tables for values: few numbers that stand for many, in one dimension and in several."""

import numpy as np
from jaxtyping import Float32, Int, UInt8

ENTRIES = 256
"""Entries of a table that a byte points into."""

ROUNDS = 20
BINS = 512
VALUES_IN_BIN = 16
SAMPLE = 1 << 17
BRANCHES = 256
TREE_ROUNDS = 4


def table_of(values: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, " entries"]:
    """256 rising numbers with a small squared distance to the values: Lloyd's algorithm.

    Starts as densely as the cube root of the density of values, which is best for many entries, and
    keeps both ends exact, so that no value is clipped.
    Sources: Panter & Dite (1951) for the start; Lloyd, "Least squares quantization" (1982).
    """
    flat = values.ravel()
    ordered = np.sort(_sample(flat))
    low, high = float(flat.min()), float(flat.max())
    bins = int(np.clip(len(ordered) // VALUES_IN_BIN, 16, BINS))
    counts, edges = np.histogram(ordered, bins, (low, high) if high > low else (low, low + 1))
    dense = np.concatenate([[0.0], np.cumsum(np.cbrt(counts))])
    table = np.interp(np.linspace(0, dense[-1], ENTRIES), dense, edges)
    sums = np.concatenate([[0.0], np.cumsum(ordered, dtype=np.float64)])
    for _ in range(ROUNDS):
        ends = np.searchsorted(ordered, (table[1:] + table[:-1]) / 2)
        ends = np.concatenate([[0], ends, [len(ordered)]])
        counts = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(counts, 1)
        table = np.where(counts > 0, means, table)
    table[0], table[-1] = low, high
    return np.sort(table).astype(np.float32)


def nearest(
    values: Float32[np.ndarray, "*shape"], table: Float32[np.ndarray, " entries"]
) -> UInt8[np.ndarray, "*shape"]:
    """The entry of a rising table that is next to each value."""
    middles = (table[1:] + table[:-1]) / 2
    return np.searchsorted(middles, values.ravel()).astype(np.uint8).reshape(values.shape)


def palette_of(
    rows: Float32[np.ndarray, "n d"], size: int
) -> tuple[Float32[np.ndarray, "entries d"], Int[np.ndarray, " n"]]:
    """At most `size` vectors that stand for the rows, and which stands for each.

    Rows that are few enough stand for themselves. Else a tree of k-means with 256 branches, two
    levels where `size` is more, leaves shared out by the number of rows: a row costs some 512
    distances, not 65536. Source: Gersho & Gray, "Vector Quantization" (1992), section 12.4.
    """
    if len(rows) <= size:
        return rows, np.arange(len(rows))
    centers = _k_means(rows, min(size, BRANCHES))
    labels = _assign(rows, centers)
    if size <= BRANCHES:
        return centers, labels
    leaves, result, first = [], np.zeros(len(rows), np.int64), 0
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=len(centers))
    for members in np.split(order, np.cumsum(counts)[:-1]):
        share = 1 + (size - len(centers)) * len(members) // len(rows)
        if len(members):
            leaf = _k_means(rows[members], min(share, len(members)))
            result[members] = _assign(rows[members], leaf) + first
            leaves.append(leaf)
            first += len(leaf)
    return np.concatenate(leaves), result


def _k_means(rows: Float32[np.ndarray, "n d"], count: int) -> Float32[np.ndarray, "count d"]:
    """Centres by Lloyd's algorithm, begun with rows that stand at even distances in the list."""
    rows = _sample(rows)
    count = min(count, len(rows))
    centers = rows[np.linspace(0, len(rows) - 1, count).astype(np.intp)].copy()
    for _ in range(TREE_ROUNDS):
        labels = _assign(rows, centers)
        order = np.argsort(labels, kind="stable")
        counts = np.bincount(labels, minlength=count)
        used = np.flatnonzero(counts)
        starts = (np.cumsum(counts) - counts)[used]
        centers[used] = np.add.reduceat(rows[order], starts, axis=0) / counts[used, None]
    return centers


def _assign(
    rows: Float32[np.ndarray, "n d"], centers: Float32[np.ndarray, "k d"]
) -> Int[np.ndarray, " n"]:
    """The nearest centre of each row: |r - c|^2 = |r|^2 - 2 r.c + |c|^2, in blocks."""
    half = 0.5 * np.einsum("kd,kd->k", centers, centers)
    labels = np.empty(len(rows), np.int64)
    step = max(1, (1 << 22) // len(centers))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        labels[block] = (rows[block] @ centers.T - half).argmax(axis=1)
    return labels


def _sample(values: np.ndarray) -> np.ndarray:
    """At most SAMPLE of the values, at even distances."""
    return values[:: max(1, -(-len(values) // SAMPLE))]
