"""Label tables: what they hold, and how numbers become rows of the lexicon."""

import csv

import numpy as np
import pytest

from data.clip import UNKNOWN
from data.rooms.labels import WHOLE_INDEX, WHOLE_NAMES
from data.sources.labels import (
    FOLDER,
    clip_instances,
    label_ids,
    label_table,
    whole_of,
    whole_rows,
)
from ffsplat.errors import UsageError

SPACES = sorted(path.stem for path in FOLDER.glob("*.csv"))


@pytest.mark.parametrize("space", SPACES)
def test_every_row_names_a_row_of_the_lexicon_or_none(space):
    rows = list(csv.DictReader((FOLDER / f"{space}.csv").read_text().splitlines()))
    assert {row["whole"] for row in rows} <= {"", *WHOLE_NAMES}
    assert len({row["label"] for row in rows}) == len(rows)
    assert sum(bool(row["whole"]) for row in rows) >= 15


def test_counts_and_numbers_of_the_published_spaces():
    assert len(label_ids("nyu40")) == 40
    assert len(label_ids("ade20k")) == 150
    assert len(label_ids("scannet20")) == 20
    assert (label_ids("nyu40")[5], label_ids("nyu40")[24]) == ("chair", "refridgerator")
    assert (label_ids("ade20k")[0], label_ids("ade20k")[19]) == ("wall", "chair")


@pytest.mark.parametrize(
    ("name", "space", "whole"),
    [
        ("refridgerator", "nyu40", "refrigerator"),
        ("night stand", "nyu40", "nightstand"),
        ("otherprop", "nyu40", None),
        ("computer-keyboard", "replica", "keyboard"),
        ("office chair", "scannetpp", "chair"),
        ("Couch", "words", "sofa"),
        ("chairs", "words", "chair"),
        ("swivel chair", "scannet", "chair"),
        ("zeppelin", "scannet", None),
    ],
)
def test_names_mean_rows(name, space, whole):
    assert whole_of(name, space) == (UNKNOWN if whole is None else WHOLE_INDEX[whole])


def test_numbers_become_rows_by_hand():
    names = {1: "chair", 4: "zeppelin", 700: "sofa"}
    labels = np.array([[0, 1, 4], [700, 701, -1], [10**9, 1, 2]])
    chair, sofa = WHOLE_INDEX["chair"], WHOLE_INDEX["sofa"]
    rows = whole_rows(labels, names, "scannet")
    assert rows.tolist() == [[-1, chair, -1], [sofa, -1, -1], [-1, chair, -1]]
    assert (whole_rows(labels, {}, "scannet") == UNKNOWN).all()
    assert (whole_rows(labels, {10**15: "chair", -5: "sofa"}, "scannet") == UNKNOWN).all()


def test_unknown_space_is_an_error_that_lists_the_others():
    with pytest.raises(UsageError) as caught:
        label_table("../nyu40")
    assert "nyu40" in str(caught.value.hint)


def test_objects_by_hand():
    wall, chair = WHOLE_INDEX["wall"], WHOLE_INDEX["chair"]
    whole = np.array([wall, chair, chair, UNKNOWN], np.int16)
    assert clip_instances(np.array([9, 3, 0, 4]), whole).tolist() == [0, 3, UNKNOWN, 4]


def test_large_object_numbers_stay_distinct():
    numbers = np.array([0, 70000, 65536, 70000])
    whole = np.full(4, UNKNOWN, np.int16)
    assert clip_instances(numbers, whole).tolist() == [UNKNOWN, 2, 1, 2]
