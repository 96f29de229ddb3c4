"""What the sessions of a server share."""

import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ffsplat.stream.delta import MapDelta
from ffsplat.stream.engine.counters import Counters as FrameCounters
from ffsplat.stream.engine.latency import Percentiles
from ffsplat.stream.engine.settings import EngineSettings
from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.protocol.control import Health
from ffsplat.stream.server.auth import Tokens
from ffsplat.stream.server.counters import Counters
from ffsplat.stream.server.feed import Feed
from ffsplat.stream.server.settings import ServerSettings

if TYPE_CHECKING:
    from ffsplat.stream.server.seat import Seat
    from ffsplat.stream.server.session import Session


@runtime_checkable
class StreamEngine(Protocol):
    """What a server needs of an engine; `Engine` has it, and so have stand-ins in tests."""

    settings: EngineSettings

    @property
    def alive(self) -> bool:
        """Whether it still works through its frames."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it takes frames: weights are loaded and the first forward is done."""
        ...

    @property
    def degraded(self) -> bool:
        """Whether something failed lately."""
        ...

    @property
    def epoch(self) -> int:
        """How often the poses of the map were corrected."""
        ...

    def offer(
        self,
        frame: Frame,
        done: Callable[[Verdict], None] | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Hand a frame over, from any thread; may wait for room. `done` is called once.

        A frame that is not `wanted` any more when its turn comes is not begun.
        """
        ...

    def count_overrun(self) -> None:
        """Count a frame that is not offered, as too many of its sender wait."""
        ...

    def subscribe(self, callback: Callable[[MapDelta], None]) -> Callable[[], None]:
        """Call back with each delta from now on; returns what ends that."""
        ...

    def counters(self) -> FrameCounters:
        """What became of the frames so far."""
        ...

    def latency(self) -> Mapping[str, Percentiles]:
        """Percentiles of the seconds of each stage."""
        ...

    def metrics(self) -> str:
        """Its figures in the text format of Prometheus."""
        ...

    def flush(self, timeout_s: float, upto: int) -> bool:
        """Wait until what the first `upto` frames changed is out; False if it takes too long."""
        ...

    def stop(self, timeout_s: float) -> bool:
        """End the work; what waits gets the verdict "shutdown"."""
        ...


@dataclass(eq=False)
class Services:
    """All that a session may use; `draining` turns true once, when the server is to end.

    `workers` are threads for work, `waiting` for calls that wait for the engine, two a session at
    most; `note` is told of each frame of a client and its verdict, in a thread of the engine, and
    returns at once; `name` tells this map from that of another run of the server.
    """

    engine: StreamEngine
    feed: Feed
    settings: ServerSettings
    tokens: Tokens | None
    counters: Counters
    seat: "Seat"
    workers: ThreadPoolExecutor
    waiting: ThreadPoolExecutor
    note: Callable[[Frame, Verdict], None] | None
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    sessions: "set[Session]" = field(default_factory=set)
    draining: bool = False

    @property
    def in_flight(self) -> int:
        """Frames of a session that may be on their way, and that the engine has room for."""
        return min(self.settings.max_in_flight, self.engine.settings.queue)

    def health(self) -> Health:
        """The frames of the whole server, by what became of them, and the state of the map."""
        counts = self.engine.counters()
        return Health(
            received=counts.received,
            processed=sum(counts.processed.values()),
            dropped=dict(counts.dropped),
            queued=counts.queued,
            degraded=self.engine.degraded or not self.feed.healthy,
            number=self.feed.number,
            epoch=self.feed.epoch,
            splats=self.feed.splats,
            milliseconds={
                stage: round(1e3 * times.p50, 3)
                for stage, times in self.engine.latency().items()
                if times.count
            },
        )
