"""The algebra of `SparseCode`: everything is linear in K pairs of codebook ID and weight.

Rows of weights W (n, L), row scores S (L, T) and the Gram matrix G of the codebook's rows give
scores W S, lengths sqrt(diag(W G W^T)) and cosines W S / length without any embedding per Gaussian
(the sparse coefficient field of LangSplatV2, arXiv 2507.07136). `gram=None` stands for orthonormal
rows, as in the `lexicon` space.
"""

import sys
from collections.abc import Iterator
from functools import cache
from typing import Literal, no_type_check

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int16

from ffsplat.errors import SceneFileError
from ffsplat.types import NO_ID, SparseCode

MAX_ROWS = 2**15
"""IDs are int16, so a codebook has at most this many rows."""

CHUNK = 2**16
"""Gaussians worked on at a time: temporaries stay in the cache."""

MAX_GRAM = 4096
"""Codebook rows up to which a Gram matrix is made: 64 MiB."""

Gram = Float32[np.ndarray, "rows rows"] | None


def from_pairs(
    ids: Int[np.ndarray, "n m"], weights: Float[np.ndarray, "n m"], k: int = 4, gram: Gram = None
) -> SparseCode:
    """Codes from any pairs: equal IDs merge, the k heaviest stay, weights are scaled to sum 1.

    A negative ID or a weight of 0 is no evidence. Of equal weights the lower ID goes first.
    Raises ValueError for an ID of MAX_ROWS or more and a weight that is negative or not finite.
    """
    if ids.size and ids.max() >= MAX_ROWS:
        raise ValueError(f"codebook ID {ids.max()} is not below {MAX_ROWS}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights must be finite and not negative")
    top_ids = np.full((len(ids), k), NO_ID, np.int16)
    top_weights = np.zeros((len(ids), k), np.float16)
    kept = min(k, ids.shape[1])
    for rows in _chunks(len(ids)):
        top_ids[rows, :kept], top_weights[rows, :kept] = _heaviest(ids[rows], weights[rows], kept)
    return _with_norms(top_ids, top_weights, gram)


def from_dense(weights: Float[np.ndarray, "n rows"], k: int = 4, gram: Gram = None) -> SparseCode:
    """Codes from one non-negative weight per codebook row; the k heaviest stay."""
    columns, values = _top_columns(weights, min(k, weights.shape[1]))
    return from_pairs(columns, values, k, gram)


def from_logits(
    logits: Float[np.ndarray, "n classes"],
    k: int = 4,
    row_ids: Int[np.ndarray, " classes"] | None = None,
    gram: Gram = None,
) -> SparseCode:
    """Codes from the top k of a softmax; `row_ids` is the codebook row of each class.

    The softmax runs over the k best logits: the same weights as a softmax over all that is cut
    and rescaled, without its underflow.
    """
    columns, values = _top_columns(logits, min(k, logits.shape[1]))
    weights = np.exp(values - values[:, :1])
    return from_pairs(columns if row_ids is None else row_ids[columns], weights, k, gram)


def to_dense(code: SparseCode, row_count: int) -> Float32[np.ndarray, "n rows"]:
    """The weights W as a full matrix, one column per codebook row."""
    check_ids(code, row_count)
    dense = np.zeros((len(code), row_count + 1), np.float32)
    np.add.at(dense, (np.arange(len(code))[:, None], code.ids), code.weights)
    return dense[:, :row_count]


def add(
    a: SparseCode,
    b: SparseCode,
    weight_a: Float[np.ndarray, " n"] | float = 1.0,
    weight_b: Float[np.ndarray, " n"] | float = 1.0,
    k: int | None = None,
    gram: Gram = None,
) -> SparseCode:
    """The weighted mean of two codes, Gaussian by Gaussian; k is that of the wider code."""
    scaled = [
        code.weights.astype(np.float32) * np.float32(weight).reshape(-1, 1)
        for code, weight in ((a, weight_a), (b, weight_b))
    ]
    width = max(a.ids.shape[1], b.ids.shape[1]) if k is None else k
    return from_pairs(np.hstack([a.ids, b.ids]), np.hstack(scaled), width, gram)


def fuse(
    code: SparseCode,
    targets: Int[np.ndarray, " n"],
    confidences: Float[np.ndarray, " n"],
    count: int,
    k: int | None = None,
    gram: Gram = None,
) -> SparseCode:
    """One code for each of `count` targets from all observations that point to it.

    The weight of an ID is the sum of confidence times weight over the observations; the k heaviest
    stay. It is the closed form of the online update of EmbodiedSplat (arXiv 2603.04254), so the
    order of the observations does not matter. A target without observation has no evidence.
    Raises ValueError for a target outside 0..count-1.
    """
    if len(targets) and not 0 <= targets.min() <= targets.max() < count:
        raise ValueError(f"targets must lie in 0..{count - 1}")
    width = code.ids.shape[1] if k is None else k
    ids = np.full((count, width), NO_ID, np.int16)
    weights = np.zeros((count, width), np.float16)
    scaled = code.weights * confidences.astype(np.float32)[:, None]
    for group, members in _equal_groups(targets, count):
        shape = len(group), -1
        fused = from_pairs(code.ids[members].reshape(shape), scaled[members].reshape(shape), width)
        ids[group], weights[group] = fused.ids, fused.weights
    return _with_norms(ids, weights, gram)


def truncate(code: SparseCode, k: int, gram: Gram = None) -> SparseCode:
    """The k heaviest pairs of each code, rescaled; k = 1 is the hard ID."""
    return from_pairs(code.ids, code.weights, k, gram)


def keep_rows(code: SparseCode, mask: Bool[np.ndarray, " rows"], gram: Gram = None) -> SparseCode:
    """The part of each code that lies on the marked codebook rows, rescaled: one level, say."""
    check_ids(code, len(mask))
    ids = np.where(np.append(mask, False)[code.ids], code.ids, np.int16(NO_ID))
    return from_pairs(ids, code.weights, code.ids.shape[1], gram)


def remap(code: SparseCode, row_map: Int16[np.ndarray, " old"], gram: Gram = None) -> SparseCode:
    """The code with every ID replaced by `row_map[id]`, for a codebook that was joined."""
    check_ids(code, len(row_map))
    ids = np.append(row_map, np.int16(NO_ID))[code.ids]
    return from_pairs(ids, code.weights, code.ids.shape[1], gram)


def norm(code: SparseCode, gram: Gram = None) -> Float32[np.ndarray, " n"]:
    """Length of each coded vector, sqrt(w G w^T); 0 where there is no evidence."""
    if gram is None:
        return np.sqrt(np.square(code.weights, dtype=np.float32).sum(axis=1))
    check_ids(code, len(gram))
    squares = np.zeros(len(code), np.float32)
    for rows in _chunks(len(code)):
        ids, weights = code.ids[rows], code.weights[rows].astype(np.float32)
        products = gram[ids[:, :, None], ids[:, None, :]]
        squares[rows] = np.einsum("nij,ni,nj->n", products, weights, weights)
    return np.sqrt(np.maximum(squares, 0))


def norm_in(code: SparseCode, embeddings: Float[np.ndarray, "rows d"]) -> Float32[np.ndarray, " n"]:
    """`norm` from the rows themselves: through their Gram matrix unless it would be large."""
    check_ids(code, len(embeddings))
    table = embeddings.astype(np.float32)
    if len(table) <= MAX_GRAM:
        return norm(code, table @ table.T)
    lengths = np.zeros(len(code), np.float32)
    step = max(1, CHUNK // table.shape[1])
    for start in range(0, len(code), step):
        rows = slice(start, start + step)
        weights = code.weights[rows].astype(np.float32)
        coded = np.einsum("nk,nkd->nd", weights, table[code.ids[rows]])
        lengths[rows] = np.linalg.norm(coded, axis=1)
    return lengths


def score(
    code: SparseCode,
    row_scores: Float[np.ndarray, "rows *t"],
    backend: Literal["auto", "numba", "numpy"] = "auto",
) -> Float32[np.ndarray, "n *t"]:
    """Weighted sum of the row scores of each code, W S; 0 where there is no evidence.

    `auto` takes numba once something has imported it and numpy before: one score is quicker than
    that import, and both add in the same order, to the same bits.
    Raises SceneFileError if an ID lies outside the rows.
    """
    check_ids(code, len(row_scores))
    fast = backend == "numba" or (backend == "auto" and "numba" in sys.modules)
    columns = row_scores.astype(np.float32).reshape(len(row_scores), -1)
    scores = np.empty((len(code), columns.shape[1]), np.float32)
    for t, column in enumerate(columns.T):
        padded = np.concatenate([np.zeros(1, np.float32), column])
        scores[:, t] = _score_numba(code, padded) if fast else _score_numpy(code, padded)
    return scores.reshape(len(code), *row_scores.shape[1:])


def cosine(
    code: SparseCode, row_scores: Float[np.ndarray, "rows *t"]
) -> Float32[np.ndarray, "n *t"]:
    """Cosine between the coded vector and unit texts, for `row_scores` = rows . texts.

    The stored norms must be those of the rows' space. 0 where there is no evidence.
    """
    scores = score(code, row_scores)
    norms = code.norms.astype(np.float32).reshape(-1, *[1] * (scores.ndim - 1))
    return np.divide(scores, norms, out=np.zeros_like(scores), where=norms > 0)


def check_ids(code: SparseCode, row_count: int) -> None:
    """Raise SceneFileError if an ID lies outside the rows of a codebook."""
    if code.ids.size and not NO_ID <= code.ids.min() <= code.ids.max() < row_count:
        raise SceneFileError(
            f"codes use the IDs {code.ids.min()} to {code.ids.max()}, "
            f"but the codebook has {row_count} rows",
            "the codebook beside the file belongs to another scene",
        )


@cache
def half_values() -> Float32[np.ndarray, " halves"]:
    """float32 value of each of the 65536 float16 bit patterns: numba has no float16 on CPUs."""
    return np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))


def _with_norms(
    ids: Int16[np.ndarray, "n k"], weights: Float[np.ndarray, "n k"], gram: Gram
) -> SparseCode:
    ids[weights == 0] = NO_ID
    bare = SparseCode(ids, weights, np.zeros(len(ids), np.float16))
    return SparseCode(ids, weights, norm(bare, gram).astype(np.float16))


def _top_columns(
    values: Float[np.ndarray, "n m"], k: int
) -> tuple[Int[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
    """The k largest values of each row, falling, and their columns; ties go to the lower column."""
    columns = np.empty((len(values), k), np.int64)
    largest = np.empty((len(values), k), np.float32)
    for rows in _chunks(len(values)):
        rest = values[rows].astype(np.float32)
        every = np.arange(len(rest))
        for j in range(k):
            best = rest.argmax(axis=1)
            columns[rows, j], largest[rows, j] = best, rest[every, best]
            rest[every, best] = -np.inf
    return columns, largest


def _heaviest(
    ids: Int[np.ndarray, "n m"], weights: Float[np.ndarray, "n m"], k: int
) -> tuple[Int16[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """The k heaviest of each row's pairs after equal IDs are added; weights sum to 1 or 0.

    Pairs are sorted as integers: the bits of a non-negative float32 are in the order of its value.
    """
    used = np.where(ids < 0, 0, np.abs(weights)).astype(np.float32)
    pairs = np.sort((ids.astype(np.int64) << 32) | used.view(np.int32), axis=1)
    sorted_ids = pairs >> 32
    sorted_weights = (pairs & 0xFFFFFFFF).astype(np.int32).view(np.float32)
    first = np.ones(pairs.shape, bool)
    first[:, 1:] = sorted_ids[:, 1:] != sorted_ids[:, :-1]
    summed = np.zeros_like(sorted_weights)
    if summed.size:
        summed[first] = np.add.reduceat(sorted_weights.ravel(), np.flatnonzero(first))
    falling = 0x7FFFFFFF - summed.view(np.int32).astype(np.int64)
    pairs = np.sort((falling << 16) | (sorted_ids & 0xFFFF), axis=1)[:, :k]
    kept = (0x7FFFFFFF - (pairs >> 16)).astype(np.int32).view(np.float32)
    total = kept.sum(axis=1, keepdims=True)
    shares = np.divide(kept, total, out=np.zeros_like(kept), where=total > 0)
    return (pairs & 0xFFFF).astype(np.uint16).view(np.int16), shares.astype(np.float16)


def _equal_groups(
    targets: Int[np.ndarray, " n"], count: int
) -> Iterator[tuple[Int[np.ndarray, " g"], Int[np.ndarray, "g size"]]]:
    """Targets that have equally many members, and these members, one size after the other."""
    order = np.argsort(targets, kind="stable")
    sizes = np.bincount(targets, minlength=count)
    starts = np.cumsum(sizes) - sizes
    by_size = np.argsort(sizes, kind="stable")
    values, first = np.unique(sizes[by_size], return_index=True)
    for size, group in zip(values, np.split(by_size, first[1:]), strict=True):
        if size:
            yield group, order[starts[group][:, None] + np.arange(size)]


def _score_numpy(
    code: SparseCode, padded: Float32[np.ndarray, " padded"]
) -> Float32[np.ndarray, " n"]:
    """Scores by take; `padded` has one 0 in front, for the ID -1."""
    scores = np.empty(len(code), np.float32)
    for rows in _chunks(len(code)):
        terms = padded.take(code.ids[rows].astype(np.intp) + 1, mode="clip")
        terms *= code.weights[rows]
        total = np.zeros(len(terms), np.float32)
        for j in range(terms.shape[1]):
            total += terms[:, j]
        scores[rows] = total
    return scores


def _score_numba(
    code: SparseCode, padded: Float32[np.ndarray, " padded"]
) -> Float32[np.ndarray, " n"]:
    return _kernel()(code.ids, code.weights.view(np.uint16), padded, half_values())


@cache
def _kernel():
    from numba import njit

    @njit(nogil=True)
    @no_type_check
    def kernel(ids, weight_bits, padded, half_values):
        scores = np.empty(len(ids), np.float32)
        for i in range(len(ids)):
            total = np.float32(0)
            for j in range(ids.shape[1]):
                total += padded[ids[i, j] + 1] * half_values[weight_bits[i, j]]
            scores[i] = total
        return scores

    return kernel
