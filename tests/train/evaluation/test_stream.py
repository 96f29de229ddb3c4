"""The table of streams, by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ffsplat import codes
from ffsplat.codebook import lexicon_codebook, rows_of_level
from ffsplat.types import SH_C0, Cameras, Gaussians, Scene
from train import metrics
from train.evaluation.stream import COLUMNS, Result, confusion, line, markdown

RESULT = Result(
    "room 7", "chain", 1.0, 0.5, 0.4, 0.6, 0.0123, 0.5, 3.0, 2.0, 0.1, 0.9, 0.8, 20.0, 0.3, 0.7,
    12345, 9.5, {},
)  # fmt: skip


def test_a_line_gives_each_value_its_digits():
    cells = line("room 7", "chain", vars(RESULT)).split(" | ")
    assert cells[:3] == ["| room 7", "chain", "100%"]
    assert "12.3" in cells  # millimetres
    assert "12,345" in cells
    assert len(cells) == 2 + len(COLUMNS)


def test_what_was_not_measured_is_empty():
    assert "nan" not in line("room 7", "chain", vars(replace(RESULT, miou=math.nan)))


def test_rooms_and_what_was_begun_again_are_averaged_by_way_and_others_are_not():
    results = [
        RESULT, replace(RESULT, footage="room 8", ate=0.1),
        replace(RESULT, way="mapper", ate=0.2), replace(RESULT, footage="office", ate=9.0),
        replace(RESULT, footage="desk, from 0"),
        replace(RESULT, footage="desk, back from 0", ate=1.5),
    ]  # fmt: skip
    means = [row for row in markdown(results).splitlines() if "mean of" in row]
    assert len(means) == 3
    assert "| mean of 2 desk | chain | 100% | 1.000 |" in means[2]
    assert "| mean of 2 rooms | chain | 100% | 0.300 |" in means[0]
    assert "| mean of 1 rooms | mapper | 100% | 0.200 |" in means[1]


def test_labels_are_those_of_the_splats_in_each_pixel():
    """A wall of the second whole object of the lexicon fills the left half of a picture."""
    book = lexicon_codebook()
    whole = rows_of_level(book, "whole")
    x, y = np.meshgrid(np.linspace(-1, -0.05, 40), np.linspace(-1, 1, 80))
    count = x.size
    gaussians = Gaussians(
        np.stack([x.ravel(), y.ravel(), np.full(count, 2.0)], 1).astype(np.float32),
        np.full((count, 3), 0.02, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, 0.99, np.float32),
        np.full((count, 1, 3), 0.5 / SH_C0, np.float32),
    )
    code = codes.from_pairs(
        np.full((count, 1), whole[1], np.int16), np.ones((count, 1), np.float32), 4
    )
    scene = Scene(gaussians, code, None, book)
    cameras = Cameras(
        np.eye(4, dtype=np.float32)[None],
        np.array([[[16, 0, 8], [0, 16, 8], [0, 0, 1]]], np.float32),
        np.array([[16, 16]], np.int32), ("view",),
    )  # fmt: skip
    truth = np.full((1, 16, 16), 1, np.uint8)
    counts = confusion(scene, cameras, truth)
    assert counts[1].sum() == 256
    assert counts[1, 1] == pytest.approx(128, abs=16)
    assert counts[1, len(whole)] == 256 - counts[1, 1]
    assert metrics.accuracy(counts) == pytest.approx(0.5, abs=0.07)
