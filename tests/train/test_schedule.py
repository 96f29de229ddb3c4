"""Schedules by hand values."""

import pytest

from ffsplat.errors import UsageError
from train.schedule import Clock, Schedule


def test_rate_rises_holds_and_falls():
    schedule = Schedule(warmup=10, decay=0.5)
    assert schedule.rate(4, 0.0) == 0.5
    assert schedule.rate(50, 0.5) == 1
    assert schedule.rate(75, 0.75) == 0.5
    assert schedule.rate(100, 1.0) == 0
    assert Schedule(warmup=0, decay=0).rate(0, 1.0) == 1


def test_cosine_falls_to_zero_through_a_half():
    schedule = Schedule(warmup=0, decay=1.0, shape="cosine")
    assert [schedule.rate(9, done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert schedule.rate(9, 0.25) == pytest.approx(0.5 + 0.5**1.5)


def test_steps_or_time_end_a_run_whichever_comes_first():
    schedule = Schedule(minutes=2)
    assert schedule.done(10, 100, 30) == 0.25
    assert schedule.done(60, 100, 30) == 0.6
    assert schedule.done(10, -1, 600) == 1
    assert Schedule().done(5, -1, 1e6) == 0


def test_a_clock_goes_on_over_pieces(monkeypatch):
    now = 100.0
    monkeypatch.setattr("train.schedule.time.monotonic", lambda: now)
    clock = Clock("wall")
    now = 103.0
    assert clock.seconds == 3
    clock.start(before=50)
    now = 104.0
    assert clock.seconds == 51


@pytest.mark.parametrize("wrong", [{"decay": 1.5}, {"minutes": 0}, {"warmup": -1}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(UsageError):
        Schedule(**wrong)
