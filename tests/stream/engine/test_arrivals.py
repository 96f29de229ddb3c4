"""Numbers and stamps of frames: repeated, late, and clocks that are set."""

import pytest

from ffsplat.stream.engine.arrivals import CLOCK_JUMP_S, CONFIRMATIONS, REMEMBERED, SECOND, Arrivals

HOUR = 3600 * SECOND
FRAME = SECOND // 30


def verdicts(arrivals: Arrivals, stamps, first: int = 0):
    """What becomes of frames that arrive as fast as their stamps tell, thirty a second."""
    return [
        arrivals.check(first + step, stamp, (first + step) / 30)
        for step, stamp in enumerate(stamps)
    ]


def steady(start: int, count: int):
    return [start + step * FRAME for step in range(count)]


def test_frames_in_order_are_accepted():
    arrivals = Arrivals()
    assert verdicts(arrivals, steady(0, 100)) == [None] * 100
    assert (arrivals.jumps, arrivals.gaps) == (0, 0)


def test_a_number_that_came_before_with_its_stamp_is_repeated():
    arrivals = Arrivals()
    assert [arrivals.check(7, stamp, 0.0) for stamp in (0, 0, FRAME, 0)] == [
        None,
        "repeated",
        None,
        "repeated",
    ]


def test_two_senders_that_both_count_from_zero_lose_nothing():
    arrivals = Arrivals()
    stamps = [step * FRAME // 2 for step in range(100)]
    assert [arrivals.check(i // 2, stamp, i / 60) for i, stamp in enumerate(stamps)] == [None] * 100


def test_an_older_stamp_is_late_and_an_equal_one_is_not():
    arrivals = Arrivals()
    stamps = [2 * FRAME, FRAME, 2 * FRAME]
    assert [arrivals.check(number, stamp, 0.0) for number, stamp in enumerate(stamps)] == [
        None,
        "late",
        None,
    ]


@pytest.mark.parametrize("wrong", [HOUR, -HOUR])
def test_one_wrong_stamp_costs_at_most_its_frame(wrong):
    arrivals = Arrivals()
    stamps = steady(2 * HOUR, 20)
    stamps[10] += wrong
    answers = verdicts(arrivals, stamps)
    assert answers == [None] * 10 + ["late" if wrong < 0 else None] + [None] * 9
    assert arrivals.jumps == 1


def test_a_clock_set_back_is_believed_after_some_frames():
    arrivals = Arrivals()
    verdicts(arrivals, steady(2 * HOUR, 10))
    answers = verdicts(arrivals, steady(HOUR, 20), first=10)
    assert answers == ["late"] * (CONFIRMATIONS - 1) + [None] * (21 - CONFIRMATIONS)
    assert arrivals.jumps == 1


def test_a_clock_set_forward_loses_nothing_and_then_measures():
    arrivals = Arrivals()
    verdicts(arrivals, steady(HOUR, 10))
    assert verdicts(arrivals, steady(2 * HOUR, CONFIRMATIONS), first=10) == [None] * CONFIRMATIONS
    assert arrivals.check(100, 2 * HOUR - SECOND, 1.0) == "late"
    assert arrivals.jumps == 1


def test_a_clock_that_jumps_to_and_fro_never_stops_the_stream():
    arrivals = Arrivals()
    answers = []
    for turn in range(20):
        start = HOUR * (2 + turn % 2) + turn * SECOND
        answers += verdicts(arrivals, steady(start, 30), first=30 * turn)
    assert answers.count(None) >= 20 * (30 - CONFIRMATIONS)
    assert arrivals.jumps == 19


def test_a_camera_that_rests_makes_a_gap_and_no_jump():
    arrivals = Arrivals()
    arrivals.check(0, 0, 0.0)
    assert arrivals.check(1, HOUR, 3600.0) is None
    assert (arrivals.jumps, arrivals.gaps) == (0, 1)


def test_pictures_taken_far_apart_are_all_used():
    arrivals = Arrivals()
    stamps = [step * int(3 * CLOCK_JUMP_S) * SECOND for step in range(50)]
    assert [arrivals.check(step, stamp, 0.0) for step, stamp in enumerate(stamps)] == [None] * 50


def test_slow_work_on_a_file_is_no_jump():
    arrivals = Arrivals()
    assert [arrivals.check(step, step * FRAME, 100.0 * step) for step in range(9)] == [None] * 9
    assert arrivals.jumps == 0


@pytest.mark.parametrize("pause", [FRAME, 5 * SECOND])
def test_a_sender_may_count_anew(pause):
    arrivals = Arrivals()
    last = steady(0, 10)[-1]
    verdicts(arrivals, steady(0, 10))
    assert verdicts(arrivals, steady(last + pause, 10)) == [None] * 10
    assert arrivals.gaps == (pause > SECOND)


def test_a_frame_sent_again_after_a_cut_is_repeated():
    arrivals = Arrivals()
    stamps = steady(0, 10)
    verdicts(arrivals, stamps)
    assert {arrivals.check(number, stamps[number], 60.0) for number in range(10)} == {"repeated"}


def test_frames_sent_again_late_are_repeated_and_no_jump():
    arrivals = Arrivals()
    stamps = [step * SECOND for step in range(40)]
    for number, stamp in enumerate(stamps):
        arrivals.check(number, stamp, float(number))
    assert {arrivals.check(number, stamps[number], 60.0) for number in range(10)} == {"repeated"}
    assert arrivals.jumps == 0


def test_few_frames_are_remembered():
    arrivals = Arrivals()
    verdicts(arrivals, steady(0, 2000))
    assert len(arrivals._seen) == REMEMBERED
