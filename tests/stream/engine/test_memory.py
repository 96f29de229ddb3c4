import ctypes
import subprocess
import sys

import pytest

from ffsplat.stream.engine import worker
from tests.stream.engine.busy import WAIT
from tests.stream.mappers import StandIn, frame

HOLES = """
from ffsplat.stream.engine.memory import give_back
from tests.bench.process import resident
kept = [bytes(100_000) for _ in range(1000)]
del kept[:-1]  # what lies last holds the heap where it is
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library has nothing to give back"
)
def test_room_between_what_is_left_goes_back_to_the_system():
    ran = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, check=True, timeout=WAIT
    )
    assert float(ran.stdout) > 50  # megabytes; some are not held up


@pytest.mark.parametrize(("every", "expected"), [(0.0, 3), (3600.0, 0)])
def test_it_is_given_back_between_frames_when_it_is_time(run, monkeypatch, every, expected):
    times = []
    monkeypatch.setattr(worker, "EVERY_S", every)
    monkeypatch.setattr(worker, "give_back", lambda: times.append(1))
    engine = run(StandIn())
    for number in range(3):
        engine.offer(frame(number))
    assert engine.flush(WAIT)
    engine.stop()
    assert len(times) == expected
