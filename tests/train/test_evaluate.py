"""Evaluation: an oracle scores perfectly, a fresh network gets a whole table."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from boxpool import box_pool
from fakes import fake_prediction

from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.errors import UsageError
from ffsplat.hub import save_checkpoint
from ffsplat.model import FFSplat
from train import baselines, evaluate, measure
from train.batches import Batch, batch_from_pool
from train.table import Row, as_json, markdown

TINY = ModelConfig(
    width=24, heads=2, view_blocks=1, cross_blocks=2, match_block=2, decoder=(16, 12, 8)
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return FFSplat(TINY).train()


@pytest.fixture(scope="module")
def pool():
    return box_pool(rooms=4, views=4, size=32)


def oracle_prediction(given: Batch):
    """What a network that knows everything says; its unit of length is twice the metre."""
    b, v, h, w = given.depth.shape
    footprint = 2 * given.depth / given.intrinsics[..., 0, 0, None, None]
    poses = given.world_from_camera.clone()
    poses[..., :3, 3] *= 2
    return fake_prediction(
        b=b, v=v, h=h, w=w,
        depth=2 * given.depth,
        depth_error=torch.full_like(given.depth, 0.1),
        scale=2 * given.depth.mean((1, 2, 3)),
        world_from_camera=poses,
        intrinsics=given.intrinsics,
        offsets=torch.zeros(b, v, h, w, 2),
        scales=0.5 * footprint[..., None].expand(-1, -1, -1, -1, 3),
        quaternions_wxyz=torch.tensor([1.0, 0, 0, 0]).expand(b, v, h, w, 4),
        opacities=torch.full_like(given.depth, 0.9),
        colors=given.images.movedim(2, -1),
        whole_logits=F.one_hot(given.whole, 5).float(),
        part_logits=F.one_hot(given.part, 4).float(),
        descriptors=F.normalize(torch.ones(b, v, h // 4, w // 4, 3), dim=-1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def oracle_tally(pool):
    tally = measure.Tally()
    batch = batch_from_pool(pool, np.arange(4), np.array([[0, 3, 2]] * 4))
    statistics = baselines.pool_statistics(pool, (32, 32))
    given = measure.part_of(batch, slice(0, 2))
    measure.measure_batch(tally, lambda images: oracle_prediction(given), batch, 2, statistics)
    return tally


def test_an_oracle_scores_perfectly(oracle_tally):
    tally = oracle_tally
    assert tally.mean("absrel", "network") < 1e-6
    assert tally.mean("delta1", "network") == 1
    assert tally.mean("rotation", "regressed") < 0.05
    assert tally.mean("direction", "regressed") < 0.05
    assert tally.mean("fov", "regressed") < 1e-4
    assert tally.mean("scale", "network") == pytest.approx(math.log(2), rel=1e-5)
    assert tally.mean("error", "actual") < 1e-5
    assert tally.mean("error", "expected") == pytest.approx(0.1)
    for level in ("whole", "part"):
        counts = tally.counts[level, "network"]
        assert counts.diagonal().sum() == counts.sum() == 4 * 2 * 32 * 32
    exact = torch.cat(tally.values["psnr", "exact geometry"])
    torch.testing.assert_close(
        torch.cat(tally.values["psnr", "regressed"]), exact, atol=0.01, rtol=0
    )


def test_trivial_answers_lose_to_the_oracle(oracle_tally):
    rows = {row.metric: row for row in evaluate.table(oracle_tally)}
    trivial_loses = set(rows) - {
        "scale, median absolute log",  # the oracle's unit is off by a factor of two
        "depth error, actual / expected",
        "rotation refined, median", "rotation refined, mean",  # its descriptors tell nothing
        "translation direction refined, median", "novel view, refined cameras",
        "field of view refined, mean",
    }  # fmt: skip
    for metric in trivial_loses:
        assert rows[metric].beats, metric
    assert rows["AbsRel"].trivial["constant depth"] > 0.05
    assert rows["rotation regressed, mean"].trivial["identity"] > 3


def test_baselines_by_hand(pool, oracle_tally):
    whole = pool["whole"][:, [0, 3]]
    frequency = np.bincount(whole.ravel()) / whole.size
    most = int(np.bincount(pool["whole"].ravel()).argmax())
    rows = {row.metric: row for row in evaluate.table(oracle_tally)}
    accuracy = rows["pixel accuracy, whole"].trivial["majority class"]
    assert accuracy == pytest.approx(frequency[most], rel=1e-5)
    # IoU of the majority class is its frequency, that of the two others zero.
    assert rows["mIoU, whole"].trivial["majority class"] == pytest.approx(accuracy / 3, rel=1e-5)
    true = 2 * math.degrees(math.atan(0.5))
    prior = rows["field of view regressed, mean"].trivial["mean of the range"]
    assert prior == pytest.approx(57.5 - true, rel=1e-4)


def test_a_pair_that_hardly_moves_has_no_direction(pool):
    batch = batch_from_pool(pool, np.arange(1), np.array([[0, 3]]))
    batch.world_from_camera[:, 1, :3, 3] = torch.tensor([0.001, 0, 0])
    tally = measure.Tally()
    statistics = baselines.pool_statistics(pool, (32, 32))
    measure.measure_batch(tally, lambda images: oracle_prediction(batch), batch, 2, statistics)
    assert torch.cat(tally.values["direction", "regressed"]).isnan().all()
    assert ("psnr", "regressed") not in tally.values
    assert not any("novel" in row.metric for row in evaluate.table(tally))


def test_views_are_the_ends_and_the_novel_one_lies_between():
    assert [list(measure.choose_views(4, 2)[0]), measure.choose_views(4, 2)[1]] == [[0, 3], 2]
    assert [list(measure.choose_views(5, 3)[0]), measure.choose_views(5, 3)[1]] == [[0, 2, 4], 3]
    assert measure.choose_views(3, 3)[1] is None
    for count in (1, 4):
        with pytest.raises(UsageError):
            measure.choose_views(3, count)


def test_statistics_of_a_half_come_from_the_other(pool, network, monkeypatch):
    seen = []
    monkeypatch.setattr(measure, "measure_batch", lambda t, n, b, v, s: seen.append((b, s)))
    measure.measure(network, pool)
    (first, told), (second, _) = seen
    assert len(first.depth) == len(second.depth) == 2
    expected = baselines.pool_statistics({k: v[2:] for k, v in pool.items()}, (32, 32))
    assert torch.equal(told.depth, expected.depth)
    assert told.scale == expected.scale
    with pytest.raises(UsageError):
        measure.measure(network, {k: v[:1] for k, v in pool.items()})


def test_quick_validation_is_short_and_leaves_the_network_in_training(pool, network):
    network.train()
    found = evaluate.quick_validation(network, pool, 3)
    assert network.training
    assert set(found) == {"absrel", "delta1", "rotation", "whole_accuracy", "whole_miou"}
    tally = measure.measure(network, {k: v[:3] for k, v in pool.items()})
    network.train()
    assert found["absrel"] == pytest.approx(tally.mean("absrel", "network"), rel=1e-4)
    assert found["rotation"] == pytest.approx(tally.mean("rotation", "regressed"), rel=1e-3)


def test_one_command_prints_the_table_of_a_checkpoint(tmp_path, network, capsys):
    folder = tmp_path / "model"
    save_checkpoint(folder, network, lexicon_codebook(), "card")
    out = tmp_path / "table.json"
    evaluate.evaluate(str(folder), scenes=2, size=32, out=out)
    text = capsys.readouterr().out
    content = json.loads(out.read_text())
    metrics = [row["metric"] for row in content["rows"]]
    assert len(metrics) == 18
    assert all(metric in text for metric in metrics)
    assert "2 rooms, 2 of 4 views" in text
    assert "the other half of these rooms" in text
    finite = [
        value for row in content["rows"] for value in (row["network"], *row["trivial"].values())
    ]
    assert np.isfinite(finite).all()
    evaluate.evaluate(str(folder), scenes=2, size=32)
    assert capsys.readouterr().out == text


def test_a_row_knows_whether_it_beats_all_that_is_trivial():
    assert Row("error", "", 1.0, {"a": 2.0, "b": 1.5}).beats
    assert not Row("error", "", 1.7, {"a": 2.0, "b": 1.5}).beats
    assert Row("score", "", 3.0, {"a": 2.0}, best="high").beats
    assert Row("ratio", "", 1.2, {"a": 0.7}, best="one").beats
    assert not Row("ratio", "", 0.8, {"a": 1.2}, best="one").beats


def test_markdown_and_json():
    row = Row("rotation", "deg", 2.345, {"identity": 10.0}, {"SIFT": 1.5})
    assert markdown([row], "tiny").splitlines() == [
        "| metric | tiny | trivial baselines | beats them | beside |",
        "|---|---|---|---|---|",
        "| rotation, deg | 2.35 | identity 10.00 | yes | SIFT 1.500 |",
    ]
    (plain,) = as_json([row])
    assert plain["beats"] is True
    assert plain["beside"] == {"SIFT": 1.5}
