"""Time what a client pays for its copy of a map: python -m tests.bench.bench_replica.

A map of `--gaussians` in 100 submaps, and deltas that touch `--touched` of them: encode, decode,
apply, the scene after a delta, a correction that moves every submap, and a snapshot.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))

from toydeltas import empty_delta, random_codebook, random_quaternions, random_splats

from ffsplat.stream.delta import MapDelta
from ffsplat.stream.protocol import Deltas, Kind, pack_delta, unpack
from ffsplat.stream.protocol.blocks import MAX_PART
from ffsplat.stream.replica.replica import Replica

SUBMAPS, ROWS, REPEATS = 100, 200, 9
Result = TypeVar("Result")


class Times:
    """Milliseconds of each kind of work."""

    def __init__(self):
        self.taken: dict[str, list[float]] = {}

    def __call__(self, name: str, work: Callable[[], Result]) -> Result:
        start = time.perf_counter()
        result = work()
        self.taken.setdefault(name, []).append((time.perf_counter() - start) * 1e3)
        return result

    def report(self) -> None:
        for name, taken in self.taken.items():
            print(f"{name:24} median {np.median(taken):8.1f} ms   worst {max(taken):8.1f} ms")


def received(messages: list[bytes]) -> MapDelta:
    """The delta of these messages."""
    deltas = Deltas()
    *_, last = (deltas.add(unpack(one, MAX_PART)) for one in messages)
    assert last is not None
    return last[1]


def submaps(number: int) -> dict[str, np.ndarray]:
    """Poses of all submaps, other ones for each number."""
    rng = np.random.default_rng(number)
    turns, places = random_quaternions(rng, SUBMAPS), rng.normal(size=(SUBMAPS, 3))
    poses = np.hstack([np.ones((SUBMAPS, 1)), turns, places])
    return {"submaps": np.arange(SUBMAPS, dtype=np.uint16), "submap_poses": poses}


def main() -> None:
    """Print a table of times and sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gaussians", type=int, default=500_000)
    parser.add_argument("--touched", type=int, default=10_000)
    asked = parser.parse_args()
    rng, times, replica = np.random.default_rng(0), Times(), Replica()
    everything = random_splats(rng, np.arange(asked.gaussians), range(SUBMAPS), ROWS)
    book = random_codebook(rng, ROWS)
    replica.apply(empty_delta(1, splats=everything, codebook=book, **submaps(0)))
    times("first scene", replica.scene)
    for number in range(2, 2 + REPEATS):
        places = np.sort(rng.choice(asked.gaussians, asked.touched, replace=False))
        delta = empty_delta(number, splats=random_splats(rng, places, range(SUBMAPS), ROWS))
        messages = times("encode a delta", lambda delta=delta: pack_delta(delta))
        arrived = times("decode a delta", lambda messages=messages: received(messages))
        times("apply a delta", lambda arrived=arrived: replica.apply(arrived))
        times("scene after a delta", replica.scene)
    print(f"a delta of {asked.touched} Gaussians: {sum(map(len, messages)) / 1e3:.0f} kB")
    moved = empty_delta(2 + REPEATS, **submaps(1))
    print(f"a correction of all submaps: {sum(map(len, pack_delta(moved))) / 1e3:.1f} kB")
    replica.apply(moved)
    times("scene after a correction", replica.scene)
    snapshot = times("take a snapshot", replica.snapshot)
    messages = times("encode a snapshot", lambda: pack_delta(snapshot, Kind.SNAPSHOT))
    arrived = times("decode a snapshot", lambda: received(messages))
    times("begin with a snapshot", lambda: Replica().restore(arrived))
    print(f"a snapshot of {asked.gaussians} Gaussians: {sum(map(len, messages)) / 1e6:.1f} MB")
    times.report()


if __name__ == "__main__":
    main()
