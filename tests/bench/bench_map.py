"""Time the map of a stream: python -m tests.bench.bench_map [--splats N] [--observations N].

One frame is fused into a full map: with the places that it belongs to known, looked up by cell in
four submaps besides its own, and all new, so that as many have to give way. The rival is the
repository's own fusion in numpy (`fusion.merge_voxels`) of the frame and of the Gaussians that it
met, which somebody else has found. Target: 4 ms for 12 288 observations.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ffsplat import codes
from ffsplat.alignment import Similarity
from ffsplat.chunks.join import join_scenes
from ffsplat.fusion import merge_voxels
from ffsplat.stream.map import Observed, SplatMap, warm_up
from ffsplat.stream.settings import MapperSettings
from ffsplat.types import Gaussians, Scene
from tests.bench.bench_query import milliseconds

CELL = 0.02
SUBMAPS = 8
TARGET = 4.0


def frame(rng: np.random.Generator, n: int, room: float) -> Observed:
    """A square of wall, one pixel a cell, somewhere in a cube of side `room`."""
    side = int(np.ceil(np.sqrt(n)))
    across, down = np.meshgrid(np.arange(side), np.arange(side))
    flat = CELL * np.stack([across.ravel(), down.ravel(), 0.3 * across.ravel()], 1)[:n]
    axes, tile = rng.permutation(3), 8 * CELL
    objects = flat[:, 0] // tile + np.ceil(side * CELL / tile) * (flat[:, 1] // tile)
    return Observed(
        means=(flat[:, axes] + room * rng.random(3)).astype(np.float32),
        scales=np.float32(CELL / 2) * (0.5 + rng.random((n, 3), np.float32)),
        quaternions_wxyz=rng.standard_normal((n, 4), np.float32),
        opacities=rng.random(n, np.float32),
        colors=rng.random((n, 3), np.float32),
        confidence=0.1 + np.float32(0.9) * rng.random(n, np.float32),
        ids=(objects[:, None] * 4 + np.arange(4)).astype(np.int16) % 1000,
        weights=rng.random((n, 4), np.float32),
        instances=objects.astype(np.int32),
        target=np.full(n, -1, np.int32),
    )


def full_map(rng: np.random.Generator, splats: int, n: int, room: float) -> SplatMap:
    """A map with hardly a free place."""
    full = SplatMap(replace(MapperSettings(), max_splats=splats), CELL)
    for _ in range(SUBMAPS):
        full.add_submap(Similarity(1.0, np.eye(3), rng.standard_normal(3)))
    now = 0
    while len(full) < splats - n:
        full.fuse(frame(rng, n, room), now % SUBMAPS, [], now)
        now += 1
    full.take_changes()
    return full


def as_scene(observed: Observed) -> Scene:
    """A frame as `merge_voxels` takes it."""
    gaussians = Gaussians(
        observed.means,
        observed.scales,
        observed.quaternions_wxyz,
        observed.opacities,
        observed.colors[:, None],
    )
    return Scene(gaussians, codes.from_pairs(observed.ids, observed.weights), observed.instances)


def report(name: str, work: Callable[[], object], target: float | None = None) -> float:
    """Print a line, and give the median."""
    median, least = milliseconds(work)
    verdict = "" if target is None else "   target met" if median <= target else "   target MISSED"
    print(f"{name:44s} {median:8.2f} ({least:.2f}) ms{verdict}")
    return median


def main() -> None:
    """Print one line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splats", type=int, default=500_000)
    parser.add_argument("--observations", type=int, default=12_288)
    options = parser.parse_args()
    n, room = options.observations, 60 * CELL * np.sqrt(options.observations) / 10
    rng = np.random.default_rng(0)
    warm_up()
    splats = full_map(rng, options.splats, n, room)
    print(f"{n} observations, {len(splats)} Gaussians, {splats.nbytes / options.splats:.0f} bytes")
    print("a place; median (minimum) of 15, one thread")
    seen = frame(rng, n, room)
    places = splats.fuse(seen, 0, [], 1000)
    known = replace(seen, target=places)
    ours = report("fuse, places known", lambda: splats.fuse(known, 0, [], 1001), TARGET)
    report("fuse, looked up in 5 submaps", lambda: splats.fuse(seen, 0, [1, 2, 3, 4], 1002), TARGET)
    fresh = iter([frame(rng, n, room) for _ in range(16)])
    report("fuse, all new, others give way", lambda: splats.fuse(next(fresh), 0, [], 1003))
    report(
        "take changes of one frame",
        lambda: (splats.fuse(known, 0, [], 1004), splats.take_changes()),
    )
    depth = np.full((96, 128), 0.3, np.float32)
    pinhole = np.array([[100.0, 0, 64], [0, 100, 48], [0, 0, 1]])
    near = list(range(SUBMAPS))
    report(
        "carve, all submaps",
        lambda: splats.carve(depth, np.eye(4), pinhole, depth, depth > 0, near, 1e-9),
    )
    report("state of the whole map", splats.state)
    report("the whole map as a scene", splats.gaussians)
    scene, confidence = as_scene(seen), np.append(seen.confidence, seen.confidence)
    both = join_scenes(scene, scene, CELL)
    theirs = report("numpy, those met and those seen", lambda: merge_voxels(both, confidence, CELL))
    print(f"ratio {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
