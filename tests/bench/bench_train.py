"""Rooms and images a second while training: furnishing, drawing, and the whole step.

Run: python -m tests.bench.bench_train [--device cuda] [--size 128] [--images 768] [--group 128]
     [--compile] [--kernels 40]
"""

import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
from torch.profiler import profile, record_function

from data.rooms import Atlas, load_atlas
from data.rooms.pool import pool_tensors
from data.rooms.render import furnish_rooms, render_views
from ffsplat.config import ModelConfig
from train.batches import Batches, RoomSource
from train.network import build_network, compile_network
from train.plan import Plan
from train.rooms import FixedRooms
from train.terms import TERMS, Step

VIEWS = 6
VIEW_COUNTS = (2, 2, 3, 4, 6)
LOSSES = ("depth", "gradient", "error", "scale", "rotation", "translation", "focal", "whole",
          "part", "instance", "match", "token_match")  # fmt: skip


def seconds(run: Callable[[int], object], times: int, device: torch.device) -> float:
    """Mean seconds of a call after one to warm up; it is told its number."""
    run(0)
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for number in range(1, times + 1):
        run(number)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / times


@click.command()
@click.option("--device", default="cpu")
@click.option("--size", default=64)
@click.option("--images", default=16)
@click.option("--group", default=4)
@click.option("--textures", type=click.Path(exists=True, path_type=Path))
@click.option("--compile", "fuse", is_flag=True, help="Fuse kernels as the GPU recipe does.")
@click.option("--kernels", default=0, help="How many of the longest operations of a step to list.")
def main(
    device: str, size: int, images: int, group: int, textures: Path | None, fuse: bool, kernels: int
) -> None:
    """Print rooms and images a second, and what a step spends its time on."""
    where = torch.device(device)
    pool = measure_rooms(where, size, group, load_atlas(textures) if textures else None)
    step = training_step(where, RoomSource(FixedRooms(pool), size), images, fuse)
    step(0)
    each = seconds(step, 10, where)
    rate = f"{images / each:8.1f} images/s, {1e3 * each:.1f} ms a step"
    print(f"train, {images:4d} images a step {rate}")
    if where.type == "cuda":
        used = torch.cuda.max_memory_allocated() / 2**30
        print(f"memory {used:.1f} GiB of {torch.cuda.get_device_name()}")
    if kernels:
        with profile() as seen:
            seconds(step, 4, where)
        by = f"self_{where.type}_time_total"
        print(seen.key_averages().table(by, row_limit=kernels, max_name_column_width=80))


def measure_rooms(
    where: torch.device, size: int, group: int, atlas: Atlas | None
) -> dict[str, torch.Tensor]:
    """Print how fast rooms are furnished and drawn; returns those that were drawn."""
    furnished = [furnish_rooms(list(range(group)), VIEWS, size, size, atlas)]

    def furnish(number: int) -> None:
        seeds = list(range(number * group, (number + 1) * group))
        furnished.append(furnish_rooms(seeds, VIEWS, size, size, atlas))

    each = seconds(furnish, 4, torch.device("cpu")) / group
    print(f"furnish, one process   {1 / each:8.1f} rooms/s")
    drawn_with = None if atlas is None else atlas.to(where)
    rooms = []

    def draw(number: int) -> None:
        scenes, cameras = (part.to(where) for part in furnished[number % len(furnished)])
        batch = render_views(scenes, cameras, list(range(group)), drawn_with)
        rooms.append(pool_tensors(batch))

    with torch.no_grad():
        each = seconds(draw, 4, where) / group
    print(f"draw at {size:4d} pixels    {1 / each:8.1f} rooms/s, {VIEWS / each:8.1f} images/s")
    return {key: torch.cat([room[key] for room in rooms]) for key in rooms[0]}


def training_step(
    where: torch.device, source: RoomSource, images: int, fuse: bool
) -> Callable[[int], None]:
    """One step of training, by its number; a profile names its parts."""
    network = build_network(ModelConfig(), None, 0).to(where)
    if fuse:
        compile_network(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    batches = Batches([source], Plan([1], images, VIEW_COUNTS, seed=0), seed=0)

    def step(number: int) -> None:
        with record_function("draw a batch"):
            batch = batches[number].to(where)
        pixels = (slice(number % 2, None, 2), slice(None, None, 2))
        with record_function("network"), torch.autocast(where.type, torch.bfloat16):
            prediction = network(batch.images, code_pixels=pixels)
        terms = Step(prediction, batch, number, pixels)
        losses = []
        for name in LOSSES:
            with record_function(f"loss {name}"):
                losses.append(TERMS[name](terms))
        with record_function("backward"):
            torch.stack(losses).sum().backward()
        with record_function("optimizer"):
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
