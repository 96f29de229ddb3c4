"""The network's forward pass beside the limit: what the CPU makes of plain matrix products.

Run: python -m tests.bench.bench_forward [--threads 2] [--side 128]
Operations are counted by torch; the limit is the best rate of a large product in the same format.
"""

import time
from collections.abc import Callable

import click
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ffsplat.config import ModelConfig
from ffsplat.model import FFSplat

VIEWS, REPEATS = 8, 7


def best(run: Callable[[], object]) -> float:
    """Fewest seconds of several calls after one to warm up."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def operations(network: FFSplat, images: Tensor) -> int:
    """Operations of a forward pass, counted in bfloat16, where attention is plain products.

    torch counts nothing for the fused kernel that the CPU uses in float32.
    """
    with (
        torch.inference_mode(),
        torch.autocast("cpu", torch.bfloat16),
        FlopCounterMode(display=False) as counter,
    ):
        network(images)
    return counter.get_total_flops()


def matmul_rate(dtype: torch.dtype) -> float:
    """Operations a second of a product of square matrices."""
    a, b = torch.randn(2, 2048, 2048).to(dtype)
    return 2 * 2048**3 / best(lambda: a @ b)


@click.command()
@click.option("--threads", default=2)
@click.option("--side", default=128)
def main(threads: int, side: int) -> None:
    """Print one line a format."""
    torch.set_num_threads(threads)
    network = FFSplat(ModelConfig()).eval()
    images = torch.rand(1, VIEWS, 3, side, side)
    count = operations(network, images)
    for dtype in (torch.float32, torch.bfloat16):
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32),
        ):
            seconds = best(lambda: network(images))
        limit = matmul_rate(dtype)
        print(
            f"{VIEWS} views x {side} px, {dtype}: {1e3 * seconds:.0f} ms, "
            f"{count / 1e9:.1f} GFLOP, {count / seconds / 1e9:.0f} GFLOP/s, "
            f"{count / seconds / limit:.0%} of {limit / 1e9:.0f} GFLOP/s"
        )


if __name__ == "__main__":
    main()
