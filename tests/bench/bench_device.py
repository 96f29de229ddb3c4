"""One device beside the CPU: the network's forward pass, and gsplat beside the CPU renderer.

Run: python -m tests.bench.bench_device [--device cuda] [--model ffsplat-tiny]
Each line tells the time on the device, the CPU's on one core, and how far the results are apart.
"""

import statistics
import time
from collections.abc import Callable

import click
import torch
from torch import Tensor

from ffsplat.api import load
from ffsplat.geometry import invert_rigid
from ffsplat.render import rasterize
from tests.bench.bench_render import blob_scene

VIEWS, SIDE, REPEATS = 8, 128, 10


def timed(run: Callable[[], object], device: torch.device) -> tuple[float, object]:
    """Median seconds of a call after one to warm up, and what it gives."""
    result, times = run(), []
    for _ in range(REPEATS):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        result = run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def forward(name: str, device: torch.device) -> None:
    """The network on 8 views of noise: float32 and bfloat16 on the device, float32 on the CPU."""
    images = torch.rand(1, VIEWS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    network = load(name, device="cpu", dtype="float32").network
    with torch.inference_mode():
        cpu, truth = timed(lambda: network(images), torch.device("cpu"))
        network, images = network.to(device), images.to(device)
        for dtype in (torch.float32, torch.bfloat16):
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                took, got = timed(lambda: network(images), device)
            apart = (got.depth.cpu().log() - truth.depth.log()).abs()
            turn = invert_rigid(got.world_from_camera.cpu()) @ truth.world_from_camera
            same = got.whole_logits.argmax(-1).cpu() == truth.whole_logits.argmax(-1)
            print(
                f"forward {VIEWS} x {SIDE} px, {dtype}: {1e3 * took:.1f} ms, "
                f"CPU {1e3 * cpu:.1f} ms; "
                f"log depth apart {apart.median():.1e} (median) {apart.max():.1e} (most), "
                f"poses {(turn - torch.eye(4)).abs().max():.1e}, "
                f"same class at {same.float().mean():.1%} of the pixels"
            )


def draw(device: torch.device) -> None:
    """100 k Gaussians at 256 x 256, forward and backward, by gsplat and by the CPU's kernel."""
    scene = blob_scene(100_000, 256, 3)
    pose = torch.eye(4)[None]
    lens = torch.tensor([[[256.0, 0, 128], [0, 256, 128], [0, 0, 1]]])

    def both(where: torch.device) -> tuple[Tensor, Tensor]:
        leaves = [tensor.detach().to(where).requires_grad_() for tensor in scene]
        seen = rasterize(*leaves, pose.to(where), lens.to(where), 256, 256)
        (seen.features.square().mean() + seen.depth.mean()).backward()
        return seen.features.detach().cpu(), leaves[0].grad.cpu()  # pyright: ignore[reportOptionalMemberAccess]

    cpu, truth = timed(lambda: both(torch.device("cpu")), torch.device("cpu"))
    took, got = timed(lambda: both(device), device)
    image, gradient = ((a - b).abs().max() / b.abs().max() for a, b in zip(got, truth, strict=True))
    print(
        f"render 100 k at 256 x 256, forward + backward: {1e3 * took:.1f} ms, "
        f"CPU {1e3 * cpu:.1f} ms; "
        f"image apart {image:.1e}, gradient {gradient:.1e} of the largest"
    )


@click.command()
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu")
@click.option("--model", default="ffsplat-tiny")
def main(device: str, model: str) -> None:
    """Print the lines."""
    where = torch.device(device)
    torch.set_num_threads(1)
    print(torch.cuda.get_device_name() if where.type == "cuda" else "CPU beside itself")
    forward(model, where)
    draw(where)


if __name__ == "__main__":
    main()
