"""A stream for as long as one likes, at more than it can take: `python -m tests.bench.soak`.

An engine with a mapper (ffsplat-tiny, or `--stub`) is fed frames of a walk that never ends,
`--rate` times as fast as it works. Printed once a minute and in the end: growth of the resident
memory, by least squares after the warm-up; whether all frames are accounted for; open files and
threads.
"""

import io
import threading
import time
from dataclasses import dataclass, field

import click
import numpy as np
import torch
from PIL import Image

from data.rooms import SPLITS
from data.rooms.walk import Walk, WalkFrame, endless_walk
from ffsplat import load
from ffsplat.stream.delta import MapDelta
from ffsplat.stream.engine.engine import Engine
from ffsplat.stream.engine.settings import EngineSettings
from ffsplat.stream.frame import Frame
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.replica.replica import Replica
from tests.bench.bench_stream import FAULTS, ROOM
from tests.bench.process import descriptors, resident, slope, threads
from tests.stream.stub import StubPredictor

PACE = 60
"""Frames by which the pace of the mapper is measured, and as many before them that do not count."""


@dataclass
class Log:
    """What was found, moment by moment."""

    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    balanced: bool = True

    def note(self, engine: Engine, seconds: float) -> None:
        """Look once."""
        self.seconds.append(seconds)
        self.memory.append(resident())
        self.files.append(descriptors())
        self.threads.append(threads())
        self.balanced &= engine.counters().balanced

    def report(self, warm_up: float) -> str:
        """One line: growth since the warm-up, and extremes of the rest."""
        late = [i for i, second in enumerate(self.seconds) if second >= warm_up]
        growth = "-"
        if len(late) > 2:
            moments, sizes = ([values[i] for i in late] for values in (self.seconds, self.memory))
            growth = f"{slope(moments, sizes):+.2f}"
        return (
            f"{self.seconds[-1] / 60:6.1f} min  {self.memory[-1]:7.1f} MB resident  "
            f"{growth} MB a minute  {min(self.files)}-{max(self.files)} files  "
            f"{min(self.threads)}-{max(self.threads)} threads  "
            f"counters {'add up' if self.balanced else 'DO NOT ADD UP'}"
        )


def encoded(frame: WalkFrame) -> Frame:
    """A frame as a camera would send it."""
    file = io.BytesIO()
    Image.fromarray(frame.image).save(file, "JPEG", quality=92)
    return Frame(file.getvalue(), frame.time_ns, frame.number)


def pace(mapper: Mapper, walk: Walk) -> float:
    """Frames a second that the mapper sustains, over the first ones of a walk."""
    start = 0.0
    for frame in walk.frames(stop=2 * PACE):
        if frame.number == PACE:
            start = time.perf_counter()
        mapper.add(frame.image, frame.time_ns, number=frame.number)
    return PACE / (time.perf_counter() - start)


def feed(engine: Engine, walk: Walk, hz: float, stopped: threading.Event) -> None:
    """Offer frames at their rate until told to stop; what comes late is not caught up."""
    due = time.perf_counter()
    for frame in walk.frames(start=2 * PACE):
        engine.offer(encoded(frame))
        due = max(due + 1 / hz, time.perf_counter() - 1.0)
        if stopped.wait(max(0.0, due - time.perf_counter())):
            return


def soak(
    mapper: Mapper, walk: Walk, hz: float, seconds: float, every: float, warm_up: float
) -> Log:
    """Feed an engine for so long, with a replica that takes all that changes; look `every` s."""
    engine, log, stopped = Engine(mapper, EngineSettings()), Log(), threading.Event()
    replica = Replica()

    def follow(delta: MapDelta) -> None:
        replica.apply(delta)

    engine.subscribe(follow)
    engine.start()
    feeder = threading.Thread(target=feed, args=(engine, walk, hz, stopped), daemon=True)
    begun = told = time.perf_counter()
    feeder.start()
    while (now := time.perf_counter()) - begun < seconds:
        log.note(engine, now - begun)
        if now - told >= 60:
            told = now
            print(log.report(warm_up), {**mapper.statistics()}, flush=True)
        time.sleep(every)
    stopped.set()
    feeder.join()
    ended = engine.stop()
    log.note(engine, time.perf_counter() - begun)
    counters = engine.counters()
    print(f"{log.report(warm_up)}  {'ended in time' if ended else 'DID NOT END'}")
    used, lost = (
        {name: count for name, count in counts.items() if count}
        for counts in (counters.processed, counters.dropped)
    )
    print(f"received {counters.received}: {used}, dropped {lost}, queued {counters.queued}")
    return log


@click.command()
@click.option("--minutes", default=30.0, show_default=True)
@click.option("--rate", default=2.0, show_default=True, help="Times as fast as it can.")
@click.option("--warm-up", default=0.2, show_default=True, help="Share of the time.")
@click.option("--every", default=1.0, show_default=True, help="Seconds between two looks.")
@click.option("--stub", is_flag=True, help="A stub in place of the network.")
@click.option("--processors", default=1, show_default=True, help="Threads of the network.")
def main(minutes, rate, warm_up, every, stub, processors) -> None:
    """Feed a stream more than it can take, and tell whether it grows."""
    torch.set_num_threads(processors)
    walk = endless_walk(SPLITS["preview"][ROOM])
    predictor = StubPredictor(walk.places, FAULTS)
    mapper = Mapper(predictor) if stub else load("ffsplat-tiny", device="cpu").stream()
    hz = pace(mapper, walk)
    print(
        f"it takes {hz:.1f} frames a second and is given {rate * hz:.1f}, for {minutes:g} minutes"
    )
    log = soak(mapper, walk, rate * hz, 60 * minutes, every, 60 * warm_up * minutes)
    third = np.array_split(np.array(log.memory), 3)
    print("resident by thirds, MB:", ", ".join(f"{part.mean():.1f}" for part in third))


if __name__ == "__main__":
    main()
