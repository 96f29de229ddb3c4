"""The books of a soak: growth, counts and limits, by hand and on a short run."""

import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from tests.bench.process import descriptors, resident, slope, threads
from tests.bench.soak import Log


def test_growth_is_that_of_a_line_through_noise():
    seconds = np.arange(600.0)
    noise = np.random.default_rng(0).normal(size=600)
    assert slope(seconds, 300 + 2 / 60 * seconds) == pytest.approx(2.0)
    assert slope(seconds, 300 + 2 / 60 * seconds + noise) == pytest.approx(2.0, abs=0.1)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_the_books_of_the_process_are_kept():
    before = resident()
    with mmap.mmap(-1, 20_000_000) as block:  # fresh pages, whatever the heap has to spare
        np.frombuffer(block, np.uint8)[:] = 1
        assert resident() - before == pytest.approx(20, abs=2)
    open_files, (reading, writing) = descriptors(), os.pipe()
    assert descriptors() == open_files + 2
    os.close(reading)
    os.close(writing)
    assert threads() >= 1


def test_a_log_forgets_the_warm_up():
    log = Log()
    log.seconds = [float(second) for second in range(100)]
    log.memory = [10 * min(second, 50.0) + second / 60 for second in log.seconds]
    log.files, log.threads = [7] * 100, [3] * 100
    assert "+1.00 MB a minute" in log.report(50)
    assert "add up" in log.report(50)
    log.balanced = False
    assert "DO NOT ADD UP" in log.report(50)
