"""Time grouping and its queries on a million Gaussians: python -m tests.bench.bench_grouping.

[--gaussians N]. Each line names its rival in the same run: scikit-learn's HDBSCAN on all Gaussians
of a scene a hundredth as large for clusters, a plain query for the strategies that smooth or
resolve. Peak memory is that of the process, so it only grows from line to line.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import resource
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ffsplat import codes
from ffsplat.codebook import lexicon_codebook
from ffsplat.grouping import group_instances, super_gaussians
from ffsplat.grouping.neighbors import nearest
from ffsplat.query import query
from ffsplat.query.click import Picked, along_ray, click
from ffsplat.types import Gaussians, Scene

NAMES = ("chair", "table", "sofa", "bed", "plant", "box", "cup", "television")


def furnished(count: int, things: int = 60) -> Scene:
    """A floor with named boxes on it, Gaussians on all surfaces, as the first photo sees it."""
    generator = np.random.default_rng(0)
    book = lexicon_codebook()
    owner = np.sort(generator.integers(-1, things, count))
    middle = generator.uniform([-4, 0.5, 1], [4, 1, 9], (things, 3))
    size = generator.uniform(0.2, 1.0, (things, 3))
    points = generator.uniform(-0.5, 0.5, (count, 3))
    axis = generator.integers(0, 3, count)
    points[np.arange(count), axis] = np.sign(points[np.arange(count), axis]) / 2
    means = np.where(owner[:, None] < 0, points * [10, 0.01, 10] + [0, 1.5, 5],
                     points * size[owner] + middle[owner])  # fmt: skip
    kinds = np.array([book.names.index(name) for name in NAMES])
    row = np.where(owner < 0, book.names.index("floor"), kinds[owner % len(kinds)])
    other = kinds[generator.integers(0, len(kinds), count)]
    gaussians = Gaussians(
        means.astype(np.float32),
        np.full((count, 3), 0.01, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, 0.8, np.float32),
        generator.normal(0, 0.1, (count, 1, 3)).astype(np.float32),
    )
    weights = np.tile(np.array([0.8, 0.2], np.float32), (count, 1))
    code = codes.from_pairs(np.stack([row, other], axis=1), weights)
    return Scene(gaussians, code, owner.astype(np.int32), book, metric=True)


def seconds(name: str, work: Callable[[], object], rival: float | None = None) -> float:
    """Time one call and print it with its ratio to a rival and the peak memory so far."""
    start = time.perf_counter()
    work()
    taken = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    ratio = "" if rival is None else f"{taken / rival:8.1f}x"
    print(f"{name:46s} {taken:8.2f} s {ratio:>10s}   peak {peak:.2f} GiB")
    return taken


def main() -> None:
    """Print one line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gaussians", type=int, default=1_000_000)
    count = parser.parse_args().gaussians
    scene = furnished(count)
    bare = replace(scene, instances=None)
    print(f"{count} Gaussians")

    from sklearn.cluster import HDBSCAN

    few = bare[:: 50 if count >= 100_000 else 10]
    every = np.concatenate([few.gaussians.means, few.gaussians.colors], axis=1)
    rival = HDBSCAN(min_cluster_size=20, cluster_selection_epsilon=0.01, copy=True)
    name = f"HDBSCAN on {len(few)} Gaussians, no cells"
    base = seconds(name, lambda: rival.fit(every))
    seconds("group_instances, all Gaussians", lambda: group_instances(bare), base)
    seconds("super_gaussians, 256 pieces", lambda: super_gaussians(bare), base)

    query(scene, "chair")
    plain = seconds("query lexicon", lambda: query(scene, "chair"))
    means = scene.gaussians.means
    seconds("ten nearest neighbours", lambda: nearest(means, means, 10), plain)
    growing = {"strategy": "growing"}
    seconds("query growing, first text", lambda: query(scene, "chair", **growing), plain)
    seconds("query growing, next text", lambda: query(scene, "sofa", **growing), plain)
    labels = {"strategy": "ensemble", "labels": NAMES}
    seconds("query ensemble, 8 labels", lambda: query(scene, "chair", **labels), plain)
    phrase = "the chair nearest the sofa nearest the bed"
    seconds(f"query refer {phrase!r}", lambda: _referred(scene, phrase), plain)
    origin, ahead = np.array([0, 0.5, -1.0]), np.array([0.2, 0.1, 1.0])
    seconds(
        "click: Gaussians along a ray", lambda: along_ray(scene.gaussians, origin, ahead), plain
    )
    for what in ("instance", "code", "row"):
        picked = Picked.of(count // 2)
        seconds(f"click: same {what}", lambda w=what, p=picked: click(scene, p, w), plain)


def _referred(scene: Scene, phrase: str) -> None:
    from ffsplat.errors import UsageError

    try:
        query(scene, phrase, strategy="refer")
    except UsageError as refused:  # several sofas may be nearest: the time is that of an answer
        print(f"    refused: {refused}"[:100])


if __name__ == "__main__":
    main()
