import sys

import pytest

from ffsplat.stream.engine.engine import Engine, EngineSettings
from ffsplat.stream.engine.worker import TURN_S
from tests.stream.mappers import StandIn


@pytest.fixture
def interval():
    """The interpreter's own length of a turn, put back after the test."""
    before = sys.getswitchinterval()
    yield before
    sys.setswitchinterval(before)


@pytest.mark.parametrize("asked", [5e-3, 1e-5])
def test_threads_take_short_turns_once_a_stream_runs(interval, asked):
    sys.setswitchinterval(asked)
    engine = Engine(StandIn(), EngineSettings())
    engine.start()
    engine.stop()
    assert sys.getswitchinterval() == pytest.approx(min(asked, TURN_S))
