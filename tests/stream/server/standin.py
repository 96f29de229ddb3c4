"""An engine without a network: each frame becomes a small delta, at once or when it is let."""

import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from ffsplat.codebook import lexicon_codebook, lexicon_rows
from ffsplat.stream.delta import FramePoses, MapDelta, SplatRows
from ffsplat.stream.engine.counters import Tally
from ffsplat.stream.engine.latency import Percentiles
from ffsplat.stream.engine.settings import EngineSettings
from ffsplat.stream.frame import Frame, Verdict

CODEBOOK = lexicon_codebook()
CHAIR = next(i for i, row in enumerate(lexicon_rows()) if row.name == "chair")


def make_delta(number: int, splats: int = 20, seed: int = 0) -> MapDelta:
    """Chairs of instance 3 in one submap, a camera, and with the first delta a codebook."""
    random = np.random.default_rng((seed, number))
    first = number == 1
    return MapDelta(
        number=number,
        epoch=0,
        time_ns=1_000_000 * number,
        splats=SplatRows(
            gids=np.arange(splats, dtype=np.uint32) + np.uint32(7 * number),
            submaps=np.zeros(splats, np.uint16),
            means=random.standard_normal((splats, 3)).astype(np.float32),
            scales=random.uniform(0.01, 0.1, (splats, 3)).astype(np.float16),
            quaternions_wxyz=np.tile(np.array([127, 0, 0, 0], np.int8), (splats, 1)),
            opacities=np.full(splats, 200, np.uint8),
            colors=random.integers(0, 256, (splats, 3)).astype(np.uint8),
            ids=np.tile(np.array([CHAIR, -1, -1, -1], np.int16), (splats, 1)),
            weights=np.tile(np.array([255, 0, 0, 0], np.uint8), (splats, 1)),
            instances=np.full(splats, 3, np.int32),
        ),
        removed=np.array([7 * number - 7], np.uint32)[int(first) :],
        submaps=np.zeros(int(first), np.uint16),
        submap_poses=np.array([[1.0, 1, 0, 0, 0, 0, 0, 0]])[: int(first)],
        removed_submaps=np.zeros(0, np.uint16),
        frames=FramePoses(
            numbers=np.array([number], np.int64),
            times_ns=np.array([1_000_000 * number], np.int64),
            submaps=np.zeros(1, np.uint16),
            poses=np.array([[1.0, 0, 0, 0, 0, 0, 0]]),
            intrinsics=np.array([[500, 500, 320, 240, 640, 480]], np.float32),
            keyframes=np.ones(1, np.uint8),
        ),
        codebook=CODEBOOK if first else None,
    )


class StandIn:
    """What a server needs of an engine. `held` frames wait until `release`; each makes a delta."""

    def __init__(self, held: bool = False, splats: int = 20):
        self.settings = EngineSettings()
        self.alive = self.ready = True
        self.degraded = False
        self.epoch = 0
        self.held = held
        self.splats = splats
        self.number = 0
        self.offered: list[Frame] = []
        self.stopped_for: float | None = None
        self.came = threading.Semaphore(0)
        self._lock = threading.RLock()
        self._tally = Tally()
        self._waiting: deque[tuple[Frame, Callable[[Verdict], None] | None]] = deque()
        self._subscribers: list[Callable[[MapDelta], None]] = []

    def offer(
        self,
        frame: Frame,
        done: Callable[[Verdict], None] | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        with self._lock:
            self._tally.received += 1
            self.offered.append(frame)
            self._waiting.append((frame, done))
        self.came.release()
        if not self.held:
            self.release()

    def count_overrun(self) -> None:
        with self._lock:
            self._tally.received += 1
            self._tally.settle("queue_full")

    def release(self) -> None:
        """Judge one frame: it becomes a keyframe, and then a delta."""
        with self._lock:
            frame, done = self._waiting.popleft()
            self._tally.settle("keyframe")
            self.publish()
        if done is not None:
            done(Verdict(frame.number, "keyframe", np.eye(4), {"network": 0.002}))

    def publish(self, count: int = 1) -> None:
        """Change the map without any frame."""
        for _ in range(count):
            self.publish_delta(make_delta(self.number + 1, self.splats))

    def publish_delta(self, delta: MapDelta) -> None:
        """Change the map by the next delta."""
        self.number = delta.number
        for callback in self._subscribers:
            callback(delta)

    def subscribe(self, callback: Callable[[MapDelta], None]) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def counters(self):
        with self._lock:
            return self._tally.counters(len(self._waiting))

    def latency(self) -> dict[str, Percentiles]:
        return {"network": Percentiles(3, 0.002, 0.003, 0.003, 0.003)}

    def metrics(self) -> str:
        return "# TYPE ffsplat_frames_received_total counter\nffsplat_frames_received_total 0\n"

    def flush(self, timeout_s: float, upto: int) -> bool:
        with self._lock:
            return not self._waiting

    def stop(self, timeout_s: float = 10.0) -> bool:
        self.stopped_for = timeout_s
        with self._lock:
            while self._waiting:
                self.release()
        return True
