"""The online mapper by frame number: `python -m tests.bench.bench_stream [--frames 10000]`.

A walk through one room that never ends goes through a mapper with ffsplat-tiny: what frames cost
around number 100, 200, 500 and so on, by stage, and how much memory is resident then. A machine is
not as fast at the end as it was at the start, so more frames are mapped in turns by a second mapper
too, to which they are those around number 100. After that 640x480 JPEGs come 30 times a second to
an engine whose mapper has a stub for its network: what is beyond the network.
"""

import io
import time
from dataclasses import dataclass

import click
import numpy as np
import torch
from PIL import Image

from data.rooms import SPLITS
from data.rooms.walk import Walk, WalkFrame, endless_walk
from ffsplat import load
from ffsplat.stream.mapper import Mapper
from tests.bench.overhead import overhead, percentiles, show
from tests.bench.process import resident
from tests.stream.stub import Faults, StubPredictor

ROOM = 2
"""Number of the walk's room in the split `preview`."""
AROUND = 50
"""Frames before and after a number over which its cost is averaged."""
NUMBERS = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
STAGES = ("network", "place", "fuse", "publish")
FAULTS = Faults(depth=0.02, turn=0.3, move=0.005, scale=0.05)
"""Those of a stub: its windows then do not fit exactly, as a network's do not."""


@dataclass(frozen=True)
class Cost:
    """What one frame took: wall time by stage and processor time, seconds; megabytes resident."""

    stages: dict[str, float]
    wall: float
    processor: float
    memory: float
    keyframe: bool


def cost(mapper: Mapper, frame: WalkFrame) -> Cost:
    """Map a frame; what is left of it to do beside is waited for."""
    wall, processor = time.perf_counter(), time.process_time()
    verdict = mapper.add(frame.image, frame.time_ns, number=frame.number)
    placed = time.perf_counter()
    mapper.take_delta()
    done = time.perf_counter()
    stages = {**verdict.seconds, "publish": done - placed}
    processor = time.process_time() - processor
    return Cost(stages, done - wall, processor, resident(), verdict.reason == "keyframe")


def in_turns(mapper: Mapper, walk: Walk, number: int) -> tuple[list[Cost], list[Cost]]:
    """The next frames of a mapper at `number`, and in turns the same of one begun just before.

    To that one they are its frames around number 100.
    """
    first, last = [], []
    young = Mapper(mapper.predictor)
    for frame in walk.frames(number - NUMBERS[0] + AROUND, number):
        cost(young, frame)
    for frame in walk.frames(number, number + 2 * AROUND):
        first.append(cost(young, frame))
        last.append(cost(mapper, frame))
    return first, last


def mean(near: list[Cost]) -> dict[str, float]:
    """Means over some frames; milliseconds, megabytes and the share of keyframes."""
    return {
        "wall": 1000 * float(np.mean([one.wall for one in near])),
        "processor": 1000 * float(np.mean([one.processor for one in near])),
        **{
            name: 1000 * float(np.mean([one.stages.get(name, 0.0) for one in near]))
            for name in STAGES
        },
        "resident": near[-1].memory,
        "keyframes": float(np.mean([one.keyframe for one in near])),
    }


def table(rows: dict[int, list[Cost]]) -> None:
    """Print means by frame number, and the processor time over that of the first row."""
    means = {number: mean(near) for number, near in rows.items()}
    first = means[min(means)]
    titles = "".join(f"{name:>11}" for name in first)
    print(f"{'frame':>8}{titles}{'of first':>11}")
    for number, row in means.items():
        cells = "".join(
            f"{value:>11.0%}" if name == "keyframes" else f"{value:>11.1f}"
            for name, value in row.items()
        )
        print(f"{number:>8}{cells}{row['processor'] / first['processor']:>11.0%}")


def report(found: list[Cost]) -> None:
    """Print costs by frame number, then the percentiles of the stages over all frames."""
    last = len(found) - AROUND
    numbers = sorted({last, *(one for one in NUMBERS if one < last)})
    table({number: found[number - AROUND : number + AROUND] for number in numbers})
    print(f"{len(found) / sum(one.wall for one in found):.1f} frames a second in all")
    print(f"{'ms':<10}" + "".join(f"{name:>9}" for name in ("p50", "p95", "p99", "p99.9")))
    for name in STAGES:
        values = percentiles([one.stages[name] for one in found if name in one.stages])
        print(f"{name:<10}" + "".join(f"{value:9.2f}" for value in values.values()))


def jpegs(walk: Walk, count: int = 300) -> list[bytes]:
    """Frames of a walk as JPEGs of 640x480, enlarged."""
    files = []
    for frame in walk.frames(stop=min(count, len(walk))):
        file = io.BytesIO()
        large = Image.fromarray(frame.image).resize((640, 480), Image.Resampling.BICUBIC)
        large.save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    return files


@click.command()
@click.option("--frames", default=1000, show_default=True, help="Length of the walk.")
@click.option("--stub", is_flag=True, help="Walk with a stub for the network.")
@click.option("--hz", default=30.0, show_default=True)
@click.option("--seconds", default=20.0, show_default=True, help="Of JPEGs; 0 leaves them out.")
@click.option("--threads", default=1, show_default=True, help="Of the network.")
@click.option("--device", default="cpu", show_default=True, help="Of the network.")
def main(frames: int, stub: bool, hz: float, seconds: float, threads: int, device: str) -> None:
    """Print what frames cost by their number, then what is beyond the network."""
    torch.set_num_threads(threads)
    walk = endless_walk(SPLITS["preview"][ROOM])
    exact = StubPredictor(walk.places, FAULTS)
    if frames:
        mapper = Mapper(exact) if stub else load("ffsplat-tiny", device=device).stream()
        print(f"{frames} frames of a room, {len(walk)} to a loop, {'stub' if stub else 'network'}")
        report([cost(mapper, frame) for frame in walk.frames(0, frames)])
        first, last = in_turns(mapper, walk, frames)
        print("in turns:")
        table({NUMBERS[0]: first, frames + AROUND: last})
        print(", ".join(f"{name} {value:g}" for name, value in mapper.statistics().items()))
    if seconds:
        print(f"beyond the network: 640x480 JPEGs at {hz:g} Hz, stub")
        show(overhead(Mapper(exact), jpegs(walk), hz, seconds))


if __name__ == "__main__":
    main()
