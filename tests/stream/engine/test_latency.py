"""Percentiles in buckets against those of numpy."""

import numpy as np
import pytest

from ffsplat.stream.engine.latency import EDGES, ERROR, STAGES, Histogram, Latencies


def filled(durations) -> Histogram:
    histogram = Histogram()
    for seconds in durations:
        histogram.record(float(seconds))
    return histogram


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.1, 1.0, 2.0])
def test_percentiles_are_those_of_numpy_within_the_stated_error(seed, spread):
    durations = np.exp(np.random.default_rng(seed).normal(np.log(5e-3), spread, 2999))
    durations = durations.clip(EDGES[0] * 1.0001, EDGES[-1])  # 2999: no rank is a tie of rounding
    histogram = filled(durations)
    for percent in (50, 95, 99, 99.9):
        exact = np.percentile(durations, percent, method="inverted_cdf")
        assert histogram.quantile(percent / 100) == pytest.approx(exact, rel=ERROR * 1.0001)


def test_the_stated_error_is_under_three_percent():
    assert pytest.approx(0.0292, abs=1e-4) == ERROR


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_one_duration_is_every_percentile(share):
    assert filled([0.25]).quantile(share) == pytest.approx(0.25, rel=ERROR)


def test_the_median_of_two_is_the_lesser_by_nearest_rank():
    assert filled([0.001, 1.0]).quantile(0.5) == pytest.approx(0.001, rel=ERROR)


def test_nothing_recorded_gives_zeros():
    percentiles = Histogram().percentiles()
    assert (percentiles.count, percentiles.p50, percentiles.p999) == (0, 0.0, 0.0)


def test_what_lies_beyond_the_edges_is_kept():
    histogram = filled([0.0, 1e-7, 500.0])
    assert histogram.quantile(0.5) == EDGES[0]
    assert histogram.quantile(1.0) == 500.0


def test_what_is_no_duration_counts_as_zero():
    histogram = filled([float("nan"), float("inf"), -1.0])
    assert histogram.count == 3
    assert histogram.sum == 0.0


def test_cumulative_counts_are_those_of_numpy():
    durations = np.random.default_rng(0).uniform(1e-4, 1e-1, 500)
    for edge, count in filled(durations).cumulative():
        assert count == (durations <= edge).sum()


def test_edges_of_metrics_stand_at_whole_powers_of_ten():
    edges = [edge for edge, _ in Histogram().cumulative()]
    assert np.allclose(edges[::4], 10.0 ** np.arange(-5, 3))


def test_memory_does_not_grow_with_the_frames():
    assert len(filled(np.linspace(0, 200, 5000)).counts) == len(EDGES) + 1


def test_unknown_stages_are_left_out_and_copies_stay():
    latencies = Latencies()
    latencies.record({"decode": 0.01, "coffee": 100.0})
    copy = latencies.copy()
    latencies.record({"decode": 0.01})
    assert set(copy.percentiles()) == set(STAGES)
    assert copy.percentiles()["decode"].count == 1
