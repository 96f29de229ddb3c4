"""Work in a thread beside: done in order, waited for by whoever looks, failing once."""

import threading

import pytest

from ffsplat.stream.beside import Beside


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
    with pytest.raises(ZeroDivisionError):
        beside.begin(lambda seen: seen.append(1))
    assert beside.done() == []
    beside.begin(lambda seen: seen.append(2))
    assert beside.done() == [2]
