"""What a stream costs beyond its network: frames at their rate through the engine, to verdicts.

`python -m tests.bench.overhead [seconds]` measures the engine alone, with a mapper that does
nothing; `bench_stream` gives `overhead` a real mapper with a stub for its network.
"""

import io
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from ffsplat.stream.engine.engine import Engine, EngineSettings
from ffsplat.stream.engine.pauses import pause_less
from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.online import OnlineMapper
from tests.stream.mappers import StandIn

PERCENTS = {"p50": 50, "p95": 95, "p99": 99, "p999": 99.9}
WARM_UP = 30
"""Frames at the start that do not count: imports, caches and the first window."""


class Clocked:
    """Offers frames and keeps, for each that the worker had, the wall time to its verdict."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.beyond: list[float] = []
        self.verdicts: list[Verdict] = []
        self._lock = threading.Lock()

    def run(self, jpegs: Sequence[bytes], hz: float, numbers: range) -> None:
        """Offer these frames at their rate."""
        start = time.perf_counter() - numbers[0] / hz
        for number in numbers:
            time.sleep(max(0.0, start + number / hz - time.perf_counter()))
            self.offer(Frame(jpegs[number % len(jpegs)], round(number / hz * 1e9), number))

    def offer(self, frame: Frame) -> None:
        """Offer one frame now."""
        begun = time.perf_counter()

        def done(verdict: Verdict) -> None:
            wall = time.perf_counter() - begun
            with self._lock:
                self.verdicts.append(verdict)
                if "decode" in verdict.seconds:
                    self.beyond.append(wall - verdict.seconds.get("network", 0.0))

        self.engine.offer(frame, done)


class Nothing(StandIn):
    """A mapper that does nothing, in no time."""

    def add(self, *arguments, **more) -> Verdict:
        return replace(super().add(*arguments, **more), seconds={})


class Noted:
    """A mapper of whose frames the time is kept that they took after their verdict was told."""

    def __init__(self, mapper: OnlineMapper):
        self.mapper = mapper
        self.fuse: dict[int, float] = {}
        """Seconds by number of the frame."""

    def __getattr__(self, name: str) -> object:
        return getattr(self.mapper, name)

    def add(self, *arguments, **more) -> Verdict:
        verdict = self.mapper.add(*arguments, **more)
        self.fuse[verdict.number] = verdict.seconds.get("fuse", 0.0)
        return verdict


def overhead(
    mapper: OnlineMapper, jpegs: Sequence[bytes], hz: float, seconds: float
) -> dict[str, float | dict[str, float]]:
    """Milliseconds a frame beyond the network when `jpegs` come `hz` times a second, in a circle.

    "overhead" is from `offer` to the verdict less the seconds of the network that the mapper
    states; it holds the waiting for frames before it, their network too. "own" is the sum of the
    frame's stages up to the verdict without network and queue, "whole" that and "fuse", after which
    the worker is free for the next one. The stages have their own percentiles; "publish" comes
    last. Frames that were dropped before the worker had them are only counted. "cpu" is the
    processor time of the whole process for each frame, the network's too: what the map takes in
    beside, on another core, counts here, and in "own" only where the next frame waits for it.
    """
    pause_less()  # as `ffsplat stream` does
    noted = Noted(mapper)
    engine = Engine(noted, EngineSettings())
    engine.subscribe(lambda delta: None)
    engine.start()
    Clocked(engine).run(jpegs, hz, range(WARM_UP))
    engine.flush()
    clocked, before = Clocked(engine), time.process_time()
    clocked.run(jpegs, hz, range(WARM_UP, WARM_UP + round(hz * seconds)))
    engine.flush()
    cpu = time.process_time() - before
    publish = engine.latency()["publish"]
    engine.stop()
    worked = [one for one in clocked.verdicts if "decode" in one.seconds]
    own = [own_seconds(one) for one in worked]
    fuse = [noted.fuse.get(one.number, 0.0) for one in worked]
    stages = sorted({name for verdict in worked for name in verdict.seconds} - {"fuse"})
    return {
        "frames": len(clocked.verdicts),
        "used": sum(verdict.used for verdict in clocked.verdicts),
        "cpu": 1000 * cpu / max(1, len(clocked.verdicts)),
        "overhead": percentiles(clocked.beyond),
        "own": percentiles(own),
        "whole": percentiles([sum(pair) for pair in zip(own, fuse, strict=True)]),
        **{
            name: percentiles([one.seconds[name] for one in worked if name in one.seconds])
            for name in stages
        },
        "fuse": percentiles(fuse),
        "publish": {name: 1000 * getattr(publish, name) for name in PERCENTS},
    }


def own_seconds(verdict: Verdict) -> float:
    """What was done for a frame up to its verdict, besides its network."""
    skipped = ("network", "queue", "fuse")
    return sum(value for stage, value in verdict.seconds.items() if stage not in skipped)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """In milliseconds, by name."""
    values = np.percentile(seconds, list(PERCENTS.values())) if len(seconds) else np.zeros(4)
    return dict(zip(PERCENTS, (1000 * values).tolist(), strict=True))


def show(figures: dict[str, float | dict[str, float]]) -> None:
    """Print a table."""
    print(
        f"{figures['frames']} frames, {figures['used']} used, {figures['cpu']:.2f} ms CPU a frame"
    )
    print(f"{'ms':<10}" + "".join(f"{name:>9}" for name in PERCENTS))
    for name, row in figures.items():
        if isinstance(row, dict):
            print(f"{name:<10}" + "".join(f"{value:9.2f}" for value in row.values()))


def pictures(count: int = 30) -> list[bytes]:
    """JPEGs of 640x480 with as much detail as photos have: noise over several scales."""
    random = np.random.default_rng(0)
    base = np.zeros((480, 800, 3))
    for side in (8, 16, 40, 80, 160):
        small = random.uniform(-30, 30, (480 // side + 1, 800 // side + 1, 3))
        base += np.kron(small, np.ones((side, side, 1)))[:480, :800]
    base = (128 + base + random.normal(0, 4, base.shape)).clip(0, 255).astype(np.uint8)
    return [to_jpeg(base[:, 5 * step : 5 * step + 640]) for step in range(count)]


def to_jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=85)
    return file.getvalue()


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    show(overhead(Nothing(resolution=256), pictures(), 30.0, seconds))
