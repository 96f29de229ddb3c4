"""Long inputs: memory and time by number of photos, and how far passes drift from the truth.

Run: python -m tests.bench.bench_long [--photos 8,24,50,200] [--chunk-views 8] [--walks 3]
The photos are walks through procedural rooms; each count runs in a process of its own. With real
sequences in FFSPLAT_DATA (default ../shared/data), the office walk is measured too.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from ffsplat.alignment import fit_similarity
from ffsplat.api import Model, load
from ffsplat.chunks.memory import bytes_a_pass, bytes_a_view
from tests.bench.walk import clear_room, render_walk, save_photos

LONGEST = 200
SIZES = ((8, 96, 128), (24, 96, 128), (4, 192, 256), (2, 384, 512))
"""Views, height and width that the formula for memory is compared at."""


def peak() -> int:
    """Largest resident memory of this process so far, in bytes."""
    factor = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * factor


def measure_photos(folder: Path, count: int, chunk_views: int | None) -> dict:
    """What `infer` takes for the first photos of a folder, on top of the loaded network."""
    model = load("ffsplat-tiny", device="cpu")
    photos = sorted(folder.iterdir())[:count]
    model.infer(photos[:2])  # what is loaded and compiled once
    start = time.perf_counter()
    result = model.infer_with_report(photos, chunk_views=chunk_views)
    return {
        "photos": count,
        "passes": len(result.report.passes),
        "seconds": time.perf_counter() - start,
        "peak": peak(),
        "gaussians": len(result.scene),
    }


def measure_forward(views: int, height: int, width: int) -> dict:
    """What one pass takes in float32, measured and by the formula."""
    model = load("ffsplat-tiny", device="cpu", dtype="float32")
    pixels = np.random.default_rng(0).random((views, height, width, 3), dtype=np.float32)
    model.infer(pixels[0, :64, :64])
    before = peak()
    model.infer(list(pixels), resolution=max(height, width), chunk_views=views)
    config = model.config
    formula = views * bytes_a_view(config, height, width) + bytes_a_pass(config, height, width)
    return {"size": f"{views} x {height} x {width}", "peak": peak() - before, "formula": formula}


def in_process(*arguments: str) -> dict:
    """The outcome of one measurement in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bench_long", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def drift(model: Model, name: str, photos: list, truth: np.ndarray, sizes: Sequence[int]) -> None:
    """Print the trajectory error of windows of several sizes."""
    length = np.linalg.norm(np.diff(truth, axis=0), axis=1).sum()
    print(f"{name}: {len(photos)} views, {length:.1f} m; error of the way (ATE) by size of windows")
    for size in sizes:
        cameras = model.infer(photos, chunk_views=size).cameras
        assert cameras is not None
        centres = cameras.world_from_camera[:, :3, 3].astype(np.float64)
        apart = fit_similarity(centres, truth).points(centres) - truth
        print(f"  {size} views: {np.sqrt(np.square(apart).sum(1).mean()):.2f} m")


def office() -> tuple[list[Path], np.ndarray] | None:
    """Frames and camera centres of a real walk, where the data is there."""
    folder = Path(os.environ.get("FFSPLAT_DATA", "../shared/data")) / "hololens_office"
    if not folder.is_dir():
        return None
    frames = json.loads((folder / "cameras.json").read_text())["frames"]
    poses = np.array([frame["cam_to_world"] for frame in frames]).reshape(-1, 4, 4)
    return [folder / frame["image"] for frame in frames], poses[:, :3, 3]


@click.command()
@click.option("--photos", default="8,24,50,200", help="Numbers of photos, at most 200.")
@click.option("--chunk-views", type=int, help="Views of a pass; by default what infer takes.")
@click.option("--walks", default=3, help="Rooms whose walks are compared with the truth.")
@click.option("--worker", nargs=2, hidden=True)
@click.option("--forward", nargs=3, type=int, hidden=True)
def main(photos, chunk_views, walks, worker, forward) -> None:
    """Print memory and time by number of photos, then drift by size of the passes."""
    if worker:
        print(json.dumps(measure_photos(Path(worker[0]), int(worker[1]), chunk_views)))
        return
    if forward:
        print(json.dumps(measure_forward(*forward)))
        return
    for size in SIZES:
        row = in_process("--forward", *map(str, size))
        print(
            f"{row['size']}: {row['peak'] / 2**20:.0f} MB measured, "
            f"{row['formula'] / 2**20:.0f} MB by the formula"
        )
    with tempfile.TemporaryDirectory() as folder:
        save_photos(render_walk(clear_room(0), LONGEST), Path(folder))
        for count in map(int, photos.split(",")):
            more = ["--chunk-views", str(chunk_views)] if chunk_views else []
            row = in_process("--worker", folder, str(count), *more)
            print(
                f"{count} photos: {row['passes']} passes, {row['seconds']:.1f} s, "
                f"at most {row['peak'] / 2**20:.0f} MB resident, {row['gaussians']} Gaussians"
            )
    model, number = load("ffsplat-tiny", device="cpu"), -1
    for _ in range(walks):
        number = clear_room(number + 1)
        walk = render_walk(number, 60)
        images = [(image * 255).round().byte().numpy() for image in walk.image[0]]
        truth = walk.world_from_camera[0, :, :3, 3].double().numpy()
        drift(model, f"room {number}", images, truth, (60, 8, 6, 4, 3))
    if found := office():
        drift(model, "office", *found, (45, 8, 6, 4, 3))


if __name__ == "__main__":
    main()
