"""Codes against texts: what strategies share, by numba once it is loaded and by numpy before."""

import sys
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32

from ffsplat import codes
from ffsplat.codes import MAX_GRAM, half_values
from ffsplat.types import NO_ID, SparseCode

PAIRS = 4
"""Pairs of a code that the loops for numba take at once."""

AT_ONCE = 2**14
"""Longer codes that are compared at a time."""


def margins(code: SparseCode, row_scores: Float[np.ndarray, "rows t"]) -> Float32[np.ndarray, " n"]:
    """Cosine of the first text less the largest of the others; -inf where there is no evidence.

    `row_scores` are inner products of rows and texts. Raises SceneFileError as `codes.score`.
    """
    if not _fast(code):
        gaps = np.empty(len(code), np.float32)
        for rows, cosines in _cosines(code, row_scores):
            gaps[rows] = cosines[0] - cosines[1:].max(axis=0)
        return np.where(code.norms > 0, gaps, np.float32(-np.inf))
    from ffsplat.query import loops

    return loops.margins(*_bits(code), half_values(), _columns(code, row_scores))


def best(
    code: SparseCode, row_scores: Float[np.ndarray, "rows t"], scale: float
) -> tuple[Int32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """The text of the largest cosine and its share in softmax(scale * cosines).

    -1 and 0 where there is no evidence. Raises SceneFileError as `codes.score`.
    """
    if _fast(code):
        from ffsplat.query import loops

        columns = _columns(code, row_scores)
        return loops.best(*_bits(code), half_values(), columns, np.float32(scale))
    label, share = np.empty(len(code), np.int32), np.empty(len(code), np.float32)
    for rows, cosines in _cosines(code, row_scores):
        label[rows] = cosines.argmax(axis=0)
        share[rows] = 1 / np.exp(scale * (cosines - cosines.max(axis=0))).sum(axis=0)
    known = code.norms > 0
    return np.where(known, label, np.int32(NO_ID)), np.where(known, share, np.float32(0))


def raise_to_cosines(
    found: Float32[np.ndarray, " n"], code: SparseCode, row_scores: Float[np.ndarray, "rows t"]
) -> None:
    """Raise each number to the largest cosine of its code with a text, where that is larger."""
    if _fast(code):
        from ffsplat.query import loops

        loops.nearest(*_bits(code), half_values(), _columns(code, row_scores), found)
    else:
        for column in row_scores.T:
            np.maximum(found, codes.cosine(code, column), out=found)


def in_space(
    code: SparseCode,
    embeddings: Float32[np.ndarray, "rows d"],
    counted: Bool[np.ndarray, " rows"] | None = None,
) -> SparseCode:
    """The codes, or their pairs on the counted rows, with the lengths that they have there.

    Weights are not scaled again as `codes.keep_rows` does: that does not matter to a cosine.
    Raises SceneFileError if an ID lies outside the rows.
    """
    codes.check_ids(code, len(embeddings))
    if "numba" in sys.modules and len(embeddings) <= MAX_GRAM:
        from ffsplat.query import loops

        every = np.ones(len(embeddings), bool) if counted is None else counted
        bits, gram = code.weights.view(np.uint16), embeddings @ embeddings.T
        ids, shares, norms = loops.cut(code.ids, bits, half_values(), every, gram)
        return SparseCode(ids, shares.view(np.float16), norms.astype(np.float16))
    if counted is not None:
        kept = np.append(counted, False)[code.ids]
        ids = np.where(kept, code.ids, np.int16(NO_ID))
        code = SparseCode(ids, np.where(kept, code.weights, np.float16(0)), code.norms)
    norms = codes.norm_in(code, embeddings)
    return SparseCode(code.ids, code.weights, norms.astype(np.float16))


def _cosines(
    code: SparseCode, row_scores: Float[np.ndarray, "rows t"]
) -> Iterator[tuple[slice, Float32[np.ndarray, "t some"]]]:
    """Cosines of codes of any width, so many codes at a time that they stay in the cache."""
    fast = "numba" in sys.modules
    columns = _columns(code, row_scores)
    for start in range(0, len(code), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        some = code[rows]
        if not fast:
            yield rows, codes.cosine(some, row_scores).T
            continue
        from ffsplat.query import loops

        found = np.zeros((len(columns), len(some)), np.float32)
        ids, bits, _ = _bits(some)
        for at in range(0, ids.shape[1], PAIRS):
            loops.add_four(ids, bits, half_values(), columns, at, found)
        norms = some.norms.astype(np.float32)
        yield rows, np.divide(found, norms, out=np.zeros_like(found), where=norms > 0)


def _fast(code: SparseCode) -> bool:
    return "numba" in sys.modules and code.ids.shape[1] <= PAIRS


def _bits(code: SparseCode) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IDs, and the bits of weights and norms, of codes with a multiple of `PAIRS` pairs."""
    lacking = -code.ids.shape[1] % PAIRS
    if lacking:
        more = ((0, 0), (0, lacking))
        ids, weights = np.pad(code.ids, more, constant_values=NO_ID), np.pad(code.weights, more)
        code = SparseCode(ids, weights, code.norms)
    return code.ids, code.weights.view(np.uint16), code.norms.view(np.uint16)


def _columns(
    code: SparseCode, row_scores: Float[np.ndarray, "rows t"]
) -> Float32[np.ndarray, "t padded"]:
    codes.check_ids(code, len(row_scores))
    padded = np.zeros((row_scores.shape[1], len(row_scores) + 1), np.float32)
    padded[:, 1:] = row_scores.T
    return padded
