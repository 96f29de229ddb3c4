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
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import torch

from ffsplat.alignment import fit_similarity
from ffsplat.api import Model, load
from ffsplat.chunks import plan
from ffsplat.chunks.memory import bytes_a_pass, bytes_a_view
from ffsplat.chunks.place import FIRST, Placement, Shared, place, shared_views
from ffsplat.chunks.plan import take_views
from ffsplat.images import load_views
from ffsplat.types import Views
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


def predict(model: Model, views: Views, chunks: Sequence[range]) -> list[tuple[Views, Shared]]:
    """The views of each pass, and what the pass says of all of them."""
    said = []
    for rows in chunks:
        chunk = take_views(views, rows)
        with torch.inference_mode():
            prediction = model._place_cameras(model.predict(chunk), chunk, refine=True)
        said.append((chunk, shared_views(prediction, list(range(len(rows))))))
    return said


def by_least_squares(found: Shared, known: Shared, valid: np.ndarray) -> Placement:
    """What `place` is compared with: all pixels alike, no camera, no robustness."""
    fitted = fit_similarity(found.points[valid], known.points[valid])
    apart = np.linalg.norm(fitted.points(found.points[valid]) - known.points[valid], axis=1)
    return Placement(fitted, "points", 1.0, float(np.median(apart / known.depth[valid])))


def trajectory(
    said: list[tuple[Views, Shared]], chunks: Sequence[range], placing: Callable
) -> tuple[np.ndarray, float]:
    """Centres of all cameras, and the mean seam of the passes."""
    centres, seams = np.zeros((chunks[-1].stop, 3)), []
    known, before = None, range(0)
    for (chunk, found), rows in zip(said, chunks, strict=True):
        old, placed = max(0, before.stop - rows.start), FIRST
        if known is not None:
            last = part(known, slice(len(before) - old, None))
            placed = placing(part(found, slice(old)), last, chunk.valid[:old])
            seams.append(placed.seam)
        known, before = found.moved(placed.similarity), rows
        centres[rows.start + old : rows.stop] = known.poses[old:, :3, 3]
    return centres, float(np.mean(seams)) if seams else 0.0


def part(shared: Shared, rows: slice) -> Shared:
    """Some of the views."""
    return Shared(*(value[rows] for value in vars(shared).values()))


def drift(model: Model, name: str, photos: list, truth: np.ndarray, sizes: Sequence[int]) -> None:
    """Print the trajectory error of passes of several sizes."""
    views = load_views(photos, resolution=model.config.resolution, patch=model.config.patch).views
    length = np.linalg.norm(np.diff(truth, axis=0), axis=1).sum()
    print(f"{name}: {len(views)} views, {length:.1f} m; error of the way (ATE) and seams, by")
    for size in sizes:
        chunks = plan(len(views), size)
        said = predict(model, views, chunks)
        cells = []
        for title, placing in (("place", place), ("least squares", by_least_squares)):
            centres, seam = trajectory(said, chunks, placing)
            fitted = fit_similarity(centres, truth)
            error = np.sqrt(np.square(fitted.points(centres) - truth).sum(1).mean())
            cells.append(f"{title} {error:.2f} m, {seam:.1%}")
        print(f"  {len(chunks)} passes of up to {size} views: {'; '.join(cells)}")


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
        drift(model, f"room {number}", images, truth, (60, 24, 16, 8, 4))
    if found := office():
        drift(model, "office", *found, (45, 24, 16, 8, 4))


if __name__ == "__main__":
    main()
