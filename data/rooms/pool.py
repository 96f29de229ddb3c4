"""Pools: rooms rendered once and kept as safetensors chunks for many passes of training."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from data.rooms.render import RoomBatch, render_rooms
from data.rooms.splits import split_seeds
from data.rooms.textures import Atlas

CHUNK = 250
"""Rooms in a chunk."""

FORMAT = """Chunks chunk_*.safetensors of up to 250 rooms (n), v views each, h x w pixels:
image              uint8   n v h w 3  sRGB
depth              float16 n v h w    z-depth in metres at pixel centres
whole              uint8   n v h w    row of the lexicon's level `whole`
part               uint8   n v h w    row of the lexicon's level `part`
instance           uint8   n v h w    0 = structure; one number an object, the same in all views
intrinsics         float32 n v 3 3    pixels, pixel centres at half-integers
world_from_camera  float32 n v 4 4    metres, OpenCV camera axes, world z up
seed               int64   n
A chunk appears complete (written aside, then renamed), so a pool can be read while it grows.
"""


def pool_tensors(batch: RoomBatch) -> dict[str, torch.Tensor]:
    """What a pool keeps of rendered rooms, by name and in its number formats (see FORMAT)."""
    return {
        "image": (batch.image * 255).round().to(torch.uint8),
        "depth": batch.depth.half(),
        "whole": batch.whole,
        "part": batch.part,
        "instance": batch.instance,
        "intrinsics": batch.intrinsics,
        "world_from_camera": batch.world_from_camera,
    }


def _arrays(batch: RoomBatch, seeds: list[int]) -> dict[str, np.ndarray]:
    arrays = {name: tensor.cpu().numpy() for name, tensor in pool_tensors(batch).items()}
    return arrays | {"seed": np.array(seeds, dtype=np.int64)}


def _write(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write a chunk aside and rename it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".chunk", suffix=".tmp")
    os.close(handle)
    try:
        save_file(arrays, name, metadata)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_pool(
    folder: Path,
    split: str,
    first: int,
    count: int,
    views: int,
    size: tuple[int, int],
    atlas: Atlas | None = None,
    device: str = "cpu",
    batch: int = 1,
) -> Iterator[Path]:
    """Render `count` rooms of a split from offset `first`; yields each chunk written.

    `size` is (height, width). Chunks that exist already are kept, so an interrupted run goes on.
    Raises ValueError if the seeds leave the split.
    """
    seeds = split_seeds(split, first, count)
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, count, CHUNK):
        mine = list(seeds[start : start + CHUNK])
        path = folder / f"chunk_{mine[0]:010d}.safetensors"
        if not path.exists():
            parts = [
                render_rooms(mine[i : i + batch], views, *size, atlas, device)
                for i in range(0, len(mine), batch)
            ]
            metadata = {"split": split, "textures": json.dumps(bool(atlas)), "version": "1"}
            _write(path, _arrays(RoomBatch.concatenate(parts), mine), metadata)
        yield path


def load_pool(folder: Path) -> list[Path]:
    """Paths of the chunks that are complete now, in the order of their seeds."""
    return sorted(folder.glob("chunk_*.safetensors"))


def load_chunk(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a chunk (see FORMAT)."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
