"""Rooms and images a second while training: furnishing, drawing, and the whole step.

Run: python -m tests.bench.bench_train [--device cuda] [--size 128] [--images 256]
"""

import time
from collections.abc import Callable
from pathlib import Path

import click
import torch

from data.rooms import load_atlas
from data.rooms.pool import pool_tensors
from data.rooms.render import furnish_rooms, render_views
from ffsplat.config import ModelConfig
from train.batches import Batches, RoomSource
from train.network import build_network
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
def main(device: str, size: int, images: int, group: int, textures: Path | None) -> None:
    """Print rooms and images a second."""
    where = torch.device(device)
    atlas = load_atlas(textures) if textures else None
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
    pool = {key: torch.cat([room[key] for room in rooms]) for key in rooms[0]}
    network = build_network(ModelConfig(), None, 0).to(where)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    plan = Plan([1], images, VIEW_COUNTS, seed=0)
    batches = Batches([RoomSource(FixedRooms(pool), size)], plan, seed=0)

    def step(number: int) -> None:
        batch = batches[number].to(where)
        pixels = (slice(number % 2, None, 2), slice(None, None, 2))
        with torch.autocast(where.type, torch.bfloat16):
            prediction = network(batch.images, code_pixels=pixels)
        terms = Step(prediction, batch, number, pixels)
        torch.stack([TERMS[name](terms) for name in LOSSES]).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step(0)
    each = seconds(step, 10, where)
    rate = f"{images / each:8.1f} images/s, {1e3 * each:.1f} ms a step"
    print(f"train, {images:4d} images a step {rate}")
    if where.type == "cuda":
        used = torch.cuda.max_memory_allocated() / 2**30
        print(f"memory {used:.1f} GiB of {torch.cuda.get_device_name()}")


if __name__ == "__main__":
    main()
