import gc
import sys

import pytest

from ffsplat.stream.engine.pauses import TURN_S, pause_less


@pytest.fixture
def as_before():
    """The interpreter's own habits, put back after the test."""
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()


@pytest.mark.parametrize("asked", [5e-3, 1e-5])
def test_threads_take_short_turns(as_before, asked):
    sys.setswitchinterval(asked)
    pause_less()
    assert sys.getswitchinterval() == pytest.approx(min(asked, TURN_S))


def test_nothing_that_exists_is_looked_through_again(as_before):
    lasting = [[] for _ in range(1000)]
    pause_less()
    assert gc.get_freeze_count() > len(lasting)
    assert not {id(one) for one in gc.get_objects()} & {id(one) for one in lasting}
