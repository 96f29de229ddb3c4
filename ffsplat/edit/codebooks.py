"""One table of rows for the codes of two scenes, with as many of their text spaces as it can."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, Int16

from ffsplat import codes
from ffsplat.codebook import LEXICON
from ffsplat.codes import MAX_ROWS, check_ids
from ffsplat.edit.labels import embedding_of
from ffsplat.errors import SceneFileError
from ffsplat.types import NO_ID, Codebook, SparseCode


@dataclass(frozen=True, eq=False)
class JoinedCodebook:
    """The rows of `a`, then those of `b` that it lacks; `rows_b` is the new ID of each row of `b`.

    `completed` are the text spaces that one of both lacked and that the names of its rows made;
    `dropped` are those that could not be made.
    """

    codebook: Codebook
    rows_b: Int16[np.ndarray, " b"]
    completed: tuple[str, ...]
    dropped: tuple[str, ...]


def join_codebooks(a: Codebook, b: Codebook) -> JoinedCodebook:
    """One codebook for two, in which the IDs of `a` stay.

    Two rows are one if they are of one level and have one name; or, where one of them has no name,
    the very same embeddings in all spaces that both have. Then the embeddings of `a` stay and
    counts add up. Raises SceneFileError if no space can be kept, for two widths of one space that
    is not the lexicon, and for too many rows.
    """
    rows_b, fresh = _matched(a, b)
    if len(a) + len(fresh) > MAX_ROWS:
        raise SceneFileError(f"joined codebooks have {len(a) + len(fresh)} rows, over {MAX_ROWS}")
    spaces, completed, dropped = {}, [], []
    for space in dict.fromkeys((*a.spaces, *b.spaces)):
        table = _joined_space(space, a, b, rows_b, fresh)
        if table is None:
            dropped.append(space)
            continue
        spaces[space] = table
        if space not in a.spaces or space not in b.spaces:
            completed.append(space)
    if not spaces:
        raise SceneFileError(
            f"codebooks share no space: {', '.join(a.spaces)} and {', '.join(b.spaces)}",
            "both scenes must come from the same text encoder",
        )
    names_b = np.array(b.names, object)
    names = np.concatenate([np.array(a.names, object), names_b[fresh]])
    for row, name in zip(rows_b, b.names, strict=True):
        names[row] = names[row] or name
    counts = np.concatenate([a.counts, np.zeros(len(fresh), np.float32)])
    np.add.at(counts, rows_b, b.counts)
    joined = Codebook(
        names=tuple(names.tolist()),
        levels=np.concatenate([a.levels, b.levels[fresh]]),
        parents=np.concatenate([a.parents, np.append(rows_b, np.int16(NO_ID))[b.parents[fresh]]]),
        counts=counts,
        spaces=spaces,
    )
    return JoinedCodebook(joined, rows_b, tuple(completed), tuple(dropped))


def with_rows(code: SparseCode, rows: Int16[np.ndarray, " old"]) -> SparseCode:
    """Codes with each ID replaced by `rows[id]`; weights keep their bits.

    Only where two IDs of one code become the same do their weights add up. Lengths are left to
    `ffsplat.io.ply.with_norms`.
    """
    check_ids(code, len(rows))
    ids = np.append(rows, np.int16(NO_ID))[code.ids]
    ordered = np.sort(ids, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ID)).any(axis=1)
    weights = code.weights
    if twice.any():
        summed = codes.from_pairs(ids[twice], weights[twice], ids.shape[1])
        weights = weights.copy()
        ids[twice], weights[twice] = summed.ids, summed.weights
    return SparseCode(ids, weights, code.norms)


def _matched(a: Codebook, b: Codebook) -> tuple[Int16[np.ndarray, " b"], list[int]]:
    """The new ID of each row of `b`, and the rows of `b` that `a` lacks."""
    shared = [s for s in a.spaces if s in b.spaces and _width(a, s) == _width(b, s)]
    named: dict[tuple[str, int], int] = {}
    embedded: dict[tuple[bytes, int], int] = {}
    for row in reversed(range(len(a))):
        level = int(a.levels[row])
        if a.names[row]:
            named[a.names[row], level] = row
        embedded[_bytes(a, row, shared), level] = row
    rows, fresh = np.empty(len(b), np.int64), []
    for row in range(len(b)):
        name, level = b.names[row], int(b.levels[row])
        known = named.get((name, level)) if name else None
        if known is None and (key := _bytes(b, row, shared)):
            twin = embedded.get((key, level))
            known = twin if twin is not None and not (name and a.names[twin]) else None
        if known is None:
            known = len(a) + len(fresh)
            fresh.append(row)
        rows[row] = known
    return rows.astype(np.int16), fresh


def _bytes(codebook: Codebook, row: int, spaces: list[str]) -> bytes:
    """The embeddings of a row, b"" if it has none."""
    tables = [codebook.spaces[space][row] for space in spaces]
    return b"".join(t.tobytes() for t in tables) if any(t.any() for t in tables) else b""


def _joined_space(
    space: str, a: Codebook, b: Codebook, rows_b: Int16[np.ndarray, " b"], fresh: list[int]
) -> Float16[np.ndarray, "rows d"] | None:
    """The embeddings of all rows in a space; None if one of them cannot be had."""
    widths = [_width(book, space) for book in (a, b) if space in book.spaces]
    if len(set(widths)) > 1 and space != LEXICON:
        raise SceneFileError(f"embedding sizes differ in space {space!r}: {widths}")
    table = np.zeros((len(a) + len(fresh), max(widths)), np.float16)
    if space in b.spaces:
        table[rows_b, : _width(b, space)] = b.spaces[space]
    if space in a.spaces:
        table[: len(a)] = 0
        table[: len(a), : _width(a, space)] = a.spaces[space]
    lacking = range(len(a), len(table)) if space in a.spaces else set(range(len(a))) - set(rows_b)
    if space in a.spaces and space in b.spaces:
        return table
    names = (*a.names, *(b.names[row] for row in fresh))
    for row in lacking:
        vector = embedding_of(names[row], space, table.shape[1]) if names[row] else None
        if vector is None:
            return None
        table[row] = vector
    return table


def _width(codebook: Codebook, space: str) -> int:
    return codebook.spaces[space].shape[1]
