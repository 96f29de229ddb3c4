"""Work in a thread beside: done in order, waited for by whoever looks, failing once."""

import os
import sys
import threading

import pytest

from ffsplat.stream.beside import NICE, Beside


def test_whoever_looks_finds_all_work_done_in_its_order():
    go, beside = threading.Event(), Beside([])
    beside.begin(lambda seen: (go.wait(), seen.append(threading.current_thread()), seen.append(1)))
    assert beside.undone == []  # nobody waits for it yet
    go.set()
    beside.begin(lambda seen: seen.append(2))
    thread, *rest = beside.done()
    assert rest == [1, 2]
    assert thread is not threading.current_thread()
    assert beside.done() is beside.undone


def test_what_fails_is_told_once_to_the_next_who_looks():
    beside = Beside([])
    beside.begin(lambda seen: 1 / len(seen))
    beside.begin(lambda seen: seen.append(1))
    with pytest.raises(ZeroDivisionError):
        beside.done()
    assert beside.done() == [1]
    beside.begin(lambda seen: seen.append(2))
    assert beside.done() == [1, 2]


def test_nobody_waits_to_begin_more():
    go, beside = threading.Event(), Beside([])
    beside.begin(lambda seen: go.wait())
    for number in range(3):
        beside.begin(lambda seen, number=number: seen.append(number))
    assert beside.undone == []
    assert not beside.idle
    go.set()
    assert beside.done() == [0, 1, 2]
    assert beside.idle


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no cores to choose")
def test_work_runs_on_another_core_than_whoever_goes_on():
    cores = os.sched_getaffinity(0)
    if len(cores) == 1:
        pytest.skip("there is one core")
    beside = Beside([])
    nice = beside.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert nice.result() == os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) + NICE
    try:
        for core in cores:
            os.sched_setaffinity(0, {core})
            os.sched_setaffinity(0, cores)  # from where it is, nothing moves it at once
            left = beside.submit(lambda: os.sched_getaffinity(0)).result()
            assert left < cores
            os.sched_setaffinity(0, {core})
            assert beside.submit(lambda: os.sched_getaffinity(0)).result() == {core}
    finally:
        os.sched_setaffinity(0, cores)
