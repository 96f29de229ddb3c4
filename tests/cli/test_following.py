"""When a stream under a command ends."""

import pytest

from ffsplat.cli import following
from ffsplat.stream.engine.engine import Engine


class Seeming(Engine):
    """Says of each look at it whether it lives; the last answer stays."""

    failure: BaseException | None = None

    def __init__(self, *looks: bool):
        self.looks = list(looks)
        self.seen = 0

    @property
    def alive(self) -> bool:
        self.seen += 1
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def flush(self, timeout_s=None, upto=None) -> bool:
        return True


def follow(engine: Engine, seconds: float | None) -> None:
    following.follow(engine, None, following.GentleStop(), seconds, True, lambda: None)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(following, "TICK", 0.001)


def test_an_engine_that_goes_on_in_a_moment_is_not_dead():
    engine = Seeming(True, *[False] * (following.LOOKS - 1), True)
    follow(engine, 1.0)
    assert engine.seen > following.LOOKS + 10


def test_an_engine_that_is_dead_ends_the_stream():
    engine = Seeming(True, True, False)
    follow(engine, None)
    assert engine.seen == 2 + following.LOOKS + 1  # and one more before the flush


def test_an_engine_that_has_failed_ends_the_stream_at_once():
    engine = Seeming(False)
    engine.failure = RuntimeError("cold")
    follow(engine, None)
    assert engine.seen == 2  # and one more before the flush
