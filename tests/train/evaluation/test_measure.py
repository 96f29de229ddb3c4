"""Measuring: an oracle scores perfectly, a fresh network gets whatever can be measured."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from boxclips import FACES, Oracle, box_clips

from data.clip import UNKNOWN
from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.errors import UsageError
from ffsplat.model import FFSplat
from train import metrics
from train.clips import batch_from_clip
from train.evaluation import measure
from train.evaluation.baselines import clip_statistics, exact_gaussians, nearest_view
from train.evaluation.measure import Subject, measure_set
from train.evaluation.rows import table
from train.evaluation.tally import Tally
from train.losses import FeatureNetwork, feature_distance
from train.novel_view import splat

TINY = ModelConfig(
    width=24, heads=2, view_blocks=1, cross_blocks=2, match_block=2, decoder=(16, 12, 8)
)
SIZE = (32, 32)
NO_LABELS = {"whole": None, "part": None, "instance": None}


@pytest.fixture(scope="module")
def clips():
    return box_clips()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return FFSplat(TINY)


def ask_oracle(clips, views: list[int], given: int = 2) -> Tally:
    """What is measured of a network that says the truth; the last views are not given to it."""
    tally, statistics = Tally(), clip_statistics(clips)
    for clip in clips:
        batch = batch_from_clip(clip, np.array(views), SIZE)
        with torch.inference_mode():
            measure_set(tally, Subject(Oracle(batch), lexicon_codebook()), batch, given, statistics)
    return tally


@pytest.fixture(scope="module")
def tally(clips):
    # The other view is one of those that are given: nothing is hidden and nothing uncovered.
    return ask_oracle(clips, [0, 3, 3])


@pytest.fixture(scope="module")
def oracle(tally):
    return {row.key: row for row in table(tally)}


def test_an_oracle_scores_perfectly(oracle):
    value = {key: row.network for key, row in oracle.items()}
    assert value["abs_rel"] < 1e-6
    assert value["delta1"] == 1
    for key in ("rotation_deg", "rotation_deg_mean", "translation_deg", "translation_deg_mean"):
        assert value[key] < 0.05, key
    assert value["fov_deg"] < 1e-4
    for threshold in (5, 10, 20, 30):
        assert value[f"auc_{threshold}"] > 1 - 0.05 / threshold
    assert value["scale_log"] == pytest.approx(math.log(2), rel=1e-5)
    assert value["depth_error_ratio"] < 1e-3
    for level in ("whole", "part"):
        for how in ("", "_3d"):
            assert value[f"miou_{level}{how}"] == value[f"accuracy_{level}{how}"] == 1
        assert value[f"accuracy_{level}_splat"] > 0.95  # the rest is borders
        assert value[f"miou_{level}_splat"] > 0.85
    beside = oracle["psnr"].beside
    assert value["psnr"] == pytest.approx(beside["exact geometry"], abs=0.01)
    assert value["psnr"] == pytest.approx(beside["regressed cameras"], abs=0.01)
    assert beside["geometric Gaussians"] == pytest.approx(beside["exact geometry"], abs=0.01)


def test_an_oracle_finds_every_segment(tally, oracle):
    iou, found, wrong, missed = tally.segments["network"].T
    assert not missed.any()
    assert found.sum() > 2 * 4
    # Opposite walls are one object of the box, which nothing connects: to the oracle they are two.
    assert set(np.flatnonzero(wrong)) <= set(FACES[1:].tolist())
    assert oracle["pq_stuff"].network == pytest.approx(iou[0] / found[0])
    things = (iou / (found + wrong / 2 + 1e-12))[FACES[1:].numpy()]
    assert oracle["pq_things"].network == pytest.approx(things.mean())
    assert iou.sum() / found.sum() > 0.8


def test_trivial_answers_lose_to_the_oracle(oracle):
    # The oracle's unit is off by two; a view that was given needs no other, and is its own nearest.
    left_out = {"scale_log", "depth_error_ratio", "psnr", "ssim", "psnr_gain"}
    for key in set(oracle) - left_out:
        assert oracle[key].beats, key
    assert oracle["abs_rel"].trivial["constant depth"] > 0.05
    assert oracle["rotation_deg"].trivial["identity"] > 3
    assert oracle["auc_5"].trivial["identity"] == 0


def test_baselines_by_hand(clips, oracle):
    labels = np.stack([clip.whole[[0, 3]] for clip in clips])
    share = np.bincount(labels.ravel()) / labels.size
    most = int(np.bincount(np.stack([clip.whole for clip in clips]).ravel()).argmax())
    accuracy = oracle["accuracy_whole"].trivial["majority class"]
    assert accuracy == pytest.approx(share[most], rel=1e-5)
    # IoU of the majority class is its frequency, that of the two others zero.
    assert oracle["miou_whole"].trivial["majority class"] == pytest.approx(accuracy / 3, rel=1e-5)
    true = 2 * math.degrees(math.atan(0.5))
    prior = oracle["fov_deg"].trivial["mean of the range"]
    assert prior == pytest.approx(57.5 - true, rel=1e-4)
    # The nearest view is the other view itself.
    assert oracle["psnr"].trivial["nearest view"] == pytest.approx(100, abs=0.1)
    assert oracle["ssim"].trivial["nearest view"] == pytest.approx(1, abs=1e-6)


def test_the_nearer_view_alone_is_what_one_view_shows(clips):
    tally = ask_oracle(clips[:2], [0, 3, 1, 2])
    alone, gain = tally.known("psnr", "nearer view alone"), tally.known("gain", "network")
    torch.testing.assert_close(alone + gain, tally.known("psnr", "network"))
    expected = []
    for clip in clips[:2]:
        batch = batch_from_clip(clip, np.array([0, 3, 1, 2]), SIZE)
        given = batch.views(slice(0, 2))
        for other in (2, 3):
            camera, intrinsics = batch.world_from_camera[:, other], batch.intrinsics[:, other]
            view = int(nearest_view(given.world_from_camera, camera, given.depth.mean((1, 2, 3))))
            exact = exact_gaussians(given.views(slice(view, view + 1)))
            image = splat(exact, camera, intrinsics, SIZE, given.images.mean((1, 3, 4)))
            expected.append(metrics.psnr(image, batch.images[:, other]))
    torch.testing.assert_close(alone, torch.cat(expected).double(), atol=0.02, rtol=0)


def test_all_pairs_of_views_count(clips):
    tally = ask_oracle(clips, [0, 1, 2, 3], given=4)
    assert len(tally.known("rotation", "network")) == len(clips) * 6
    assert len(tally.known("rotation", "SIFT + five points")) == len(clips) * 6
    assert len(tally.known("fov", "network")) == len(clips) * 4
    assert tally.known("rotation", "network").max() < 0.05
    assert ("psnr", "network") not in tally.values


def test_a_pair_that_hardly_moves_counts_by_its_rotation(clips):
    poses = clips[0].world_from_camera.copy()
    poses[3, :3, 3] = poses[0, :3, 3] + 0.001
    tally = ask_oracle([replace(clips[0], world_from_camera=poses)], [0, 3])
    assert not len(tally.known("direction", "identity"))
    rotation, pose = (tally.known(metric, "identity") for metric in ("rotation", "pose"))
    torch.testing.assert_close(pose, rotation)


def test_an_unknown_unit_changes_nothing(clips, network):
    def shrunk(clip):  # the same clip, unless somebody says that its unit is the metre
        poses = clip.world_from_camera.copy()
        poses[:, :3, 3] *= 0.5
        return replace(clip, metric=False, depth=0.5 * clip.depth, world_from_camera=poses)

    subject = Subject(network, lexicon_codebook())
    tallies = [
        measure.measure(subject, [change(clip) for clip in clips[:2]])
        for change in (lambda clip: replace(clip, metric=False), shrunk)
    ]
    rows = [{row.key: row.network for row in table(tally)} for tally in tallies]
    assert "scale_log" not in rows[0]
    assert rows[0] == pytest.approx(rows[1], rel=1e-3, abs=1e-4)


def test_what_a_clip_does_not_know_is_left_out(clips, network):
    subject = Subject(network, lexicon_codebook())
    bare = [replace(clip, metric=False, depth=None, **NO_LABELS) for clip in clips[:2]]
    keys = {row.key for row in table(measure.measure(subject, bare))}
    middles = {f"{key}_deg{mean}" for key in ("rotation", "translation") for mean in ("", "_mean")}
    curves = {f"auc_{threshold}" for threshold in (5, 10, 20, 30)}
    assert keys == middles | curves | {"fov_deg", "psnr", "ssim"}
    unlabelled = [replace(clip, **NO_LABELS) for clip in clips[:2]]
    rows = {row.key: row for row in table(measure.measure(subject, unlabelled))}
    assert set(rows) == keys | {
        "abs_rel", "delta1", "scale_log", "depth_error_ratio", "psnr_gain",
    }  # fmt: skip
    assert "exact geometry" in rows["psnr"].beside


def test_a_scene_without_depth_is_scaled_by_its_cameras(clips):
    bare = [replace(clip, depth=None) for clip in clips[:2]]
    tally, statistics = Tally(), clip_statistics(bare)
    for clip, whole in zip(bare, clips, strict=False):
        views = np.array([0, 3, 3])
        oracle = Oracle(batch_from_clip(whole, views, SIZE))
        with torch.inference_mode():
            measure_set(
                tally, Subject(oracle, lexicon_codebook()), batch_from_clip(clip, views, SIZE), 2,
                statistics,
            )  # fmt: skip
    full = ask_oracle(clips[:2], [0, 3, 3])
    torch.testing.assert_close(
        tally.known("psnr", "network"), full.known("psnr", "network"), atol=0.01, rtol=0
    )


def test_unknown_labels_do_not_count(clips):
    half = clips[0].whole.copy()
    half[:, :, :16] = UNKNOWN
    tally = ask_oracle([replace(clips[0], whole=half)], [0, 3])
    assert tally.counts["whole", "majority class"].sum() == 2 * 32 * 16
    assert tally.counts["part", "majority class"].sum() == 2 * 32 * 32


def test_labels_of_other_rows_are_not_measured(clips, network):
    codebook = lexicon_codebook()
    foreign = replace(codebook, names=("something", *codebook.names[1:]))
    rows = table(measure.measure(Subject(network, foreign), clips[:2]))
    assert not {"miou_whole", "miou_part_3d", "pq"} & {row.key for row in rows}


def test_statistics_of_a_half_come_from_the_other(clips, network, monkeypatch):
    told = []
    monkeypatch.setattr(
        measure, "measure_set", lambda t, s, b, v, statistics: (
            told.append(statistics), t.add("seconds", {"network": torch.ones(1)}),
        )
    )  # fmt: skip
    measure.measure(Subject(network, lexicon_codebook()), clips)
    assert len(told) == 4
    for statistics, others in zip(told[::2], (clips[2:], clips[:2]), strict=True):
        expected = clip_statistics(others)
        assert torch.equal(statistics.depth, expected.depth)
        assert statistics.scale == expected.scale


def test_short_clips_are_passed_over(clips, network):
    short = replace(
        clips[0],
        **{
            name: getattr(clips[0], name)[:2]
            for name in ("images", "intrinsics", "world_from_camera", "depth", "whole", "part",
                         "instance")
        },
    )  # fmt: skip
    subject = Subject(network, lexicon_codebook())
    tally = measure.measure(subject, [short, *clips[:2]], views=3)
    assert len(tally.known("seconds", "network")) == 2
    with pytest.raises(UsageError, match="no clip"):
        measure.measure(subject, [short, short], views=3)
    with pytest.raises(UsageError, match="two clips"):
        measure.measure(subject, clips[:1])


def test_lpips_is_the_distance_of_features(clips, network):
    features = FeatureNetwork("test_convnext", "random")
    tally = measure.measure(Subject(network, lexicon_codebook(), features), clips[:2])
    batch = batch_from_clip(clips[0], np.array([0, 3, 1]), SIZE)
    mean = batch.images[:, :2].mean((1, 3, 4))[..., None, None].expand(1, 3, *SIZE)
    expected = feature_distance(features(mean), features(batch.images[:, 2]))
    torch.testing.assert_close(
        tally.known("lpips", "mean colour")[:1].float(), expected, atol=1e-5, rtol=1e-3
    )
    rows = {row.key: row for row in table(tally, "test_convnext")}
    assert "test_convnext" in rows["lpips"].title


def test_every_row_has_its_words(oracle):
    assert len(oracle) == 33
    for row in oracle.values():
        assert row.protocol.endswith(".")
        assert row.statistic.split()[0] in ("mean", "median", "over", "ratio")
        assert math.isfinite(row.network)
