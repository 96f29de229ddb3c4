"""An engine whose worker is kept until told otherwise."""

import threading

from ffsplat.stream.engine.engine import Engine
from tests.stream.mappers import StandIn, Verdicts, frame

WAIT = 30.0


class Gate(StandIn):
    """Lets its first frame in, and keeps it until the gate opens."""

    def __init__(self, **more):
        self.entered, self.gate = threading.Event(), threading.Event()
        super().__init__(answers=[self.gate], **more)

    def add(self, *arguments, **more):
        self.entered.set()
        return super().add(*arguments, **more)


def busy(run, **settings) -> tuple[Engine, Gate, Verdicts]:
    """An engine whose worker has frame 0, and keeps it."""
    mapper, verdicts = Gate(), Verdicts()
    engine = run(mapper, **settings)
    engine.offer(frame(0), verdicts)
    assert mapper.entered.wait(WAIT)
    return engine, mapper, verdicts
