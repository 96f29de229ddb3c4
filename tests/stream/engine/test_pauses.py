import gc
import sys

import pytest

from ffsplat.stream.engine.pauses import TURN_S, pause_less, still_pause_less


@pytest.fixture
def as_before():
    """The interpreter's own habits, put back after the test."""
    interval = sys.getswitchinterval()
    gc.unfreeze()
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


def test_what_came_up_since_is_spared_only_where_something_is(as_before):
    still_pause_less()
    assert gc.get_freeze_count() == 0
    pause_less()
    later = [[] for _ in range(1000)]
    still_pause_less()
    assert not {id(one) for one in gc.get_objects()} & {id(one) for one in later}
