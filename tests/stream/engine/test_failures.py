"""Networks, subscribers and disks that fail, and what a stream does about it."""

import logging
import threading
from pathlib import Path

import pytest
import torch

from tests.stream.engine.busy import WAIT, Gate, busy
from tests.stream.mappers import StandIn, Verdicts, frame


@pytest.mark.parametrize(
    "error", [ValueError("odd"), MemoryError(), torch.OutOfMemoryError("4 GiB"), KeyError(3)]
)
def test_a_network_that_raises_costs_one_frame(run, error):
    verdicts = Verdicts()
    engine = run(StandIn(["keyframe", error, "keyframe"]))
    for number in range(3):
        engine.offer(frame(number), verdicts)
    assert engine.flush(WAIT)
    assert verdicts.reasons == {0: "keyframe", 1: "model_error", 2: "keyframe"}
    assert engine.degraded
    assert engine.alive


def test_a_stream_is_degraded_for_a_while_only(run):
    engine = run(StandIn(["not_finite", "keyframe"]), degraded_s=0.0)
    engine.offer(frame(0))
    assert engine.flush(WAIT)
    assert not engine.degraded
    longer = run(StandIn(["not_finite"]), degraded_s=1000.0)
    longer.offer(frame(0))
    assert longer.flush(WAIT)
    assert longer.degraded


def test_an_error_is_logged_with_its_traceback_once(run, caplog):
    def fail(number):
        raise ValueError(f"frame {number}")

    mapper = StandIn()
    mapper.add = lambda *_, number, **more: fail(number)
    engine = run(mapper, queue=20)
    for number in range(20):
        engine.offer(frame(number))
    assert engine.flush(WAIT)
    assert engine.counters().dropped["model_error"] == 20
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert errors[0].getMessage().startswith("the mapper raised: ValueError: frame 0 (further")
    assert "ValueError: frame 0" in caplog.text


def test_a_verdict_that_does_not_exist_is_an_error_of_the_mapper(run):
    verdicts, mapper = Verdicts(), StandIn()
    mapper.add = lambda *_, **more: None
    engine = run(mapper)
    engine.offer(frame(0), verdicts)
    assert engine.flush(WAIT)
    assert verdicts.reasons == {0: "model_error"}


def test_a_network_that_hangs_costs_one_frame(run):
    verdicts = Verdicts()
    mapper = Gate()
    engine = run(mapper, hang_s=0.05, degraded_s=1000.0)
    engine.offer(frame(0), verdicts)
    assert [one.reason for one in verdicts.wait(1)] == ["timeout"]
    assert engine.degraded
    assert engine.counters().queued == 0
    assert engine.alive
    engine.offer(frame(1), verdicts)
    mapper.gate.set()
    verdicts.wait(2)
    assert engine.flush(WAIT)
    assert verdicts.reasons == {0: "timeout", 1: "keyframe"}
    assert mapper.keyframes == 1
    assert engine.counters().dropped["timeout"] == 1


def test_a_network_that_never_comes_back_leaves_the_engine_dead(run):
    engine, mapper, verdicts = busy(run, hang_s=0.01, stuck_s=0.01)
    verdicts.wait(1)
    assert mapper.gate.wait(0.02) is False  # it hangs on
    assert not engine.alive
    assert not engine.ready
    assert engine.stop(0.01) is False
    mapper.gate.set()


def test_a_worker_that_ends_by_an_error_is_noticed(run):
    def leave():
        raise SystemExit

    mapper, verdicts = StandIn(), Verdicts()
    mapper.add = lambda *_, **more: leave()
    engine = run(mapper)
    engine.offer(frame(0), verdicts)
    assert engine.flush(WAIT) is False
    engine.stop(WAIT)
    assert not engine.alive
    assert isinstance(engine.failure, SystemExit)
    assert verdicts.reasons == {0: "shutdown"}
    assert engine.counters().balanced


def test_frames_in_time_are_not_taken_for_hanging(run):
    verdicts = Verdicts()
    engine = run(StandIn(), hang_s=0.2, queue=1, drop="block")
    for number in range(300):
        engine.offer(frame(number), verdicts)
    assert engine.flush(WAIT)
    assert set(verdicts.reasons.values()) == {"keyframe"}


def test_a_network_that_cannot_be_warmed_up_ends_the_engine(run):
    def fail():
        raise RuntimeError("cold")

    verdicts, mapper = Verdicts(), StandIn()
    mapper.warm = fail
    engine = run(mapper)
    engine.offer(frame(0), verdicts)
    assert engine.flush(WAIT) is False
    engine.stop(WAIT)
    assert not engine.alive
    assert str(engine.failure) == "the network cannot be run: RuntimeError: cold"
    assert isinstance(engine.failure.__cause__, RuntimeError)
    assert verdicts.reasons == {0: "shutdown"}
    assert not mapper.seen


def test_a_subscriber_that_raises_is_removed(run, caplog):
    calls, deltas = [], []

    def bad(delta):
        calls.append(delta)
        raise RuntimeError("full")

    engine = run(StandIn(), publish_s=0.0, drop="block")
    engine.subscribe(bad)
    engine.subscribe(deltas.append)
    for number in range(3):
        engine.offer(frame(number))
    assert engine.flush(WAIT)
    assert (len(calls), len(deltas)) == (1, 3)
    assert "ffsplat_subscriber_failures_total 1\n" in engine.metrics()
    assert "RuntimeError: full" in caplog.text


def test_a_slow_subscriber_is_not_the_fault_of_the_frame(run):
    verdicts, hold = Verdicts(), threading.Event()
    engine = run(StandIn(), publish_s=0.0, hang_s=0.01)
    engine.subscribe(lambda delta: hold.wait(WAIT))
    engine.offer(frame(0), verdicts)
    assert engine.flush(0.05) is False  # longer than a frame may take
    hold.set()
    assert engine.flush(WAIT)
    assert verdicts.reasons == {0: "keyframe"}


def test_a_callback_that_raises_harms_nobody(run):
    def bad(verdict):
        raise RuntimeError("gone")

    engine = run(StandIn(), queue=1)
    for number in range(3):
        engine.offer(frame(number), bad)
    assert engine.flush(WAIT)
    assert engine.alive
    assert engine.counters().balanced


def test_changes_that_cannot_be_taken_do_not_end_the_stream(run):
    def fail():
        raise RuntimeError("no delta")

    mapper = StandIn()
    mapper.take_delta = fail
    engine = run(mapper, publish_s=0.0)
    engine.subscribe(lambda delta: None)
    engine.offer(frame(0))
    assert engine.flush(WAIT)
    assert engine.alive
    assert engine.degraded


def test_a_failed_checkpoint_does_not_end_the_stream(run, tmp_path):
    def full(path: Path) -> Path:
        raise OSError(28, "No space left on device")

    verdicts, mapper = Verdicts(), StandIn()
    mapper.save = full
    engine = run(mapper, checkpoint=tmp_path, checkpoint_every=1, drop="block")
    for number in range(3):
        engine.offer(frame(number), verdicts)
    assert engine.flush(WAIT)
    assert set(verdicts.reasons.values()) == {"keyframe"}
    assert engine.alive
    assert "ffsplat_checkpoint_failures_total 1\n" in engine.metrics()
