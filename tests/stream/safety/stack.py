"""Everything that serves a stream, in this process: server, engine and mapper; the network knows.

While it runs its figures are read again and again, and must add up every time.
"""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from ffsplat.stream.engine.engine import Engine
from ffsplat.stream.engine.settings import EngineSettings
from ffsplat.stream.frame import Frame
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.online import OnlineMapper
from ffsplat.stream.server.serve import Address, ServerThread
from ffsplat.stream.server.settings import ServerSettings
from ffsplat.stream.settings import MapperSettings
from tests.stream.stub import StubPredictor
from tests.walks import preview_walk as walk

BOUNDS = MapperSettings(max_splats=60_000, max_keyframes=64, max_submaps=60, max_frames=5000)


@cache
def predictor() -> StubPredictor:
    about = {"model": "truth", "revision": "1", "license": "CC0-1.0"}
    return StubPredictor(walk().places, resolution=64, provenance=about)


def mapper(settings: MapperSettings = BOUNDS) -> Mapper:
    """A mapper without a map."""
    return Mapper(predictor(), settings)


@cache
def jpeg(place: int) -> bytes:
    """What a camera sees at a place of the walk."""
    file = io.BytesIO()
    Image.fromarray(walk().frame(place).image).save(file, "JPEG", quality=95)
    return file.getvalue()


def step(number: int, **more: Any) -> Frame:
    """The frame of this number of one who walks on and on, ten a second."""
    more = {"time_ns": number * 100_000_000, **more}
    return Frame(more.pop("image", jpeg(number % len(walk()))), number=number, **more)


@dataclass
class Books:
    """Reads the figures of an engine all the time; `wrong` holds those that do not add up."""

    engine: Engine
    every: float = 0.05
    scrapes: int = 0

    def __post_init__(self) -> None:
        self.wrong: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Books":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        going = True
        while going:
            going = not self._end.wait(self.every)
            text = self.engine.metrics()
            self.scrapes += 1
            if not adds_up(text):
                self.wrong.append(text)


def adds_up(text: str) -> bool:
    """Whether received = processed + dropped + queued in the metrics of a server or engine."""
    sums = totals(text)
    parts = ("processed_total", "dropped_total", "queued")
    return sums["ffsplat_frames_received_total"] == sum(
        sums.get(f"ffsplat_frames_{part}", 0.0) for part in parts
    )


def totals(text: str) -> dict[str, float]:
    """The sum over all labels, by the name of the sample, as another parser reads it."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def until(reached: Callable[[], bool], seconds: float = 60.0) -> float:
    """Wait for something that nobody tells; the seconds that it took."""
    began = time.monotonic()
    while not reached():
        assert time.monotonic() - began < seconds
        time.sleep(0.005)
    return time.monotonic() - began


@dataclass
class Stack:
    """What runs."""

    engine: Engine
    mapper: Any
    server: ServerThread
    address: Address


@contextmanager
def stack(
    mapped: OnlineMapper | None = None,
    settings: EngineSettings | None = None,
    ready: bool = True,
    **server: Any,
) -> Iterator[Stack]:
    """A stream that is served on loopback until the end of the block; then the books must agree.

    It is `ready` when the block begins, unless that is not wanted.
    """
    mapped = mapped or mapper()
    settings = settings or EngineSettings(drop="block")
    engine = Engine(mapped, replace(settings, publish_s=0.02))
    engine.start()
    until(lambda: engine.ready or not ready)
    options = ServerSettings(port=0, **{"drain": 5.0, "max_fps": 1000.0, **server})
    with Books(engine) as books:
        thread = ServerThread(engine, settings=options)
        try:
            yield Stack(engine, mapped, thread, thread.start())
        finally:
            thread.stop()
            engine.stop()
    assert books.scrapes > 0
    assert not books.wrong, books.wrong[0]
    assert engine.counters().balanced
    assert engine.counters().queued == 0
