"""The codebook: the table of rows that codes point into, and the lexicon it starts from."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float, Float16, Float32, Int16

from ffsplat.codes import MAX_ROWS
from ffsplat.errors import SceneFileError
from ffsplat.types import ASKED_LEVELS, LEVELS, NO_ID, Codebook

LEXICON = "lexicon"
"""The built-in space: row i is the i-th unit vector, so a text is a 0/1 mark on each row."""


@dataclass(frozen=True)
class LexiconRow:
    """One line of `lexicon.csv`; `plural` is "" where the regular one holds."""

    name: str
    level: str
    plural: str
    synonyms: tuple[str, ...]
    hypernyms: tuple[str, ...]


@cache
def lexicon_rows() -> tuple[LexiconRow, ...]:
    """The curated table, whole things first, then parts, then the basic colour terms."""
    text = (files("ffsplat") / "lexicon.csv").read_text("utf-8")
    return tuple(
        LexiconRow(
            row["name"],
            row["level"],
            row["plural"],
            tuple(filter(None, row["synonyms"].split("|"))),
            tuple(filter(None, row["hypernyms"].split("|"))),
        )
        for row in csv.DictReader(text.splitlines())
    )


def lexicon_codebook() -> Codebook:
    """A codebook with one row for each line of the lexicon, in its order."""
    rows = lexicon_rows()
    return Codebook(
        names=tuple(row.name for row in rows),
        levels=np.array([LEVELS.index(row.level) for row in rows], np.int8),
        parents=np.full(len(rows), NO_ID, np.int16),
        counts=np.zeros(len(rows), np.float32),
        spaces={LEXICON: np.eye(len(rows), dtype=np.float16)},
    )


def asked_levels(codebook: Codebook) -> tuple[str, ...]:
    """The levels of `ASKED_LEVELS` that the codebook has rows of."""
    return tuple(name for name in ASKED_LEVELS if len(rows_of_level(codebook, name)))


def rows_of_level(codebook: Codebook, level: str) -> Int16[np.ndarray, " ids"]:
    """IDs of the rows of one level of `LEVELS`, rising. Raises ValueError for another level."""
    return np.flatnonzero(codebook.levels == LEVELS.index(level)).astype(np.int16)


def gram(codebook: Codebook, space: str) -> Float32[np.ndarray, "rows rows"]:
    """Inner products of all pairs of rows in one space, for lengths and cosines of codes."""
    rows = codebook.spaces[space].astype(np.float32)
    return rows @ rows.T


def code_gram(codebook: Codebook) -> Float32[np.ndarray, "rows rows"] | None:
    """What lengths of codes follow: `gram` of the first space, None for the orthonormal lexicon."""
    space = next(iter(codebook.spaces))
    return None if space == LEXICON else gram(codebook, space)


def add_space(codebook: Codebook, name: str, embeddings: Float[np.ndarray, "rows d"]) -> Codebook:
    """The same codebook with one more space; the embeddings are scaled to length 1.

    Raises ValueError if the space exists or the number of embeddings is not that of the rows.
    """
    if name in codebook.spaces:
        raise ValueError(f"the codebook has a space {name!r} already")
    if len(embeddings) != len(codebook):
        raise ValueError(f"{len(embeddings)} embeddings for {len(codebook)} rows")
    return replace(codebook, spaces={**codebook.spaces, name: _unit(embeddings)})


def join(
    a: Codebook, b: Codebook
) -> tuple[Codebook, Int16[np.ndarray, " a"], Int16[np.ndarray, " b"]]:
    """One codebook for the codes of two, and the new ID of each old row of `a` and of `b`.

    The IDs of `a` stay. A row of `b` with the name and level of a row of `a` becomes that row:
    its count is added, its embedding dropped. Rows without a name are never equal. Only spaces
    that both have remain. Raises SceneFileError if there is none, if an embedding size differs
    or if the rows are too many.
    """
    known = {key: i for i, key in reversed(list(enumerate(_keys(a)))) if key[0]}
    map_b = np.empty(len(b), np.int64)
    fresh = []
    for i, key in enumerate(_keys(b)):
        map_b[i] = known.get(key, len(a) + len(fresh))
        if key not in known:
            fresh.append(i)
    if len(a) + len(fresh) > MAX_ROWS:
        raise SceneFileError(f"joined codebooks have {len(a) + len(fresh)} rows, over {MAX_ROWS}")
    counts = np.concatenate([a.counts, np.zeros(len(fresh), np.float32)])
    np.add.at(counts, map_b, b.counts)
    parents = np.append(map_b, NO_ID)[b.parents[fresh]]
    joined = Codebook(
        names=a.names + tuple(b.names[i] for i in fresh),
        levels=np.concatenate([a.levels, b.levels[fresh]]),
        parents=np.concatenate([a.parents, parents]).astype(np.int16),
        counts=counts,
        spaces=_shared_spaces(a, b, fresh),
    )
    return joined, np.arange(len(a), dtype=np.int16), map_b.astype(np.int16)


def validate(codebook: Codebook) -> None:
    """Check what a codebook from a file must hold; raises SceneFileError on the first breach.

    One entry per row in every column, at most MAX_ROWS rows, levels within LEVELS, parents that
    exist and end, counts and embeddings finite, embeddings of length 1 (or 0) in every space.
    """
    n = len(codebook)
    columns = codebook.levels, codebook.parents, codebook.counts
    ranged = ((codebook.levels, len(LEVELS), 0), (codebook.parents, n, NO_ID))
    _require(0 < n <= MAX_ROWS, f"{n} rows; 1 to {MAX_ROWS} are allowed")
    _require(all(column.shape == (n,) for column in columns), "columns differ in length")
    for column, end, start in ranged:
        _require(bool(((column >= start) & (column < end)).all()), "a level or parent is unknown")
    _require(_parents_end(codebook.parents), "the parents of a row form a circle")
    finite = np.isfinite(codebook.counts) & (codebook.counts >= 0)
    _require(bool(finite.all()), "a count is negative or not finite")
    _require(len(codebook.spaces) > 0, "no space")
    for name, rows in codebook.spaces.items():
        _require(rows.ndim == 2 and len(rows) == n, f"space {name!r} has the wrong shape")
        lengths = np.linalg.norm(rows.astype(np.float32), axis=1)
        unit = (np.abs(lengths - 1) < 0.01) | (lengths == 0)
        _require(bool(unit.all()), f"a row of space {name!r} is not of length 1")


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise SceneFileError(f"the codebook is broken: {problem}")


def _parents_end(parents: Int16[np.ndarray, " rows"]) -> bool:
    """True if every chain of parents ends: pointers double, so log2(rows) steps reach the end."""
    ahead = np.append(parents.astype(np.int64), NO_ID)
    for _ in range(len(parents).bit_length() + 1):
        ahead = ahead[ahead]
    return bool((ahead == NO_ID).all())


def _keys(codebook: Codebook) -> list[tuple[str, int]]:
    return list(zip(codebook.names, codebook.levels.tolist(), strict=True))


def _shared_spaces(
    a: Codebook, b: Codebook, fresh: Sequence[int]
) -> dict[str, Float16[np.ndarray, "rows _"]]:
    names = [name for name in a.spaces if name in b.spaces]
    if not names:
        raise SceneFileError(
            f"codebooks share no space: {', '.join(a.spaces)} and {', '.join(b.spaces)}",
            "both scenes must come from the same text encoder",
        )
    for name in names:
        if a.spaces[name].shape[1] != b.spaces[name].shape[1]:
            raise SceneFileError(f"embedding sizes differ in space {name!r}")
    rows = list(fresh)
    return {name: np.concatenate([a.spaces[name], b.spaces[name][rows]]) for name in names}


def _unit(rows: Float[np.ndarray, "rows d"]) -> Float16[np.ndarray, "rows d"]:
    wide = rows.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0).astype(np.float16)
