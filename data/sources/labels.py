"""From the labels of a source to rows of the lexicon, through the tables in `data/labels`."""

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Int64

from data.clip import UNKNOWN
from data.rooms.labels import WHOLE_INDEX
from ffsplat.errors import UsageError

FOLDER = Path(__file__).resolve().parents[1] / "labels"
LEXICON = "words"
"""The label space of plain words: names, plurals and synonyms of the lexicon itself."""
STRUCTURE = tuple(WHOLE_INDEX[name] for name in ("wall", "floor", "ceiling"))
"""Rows that are the room itself and none of its objects: instance 0, as in generated rooms."""
MAX_LABEL = 1 << 20


@cache
def label_table(space: str) -> Mapping[str, str]:
    """Names of a label space -> names of the lexicon's wholes, "" where it has none.

    A space is a file `data/labels/<space>.csv` with the columns id (blank where the numbers differ
    from scene to scene), label, whole. Raises UsageError for a space without a file.
    """
    if space == LEXICON:
        return _lexicon_words()
    return {row["label"]: row["whole"] for row in _rows(space)}


@cache
def label_ids(space: str) -> Mapping[int, str]:
    """Names by number, for a space whose numbers are fixed."""
    return {int(row["id"]): row["label"] for row in _rows(space) if row["id"]}


def _rows(space: str) -> list[dict[str, str]]:
    spaces = sorted(path.stem for path in FOLDER.glob("*.csv"))
    if space not in spaces:
        raise UsageError(f"unknown label space {space!r}", f"one of {', '.join(spaces)}")
    text = (FOLDER / f"{space}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _lexicon_words() -> Mapping[str, str]:
    text = files("ffsplat").joinpath("lexicon.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["level"] == "whole"]
    table = {row["name"]: row["name"] for row in rows}
    for row in rows:
        for word in (row["plural"], *row["synonyms"].split("|")):
            table.setdefault(word, row["name"])
    return table


def whole_of(name: str, space: str) -> int:
    """The row of the lexicon's level `whole` that a label means, UNKNOWN if none does.

    The table of its space decides; a name that it does not list is looked up as a plain word.
    """
    word = name.strip().lower().replace("_", " ")
    table = label_table(space)
    for key in (name, word):
        if key in table:
            return WHOLE_INDEX.get(table[key], UNKNOWN)
    return WHOLE_INDEX.get(_lexicon_words().get(word, ""), UNKNOWN)


def whole_rows(
    labels: Int64[np.ndarray, "*shape"], names: Mapping[int, str], space: str
) -> Int16[np.ndarray, "*shape"]:
    """Rows of the lexicon for label numbers; UNKNOWN for numbers without a name or a row."""
    table = np.full(min(max(names, default=0), MAX_LABEL) + 2, UNKNOWN, np.int16)
    for number, name in names.items():
        if 0 <= number < len(table) - 1:
            table[number] = whole_of(name, space)
    last = len(table) - 1  # stays UNKNOWN: all numbers that nobody named go there
    return table[np.where((labels >= 0) & (labels < last), labels, last)]


def clip_instances(
    instances: Int64[np.ndarray, "*shape"], whole: Int16[np.ndarray, "*shape"]
) -> Int16[np.ndarray, "*shape"]:
    """Object numbers of a source as a clip has them: 0 for the room, UNKNOWN for nobody's.

    Numbers beyond 16 bits are renumbered by order, so they stay distinct within the array.
    """
    if instances.max(initial=0) > np.iinfo(np.int16).max:
        _, rank = np.unique(instances.clip(0), return_inverse=True)
        instances = rank.reshape(instances.shape) + (instances.min() > 0)
    known = np.where(instances > 0, instances, UNKNOWN)
    return np.where(np.isin(whole, STRUCTURE), 0, known).astype(np.int16)
