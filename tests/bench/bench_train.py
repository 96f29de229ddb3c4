"""Rooms and images a second while training: furnishing, drawing, and the whole step.

Run: python -m tests.bench.bench_train [--device cuda] [--size 128] [--images 256]
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import torch

from data.rooms import load_atlas
from data.rooms.pool import pool_tensors
from data.rooms.render import furnish_rooms, render_views
from train.batches import RoomBatches
from train.fit import build_module, build_network
from train.recipe import read_recipe
from train.rooms import FixedRooms

RECIPE = Path(__file__).resolve().parents[2] / "train" / "recipes" / "tiny-128.yaml"


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
    recipe = replace(read_recipe(RECIPE), images=images, render_every=0)
    views, atlas = recipe.rooms.views, load_atlas(textures) if textures else None
    furnished = [furnish_rooms(list(range(group)), views, size, size, atlas)]

    def furnish(number: int) -> None:
        seeds = list(range(number * group, (number + 1) * group))
        furnished.append(furnish_rooms(seeds, views, size, size, atlas))

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
    print(f"draw at {size:4d} pixels    {1 / each:8.1f} rooms/s, {views / each:8.1f} images/s")
    pool = {key: torch.cat([room[key] for room in rooms]) for key in rooms[0]}
    module = build_module(recipe, build_network(recipe, None), pool, None).to(where)
    module.log_dict = lambda *arguments, **options: None  # there is no trainer to log to
    optimizer = torch.optim.AdamW(module.network.parameters(), lr=1e-4)
    batches = RoomBatches(FixedRooms(pool), images=images, view_counts=recipe.view_counts,
                          steps=100, seed=0)  # fmt: skip

    def step(number: int) -> None:
        batch = batches[number].to(where)
        with torch.autocast(where.type, torch.bfloat16):
            loss = module.training_step(batch, number)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.network.parameters(), 1.0)
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
