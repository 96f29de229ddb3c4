"""What happens in a stream, made into ROS messages and sent off in a thread of its own."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from ffsplat.errors import UsageError
from ffsplat.hits import Hit
from ffsplat.query import query
from ffsplat.stream.delta import MapDelta
from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.protocol.blocks import pack_delta
from ffsplat.stream.protocol.header import Kind
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.ros.backlog import Backlog
from ffsplat.stream.ros.messages import byte_array
from ffsplat.stream.ros.output import DELTAS, CopiedMap, MapMessages, Output

log = logging.getLogger(__name__)

MAX_BACKLOG_BYTES = 256 << 20
"""What may wait to be sent; more is dropped and counted."""

JOB_BYTES = 2048
"""What it takes to have something wait, besides its pixels and arrays."""

CLOSING_SECONDS = 10.0


class Sink:
    """Tells `send` of frames, of the map and of hits; none of its methods waits for it.

    The first delta, if it is not number 1, and the one after deltas that had to be dropped, is a
    snapshot, so what was sent always adds up to the map. Its own copy of the map follows in its
    thread, for the points. `dropped` counts by kind. When `send` raises, the sink ends, with the
    reason in `failure`, and the stream goes on without it.
    """

    def __init__(
        self,
        send: Callable[[Output], None],
        name: str,
        messages: MapMessages | None = None,
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        self.messages = messages or MapMessages()
        self.dropped: Counter[str] = Counter()
        self._send = send
        self._backlog = Backlog(name, MAX_BACKLOG_BYTES, flush)
        self._copy = Replica()
        self._untold = False
        self._refused: set[str] = set()
        self._next = 1
        self._offer("mount", lambda: [self.messages.mount()], 0)

    @property
    def failure(self) -> Exception | None:
        """What ended it, None while it works."""
        return self._backlog.failure

    def on_frame(self, frame: Frame, verdict: Verdict) -> None:
        """Tell of a frame and of what became of it."""
        size = len(frame.image) if isinstance(frame.image, bytes) else frame.image.nbytes

        def outputs() -> Iterable[Output]:
            yield from self.messages.picture(frame)
            yield from self.messages.placed(frame, verdict)

        self._offer("frames", outputs, size)

    def on_delta(self, delta: MapDelta, replica: CopiedMap) -> None:
        """Tell of a change of the map; `replica` is a copy that has it already, or gets it next."""
        if self.failure is not None:
            return
        if delta.number != self._next:
            snapshot = replica.snapshot()
            self._offer_delta(snapshot, Kind.SNAPSHOT)
        if delta.number == self._next:
            self._offer_delta(delta, Kind.DELTA)

    def on_hits(self, hits: Sequence[Hit], time_ns: int) -> None:
        """Tell of the answer to a query."""
        few = tuple(hits)
        self._offer("hits", lambda: [self.messages.hits(few, time_ns)], 1000 * len(few))

    def close(self) -> None:
        """Send what waits, and the map as it is now, for 10 s at most, and end."""
        self._finish()

    def _finish(self) -> bool:
        """Whether all that waited was sent in time, or nothing can be sent any more."""
        self._offer("maps", self._map, 0)
        return self._backlog.close(CLOSING_SECONDS)

    def _offer_delta(self, delta: MapDelta, kind: Kind) -> None:
        def outputs() -> Iterable[Output]:
            if kind == Kind.SNAPSHOT:
                self._copy.restore(delta)
            else:
                self._copy.apply(delta)
            for part in pack_delta(delta, kind):
                yield Output(DELTAS, byte_array(part), delta.time_ns)
            self._untold = True
            if self.messages.due():
                yield from self._map()

        taken = self._offer("deltas", outputs, _size(delta))
        self._next = delta.number + 1 if taken else -1

    def _map(self) -> Iterable[Output]:
        """The whole map, if it is not what was told last."""
        if self._untold:
            self._untold = False
            snapshot = self._copy.snapshot()
            yield from self.messages.map(snapshot)
            if self.messages.queries:
                yield self.messages.hits(self._found(), snapshot.time_ns)

    def _found(self) -> list[Hit]:
        """What the queries find in the map as it is now; a word that nobody knows finds nothing."""
        scene, hits = self._copy.scene(), []
        for text in self.messages.queries if scene.codebook is not None else ():
            try:
                hits += query(scene, text).hits
            except UsageError as error:
                if text not in self._refused:
                    self._refused.add(text)
                    log.warning("nothing is marked for %r: %s", text, error)
        return hits

    def _offer(self, kind: str, outputs: Callable[[], Iterable[Output]], size: int) -> bool:
        def job() -> None:
            for output in outputs():
                self._send(output)

        taken = self._backlog.offer(job, JOB_BYTES + size)
        self.dropped[kind] += not taken
        return taken


def _size(delta: MapDelta) -> int:
    """About as many bytes as its arrays have."""
    rows = 0 if delta.codebook is None else len(delta.codebook)
    return 48 * len(delta.splats) + 4 * len(delta.removed) + 128 * len(delta.frames) + 4096 * rows
