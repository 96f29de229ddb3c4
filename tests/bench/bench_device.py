"""One device beside the CPU: the network's forward pass, a stream's, and gsplat's renderer.

Run: python -m tests.bench.bench_device [--device cuda] [--model ffsplat-tiny]
Each line tells the time on the device, the CPU's on one core, and how far the results are apart.
The network stage of a stream is told as it is, with what was recorded replayed
(`ffsplat.captured`), beside kernels that are launched one by one.
"""

import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import click
import torch
from torch import Tensor

from ffsplat import one_pass
from ffsplat.api import load
from ffsplat.chunks.some import take_views
from ffsplat.geometry import invert_rigid
from ffsplat.images import load_views
from ffsplat.prediction import Prediction
from ffsplat.predictor import ModelPredictor
from ffsplat.render import rasterize
from ffsplat.types import Views
from tests.bench.bench_render import blob_scene
from tests.bench.walk import render_walk

VIEWS, SIDE, REPEATS = 8, 128, 10
WINDOWS, WINDOW = 30, 4
"""Windows of a walk, and the views of one."""
WARM = 5
"""Windows that are not counted: in these calls are recorded."""


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


def windows_of_a_walk(resolution: int, patch: int) -> list[Views]:
    """Each has one view that the one before has not; its first stays for a while."""
    frames = render_walk(2, WINDOWS + WINDOW).image[0].numpy()
    views = load_views(list(frames), resolution=resolution, patch=patch).views
    return [
        take_views(views, [start // 8 * 8, *range(start + 1, start + WINDOW)])
        for start in range(WINDOWS)
    ]


def stage(name: str, device: torch.device, pixels: int) -> tuple[list[Prediction], str]:
    """What a stream's network says of all windows, and median milliseconds of one."""
    said, rows = [], []
    with patch.object(one_pass, "REPLAYED_PIXELS", pixels):
        seconds: dict[str, float] = {}
        predictor = ModelPredictor(load(name, device=str(device)), seconds=seconds)
        for window in windows_of_a_walk(predictor.resolution, predictor.patch):
            seconds.clear()
            said.append(predictor.predict(window, WINDOW - 1))
            rows.append((sum(seconds.values()), *seconds.values()))
    both, network, cameras = (
        1e3 * statistics.median(one) for one in zip(*rows[WARM:], strict=True)
    )
    return said, f"{both:.1f} ms (network {network:.1f}, cameras {cameras:.1f})"


def stream(name: str, device: torch.device) -> None:
    """The network stage of a stream: views that are known for the most part, cameras refined."""
    replayed, took = stage(name, device, one_pass.REPLAYED_PIXELS)
    plain, launched = stage(name, device, 0)
    pairs = list(zip(replayed, plain, strict=True))
    depth = max((a.depth.log() - b.depth.log()).abs().max().item() for a, b in pairs)
    poses = max((a.world_from_camera - b.world_from_camera).abs().max().item() for a, b in pairs)
    equal = sum(
        all(torch.equal(value, vars(b)[key]) for key, value in vars(a).items() if value is not None)
        for a, b in pairs
    )
    print(
        f"stream, {WINDOW} views: replayed {took}, launched one by one {launched}; "
        f"log depth apart {depth:.1e}, poses {poses:.1e}, "
        f"{equal} of {WINDOWS} windows the same to the last bit"
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
    stream(model, where)
    draw(where)


if __name__ == "__main__":
    main()
