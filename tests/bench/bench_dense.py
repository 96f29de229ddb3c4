"""Dense features beside a plain pass of the same network over the same windows.

Run: python -m tests.bench.bench_dense [--arch ViT-B-16] [--views 8] [--height 378] [--width 504]
Weights are random: time and memory do not depend on them. The ratio is that of medians in one run.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import torch

from ffsplat.clip import ClipName, random_clip
from ffsplat.semantics.dense import TAG, WINDOWS, DenseClip, patched_size
from ffsplat.semantics.dense_ways import embedded

REPEATS = 3
PATCH = 14
"""Of the other network, as Depth Anything 3 has it."""


def seconds(work: Callable[[], object]) -> float:
    """Median of several calls after one to warm up."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@click.command()
@click.option("--arch", default="ViT-B-16")
@click.option("--views", default=8)
@click.option("--height", default=378)
@click.option("--width", default=504)
@click.option("--threads", default=2)
def main(arch: str, views: int, height: int, width: int, threads: int) -> None:
    """Print one line a way: seconds a view, and their ratio to plain passes over its windows."""
    torch.set_num_threads(threads)
    clip = random_clip(ClipName(arch, TAG))
    images = torch.rand(views, 3, height, width)
    other = torch.randn(views, (height // PATCH) * (width // PATCH), 384)
    for way in WINDOWS:
        network = DenseClip(clip=clip, way=way)
        size = patched_size((height, width), network.patch, network.scales[0])
        windows = list(network.windows(way, size))
        one = torch.rand(1, 3, *windows[0][2:])
        plain = seconds(lambda one=one: plain_pass(clip.model.visual, one)) * len(windows)
        affinity = other if way == "proxy" else None
        each = seconds(lambda n=network, a=affinity: n.features(images, affinity=a)) / views
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{way:6s} {each:7.3f} s a view   {each / plain:.2f}x of {len(windows)} plain passes"
            f"   peak {peak:.2f} GiB"
        )


@torch.inference_mode()
def plain_pass(visual: Any, images: torch.Tensor) -> torch.Tensor:
    """All blocks of the network over one window, as it is."""
    tokens, _ = embedded(visual, images)
    return visual.transformer(tokens)


if __name__ == "__main__":
    main()
