"""The text for Prometheus, read by its own parser."""

import math

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ffsplat.stream.engine.engine import Engine, EngineSettings
from ffsplat.stream.engine.latency import STAGES, Histogram
from ffsplat.stream.engine.metrics import family, histogram_family
from ffsplat.stream.frame import DROPPED, USED
from tests.stream.mappers import StandIn, frame, jpeg, picture


def parsed(text: str) -> dict:
    return {one.name: one for one in text_string_to_metric_families(text)}


def values(text: str) -> dict[tuple, float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for one in parsed(text).values()
        for sample in one.samples
    }


@pytest.fixture
def engine(tmp_path):
    answers = ["keyframe", "tracked", "blurred", ValueError("x"), "keyframe"]
    settings = EngineSettings(drop="block", checkpoint=tmp_path, publish_s=0.0)
    engine = Engine(StandIn(answers), settings)
    engine.subscribe(lambda delta: None)
    engine.start()
    for number in range(5):
        engine.offer(frame(number, jpeg(picture())))
    assert engine.flush(30)
    yield engine
    engine.stop()


def test_metrics_parse_and_add_up(engine):
    read = values(engine.metrics())
    assert read["ffsplat_frames_received_total",] == 5
    processed = sum(read["ffsplat_frames_processed_total", verdict] for verdict in USED)
    dropped = sum(read["ffsplat_frames_dropped_total", reason] for reason in DROPPED)
    assert (processed, dropped, read["ffsplat_frames_queued",]) == (3, 2, 0)
    assert read["ffsplat_frames_processed_total", "tracked"] == 1
    assert read["ffsplat_frames_dropped_total", "model_error"] == 1


def test_metrics_tell_the_state_and_the_map(engine):
    read = values(engine.metrics())
    assert read["ffsplat_map_keyframes",] == 2
    assert read["ffsplat_alive",] == read["ffsplat_ready",] == read["ffsplat_degraded",] == 1
    assert read["ffsplat_epoch",] == 0
    assert read["ffsplat_deltas_total",] == 2
    assert read["ffsplat_checkpoint_failures_total",] == 0
    assert 0 <= read["ffsplat_checkpoint_age_seconds",] < 60


def test_metrics_have_a_histogram_for_each_stage(engine):
    text = engine.metrics()
    assert parsed(text)["ffsplat_stage_seconds"].type == "histogram"
    read = values(text)
    for stage in STAGES:
        count = read["ffsplat_stage_seconds_count", stage]
        assert read["ffsplat_stage_seconds_bucket", stage, "+Inf"] == count
    assert read["ffsplat_stage_seconds_count", "network"] == 4
    assert read["ffsplat_stage_seconds_sum", "network"] == pytest.approx(4 * 0.002)
    assert read["ffsplat_stage_seconds_bucket", "network", "0.00177828"] == 0
    assert read["ffsplat_stage_seconds_bucket", "network", "0.00316228"] == 4


def test_metrics_have_the_percentiles_of_each_stage(engine):
    read, latency = values(engine.metrics()), engine.latency()
    for stage in STAGES:
        for quantile, name in (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"), ("0.999", "p999")):
            found = read["ffsplat_stage_quantile_seconds", stage, quantile]
            assert found == getattr(latency[stage], name)
    assert read["ffsplat_stage_quantile_seconds", "network", "0.99"] == pytest.approx(
        0.002, rel=0.03
    )


def test_every_family_has_a_help_and_a_type(engine):
    for one in parsed(engine.metrics()).values():
        assert one.documentation
        assert one.type in ("counter", "gauge", "histogram")


def test_health_is_json_and_agrees(engine):
    health = engine.health()
    assert health["alive"] is health["ready"] is health["degraded"] is True
    frames = health["frames"]
    assert isinstance(frames, dict)
    assert frames["received"] == 5
    latency = health["latency_ms"]
    assert isinstance(latency, dict)
    assert latency["network"]["p50"] == pytest.approx(2.0, rel=0.03)
    assert health["map"] == {"keyframes": 2.0}


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", "a\\nb", "{}=,", "größe"])
def test_label_values_come_back_whatever_they_hold(value):
    (one,) = parsed(
        family("x_total", "counter", "Some\nlines \\ here.", [({"k": value}, 1)])
    ).values()
    assert one.samples[0].labels == {"k": value}


@pytest.mark.parametrize("value", [0, 3, 1e-300, 2.5, math.inf, -math.inf, math.nan, np.float64(7)])
def test_values_come_back_exactly(value):
    (one,) = parsed(family("x", "gauge", "Some.", value)).values()
    assert one.samples[0].value == pytest.approx(float(value), nan_ok=True, abs=0)


def test_buckets_are_cumulative():
    histogram = Histogram()
    for seconds in (0.001, 0.5, 0.5, 20.0, 1e6):
        histogram.record(seconds)
    text = histogram_family("x_seconds", "Some.", "stage", {"a": histogram})
    (one,) = parsed(text).values()
    counts = {
        sample.labels["le"]: sample.value
        for sample in one.samples
        if sample.name.endswith("_bucket")
    }
    assert (counts["0.1"], counts["1"], counts["100"], counts["+Inf"]) == (1, 3, 4, 5)
    assert list(counts.values()) == sorted(counts.values())
