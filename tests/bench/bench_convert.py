"""Time to write and read 1 M Gaussians in each format, beside splat-transform in the same run.

Run `python -m tests.bench.bench_convert [--sh DEGREE] [--count N] [folder]`. Every job runs in a
fresh process; ours are timed inside it, from a scene in memory to the file and back, and as a
whole command too, which is what the ratio compares: `ffsplat convert a.ply a.<format>` against
`node splat-transform a.ply a.<format>`, best of REPEATS each.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ffsplat.formats import FORMATS, read_scene, write_scene
from ffsplat.types import Gaussians, Scene

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "tests" / "readers" / "node_modules"
TRANSFORM = MODULES / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
NAMES = ("ply", "compressed-ply", "splat", "spz", "sog", "gltf", "npz", "safetensors")
THEIRS = {"sog": ("-g", "cpu", "-i", "2")}
THEY_WRITE = ("ply", "compressed-ply", "splat", "spz", "sog", "gltf")
REPEATS = 3


def room(count: int, sh: int) -> Scene:
    """Gaussians on the walls of a room, colours that vary slowly: more like a scene than noise."""
    random = np.random.default_rng(0)
    means = random.uniform(-1, 1, (count, 3))
    means[np.arange(count), random.integers(0, 3, count)] = random.choice([-1, 1], count)
    means *= (3, 1.3, 4)
    waves = np.sin(means @ random.normal(size=(3, 3 * sh)) * 2).reshape(count, sh, 3)
    quaternions = random.normal(size=(count, 4)) * 0.2 + (1, 0, 0, 0)
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    table = waves * 0.5 / (1 + 3 * (np.arange(sh) > 0))[None, :, None]
    arrays = (means, np.exp(random.normal(-5, 0.7, (count, 3))), quaternions,
              random.beta(4, 1, count), table)  # fmt: skip
    return Scene(Gaussians(*(array.astype(np.float32) for array in arrays)))


def measure(name: str, source: Path) -> dict[str, float]:
    """Best seconds to write a scene in memory, and to read the file again; its bytes."""
    scene = read_scene(source)
    target = source.with_name("timed" + FORMATS[name].suffixes[0])
    best = {"write": np.inf, "read": np.inf}
    for _ in range(REPEATS):
        start = time.perf_counter()
        write_scene(scene, target, overwrite=True)
        best["write"] = min(best["write"], time.perf_counter() - start)
        start = time.perf_counter()
        read_scene(target)
        best["read"] = min(best["read"], time.perf_counter() - start)
    return {**best, "bytes": target.stat().st_size}


def command_seconds(command: list[str]) -> float:
    """Best wall seconds of a command as a whole."""
    best = np.inf
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        best = min(best, time.perf_counter() - start)
    return best


def main(folder: Path, count: int, degree: int) -> None:
    """Print a table, one format a line."""
    print(f"{count} Gaussians, SH degree {degree}, best of {REPEATS}")
    heads = ("format", "write s", "read s", "MB", "convert s", "theirs s", "MB", "x faster")
    print(("{:15}" + "{:>11}" * 7).format(*heads))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        source = Path(temporary) / "source.ply"
        write_scene(room(count, (degree + 1) ** 2), source)
        for name in NAMES:
            job = [sys.executable, "-m", "tests.bench.bench_convert", "--job", name, str(source)]
            ours = json.loads(subprocess.check_output(job, cwd=ROOT))
            suffix = FORMATS[name].suffixes[0]
            target, rival = (source.with_name(stem + suffix) for stem in ("ours", "theirs"))
            convert = [sys.executable, "-m", "ffsplat", "convert", "-q", "--overwrite"]
            seconds = command_seconds([*convert, str(source), str(target)])
            cells = [ours["write"], ours["read"], ours["bytes"] / 1e6, seconds]
            if name in THEY_WRITE and shutil.which("node") and TRANSFORM.is_file():
                command = ["node", "--no-deprecation", str(TRANSFORM), "-q", "-w"]
                command += [*THEIRS.get(name, ()), str(source), str(rival)]
                other = command_seconds(command)
                cells += [other, rival.stat().st_size / 1e6, other / seconds]
            print(f"{name:15}" + "".join(f"{cell:11.2f}" for cell in cells), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--sh", type=int, default=0, choices=range(4))
    parser.add_argument("--job", choices=NAMES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.job:
        print(json.dumps(measure(chosen.job, chosen.folder)))
    else:
        main(chosen.folder, chosen.count, chosen.sh)
