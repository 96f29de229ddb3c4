import threading

from ffsplat.stream.ros.backlog import Backlog


def test_jobs_are_done_in_order():
    done = []
    backlog = Backlog("test", 1000)
    for i in range(100):
        assert backlog.offer(lambda i=i: done.append(i), 1)
    assert backlog.close(10)
    assert done == list(range(100))
    assert not backlog.offer(lambda: None, 1)


def test_what_does_not_fit_is_refused_but_one_job_always_fits():
    go, started = threading.Event(), threading.Event()
    backlog = Backlog("test", 100)
    assert backlog.offer(lambda: (started.set(), go.wait(10)), 5000)
    started.wait(10)
    assert not backlog.offer(lambda: None, 1)
    go.set()
    assert backlog.close(10)


def test_a_job_that_fails_ends_the_work_and_is_kept(caplog):
    failed = threading.Event()

    def fail():
        failed.set()
        raise OSError("no space left")

    backlog = Backlog("recording", 100)
    backlog.offer(fail, 1)
    failed.wait(10)
    assert backlog.close(10)
    assert str(backlog.failure) == "no space left"
    assert not backlog.offer(lambda: None, 1)
    assert "recording ends: no space left" in caplog.text


def test_the_tick_comes_without_any_job():
    ticked = threading.Event()
    backlog = Backlog("test", 100, ticked.set, 0.001)
    assert ticked.wait(10)
    assert backlog.close(10)
