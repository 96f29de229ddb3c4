"""Label indices of whole objects and of parts: the order of the rows in ffsplat's lexicon."""

import csv
from importlib.resources import files


def _names(level: str) -> tuple[str, ...]:
    text = files("ffsplat").joinpath("lexicon.csv").read_text(encoding="utf-8")
    return tuple(row["name"] for row in csv.DictReader(text.splitlines()) if row["level"] == level)


WHOLE_NAMES = _names("whole")
PART_NAMES = _names("part")
WHOLE_INDEX = {name: index for index, name in enumerate(WHOLE_NAMES)}
PART_INDEX = {name: index for index, name in enumerate(PART_NAMES)}
