"""Rows and summaries: what is better, what is left out, how it is written."""

import json
import math

import numpy as np
import pytest
import torch

from train.evaluation import tally as summaries
from train.evaluation.rows import Spec, table
from train.evaluation.table import Row, as_json, markdown, protocol
from train.evaluation.tally import Tally

ROW = Row(
    "turn", "rotation", "deg", 2.345, {"identity": 10.0}, {"SIFT": 1.5},
    statistic="median over pairs", protocol="by hand.",
)  # fmt: skip


def test_a_row_knows_whether_it_beats_all_that_is_trivial():
    assert Row("e", "error", "", 1.0, {"a": 2.0, "b": 1.5}).beats
    assert not Row("e", "error", "", 1.7, {"a": 2.0, "b": 1.5}).beats
    assert Row("s", "score", "", 3.0, {"a": 2.0}, best="high").beats
    assert Row("r", "ratio", "", 1.2, {"a": 0.7}, best="one").beats
    assert not Row("r", "ratio", "", 0.8, {"a": 1.2}, best="one").beats


def test_markdown_by_hand():
    alone = Row("pq", "PQ", "", 0.5, statistic="mean", protocol="by hand.")
    assert markdown([ROW, alone], "tiny").splitlines() == [
        "| metric | tiny | trivial baselines | beats them | beside |",
        "|---|---|---|---|---|",
        "| rotation, median over pairs, deg | 2.35 | identity 10.00 | yes | SIFT 1.500 |",
        "| PQ, mean | 0.500 |  |  |  |",
    ]
    other = Row("x", "x", "", 1.0, protocol="otherwise.")
    assert protocol([ROW, ROW, other, alone]).splitlines() == [
        "- rotation, PQ: by hand.",
        "- x: otherwise.",
    ]


def test_json_has_flat_keys():
    plain = json.loads(json.dumps(as_json([ROW])))
    assert plain["turn"] == 2.345
    assert plain["baselines"] == {"identity": {"turn": 10.0}, "SIFT": {"turn": 1.5}}
    assert plain["statistics"] == {"turn": "median over pairs"}
    (row,) = plain["rows"]
    assert row["beats"] is True
    assert row["protocol"] == "by hand."


def test_summaries_by_hand():
    tally = Tally()
    tally.add("error", {"a": torch.tensor([[1.0, math.nan], [2.0, 6.0]])})
    tally.add("error", {"a": torch.tensor([3.0])})
    assert summaries.mean("error")(tally, "a") == 3
    assert summaries.median("error")(tally, "a") == 2.5
    assert summaries.auc("error", 6)(tally, "a") == pytest.approx((0.5 * 3 * 0.75 + 3 * 0.75) / 6)
    for summary in (
        summaries.mean("error"), summaries.median("error"), summaries.auc("error", 6),
        summaries.accuracy("error"), summaries.mean_iou("error"), summaries.quality("pq"),
    ):  # fmt: skip
        assert math.isnan(summary(tally, "b"))


def test_labels_by_hand():
    tally = Tally()
    truth, guess = torch.tensor([0, 0, 1, -1]), torch.tensor([0, -1, 1, 1])
    tally.add_labels("task", "a", guess, truth, 2)
    tally.add_labels("task", "a", truth, truth, 2)
    # Of five right and one left open; where the truth is unknown nothing counts.
    assert summaries.accuracy("task")(tally, "a") == pytest.approx(5 / 6)
    assert summaries.mean_iou("task")(tally, "a") == pytest.approx((3 / 4 + 1) / 2)


def test_segments_by_hand():
    tally = Tally()
    tally.add_segments("a", np.array([[0.8, 1, 0, 0], [0.0, 0, 1, 1]]))
    tally.add_segments("a", np.array([[0.6, 1, 0, 2], [0.0, 0, 0, 0]]))
    assert summaries.quality("pq")(tally, "a") == pytest.approx((1.4 / 3 + 0) / 2)
    first = summaries.quality("pq", lambda rows: np.arange(rows) == 0)
    assert first(tally, "a") == pytest.approx(1.4 / 3)
    assert summaries.quality("sq")(tally, "a") == pytest.approx(0.35)


def test_only_what_was_measured_becomes_a_row():
    assert table(Tally()) == []
    tally = Tally()
    tally.add("abs_rel", {"network": torch.tensor([0.25]), "constant depth": torch.tensor([0.5])})
    (row,) = table(tally)
    assert (row.key, row.network, row.trivial) == ("abs_rel", 0.25, {"constant depth": 0.5})
    tally.add("lpips", {"network": torch.tensor([0.5])})
    assert [row.title for row in table(tally, "vgg16")][1] == (
        "novel view lpips(vgg16), channel weights 1"
    )


def test_a_spec_asks_for_everybody():
    spec = Spec("k", "t", "s", lambda tally, name: float(len(name)), "p", ("ab",), ("abc",), "m")
    row = spec.measured(Tally())
    assert (row.network, row.trivial, row.beside) == (7, {"ab": 2}, {"abc": 3})
    assert (row.key, row.title, row.statistic, row.protocol, row.unit) == ("k", "t", "s", "p", "m")
