"""Work in a thread beside: done in order, waited for by whoever looks, failing once."""

import os
import sys
import threading

import pytest

from ffsplat.stream.beside import NICE, NICE_ANSWERS, Beside


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


def test_whoever_asks_while_another_waits_waits_too():
    go, beside, seen = threading.Event(), Beside([]), []
    beside.begin(lambda thing: (go.wait(), thing.append(1)))
    waiting = [threading.Thread(target=lambda: seen.append(beside.done()[:])) for _ in range(2)]
    for one in waiting:
        one.start()
        one.join(0.05)
    assert all(one.is_alive() for one in waiting)
    go.set()
    for one in waiting:
        one.join()
    assert seen == [[1], [1]]


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


def test_answers_wait_for_no_work_on_the_thing():
    go, beside = threading.Event(), Beside([])
    beside.begin(lambda seen: go.wait())
    assert [beside.submit(lambda number=number: number).result() for number in range(3)] == [
        0,
        1,
        2,
    ]
    assert not beside.idle
    go.set()
    beside.done()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no cores to choose")
def test_work_runs_on_another_core_than_whoever_goes_on():
    cores = os.sched_getaffinity(0)
    if len(cores) == 1:
        pytest.skip("there is one core")
    beside = Beside([])
    own = os.getpriority(os.PRIO_PROCESS, os.getpid())
    nice = beside.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert nice.result() == min(own + NICE_ANSWERS, 19)
    said = []
    beside.begin(lambda _: said.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    beside.done()
    assert said == [min(own + NICE, 19)]
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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process has one priority")
def test_a_process_that_is_nicer_already_steps_back_from_there():
    """To be less nice than it, which was tried, takes root, and failed for everybody else."""
    found = []

    def nice():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def nicer():
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 12)
        beside = Beside([])
        beside.begin(lambda _: found.append(nice()))
        beside.done()

    if nice() > 12:
        pytest.skip("this process is nicer than what is tried")
    thread = threading.Thread(target=nicer)
    thread.start()
    thread.join()
    assert found == [12 + NICE]
