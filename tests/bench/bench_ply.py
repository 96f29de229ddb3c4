"""Time and memory to write and read a PLY of 1 M Gaussians x 62 floats, beside plyfile.

Run `python -m tests.bench.bench_ply [folder]`; every job runs in a fresh process. plyfile only
moves columns; our times include logarithms, normalisation, checks and the atomic rename.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement

from ffsplat.io import read_ply, write_ply
from ffsplat.io.layout import Layout
from tests.io.scenes import random_scene

COUNT, REPEATS = 1_000_000, 5
NAMES = Layout(16).names
JOBS = ("ffsplat write", "plyfile write", "ffsplat read", "plyfile read")


def plyfile_write(table: np.ndarray, path: Path) -> None:
    """Fill a structured array column by column, as plyfile's users do."""
    rows = np.empty(len(table), [(name, "<f4") for name in NAMES])
    for i, name in enumerate(NAMES):
        rows[name] = table[:, i]
    PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(str(path))


def plyfile_read(path: Path) -> np.ndarray:
    """Stack the columns by name."""
    vertex = PlyData.read(str(path))["vertex"]
    return np.stack([vertex[name] for name in NAMES], axis=1)


def job(name: str, source: Path) -> Callable[[], object]:
    """The measured function of a job, its input already loaded."""
    target = source.with_name(f"{name.replace(' ', '-')}.ply")
    if name == "ffsplat write":
        scene = read_ply(source)
        return lambda: write_ply(scene, target, profile="plain", overwrite=True)
    if name == "plyfile write":
        table = np.fromfile(source, "<f4", offset=source.stat().st_size - COUNT * 4 * len(NAMES))
        return lambda: plyfile_write(table.reshape(COUNT, -1), target)
    read = {"ffsplat read": read_ply, "plyfile read": plyfile_read}[name]
    return lambda: read(source)


def measure(name: str, source: Path) -> dict[str, float]:
    """Best wall seconds, and the peak resident memory of the process in files."""
    run, times = job(name, source), []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    status = Path("/proc/self/status").read_text()  # ru_maxrss would be that of the parent
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return {"seconds": min(times), "files": peak / source.stat().st_size}


def main(folder: Path) -> None:
    """Measure every job in its own process and print a table."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        source = Path(temporary) / "source.ply"
        write_ply(random_scene(COUNT, sh=16, codes=0), source)
        print(f"{COUNT} x {len(NAMES)} floats, {source.stat().st_size / 1e6:.0f} MB in {folder}")
        print(f"{'job':16}{'best of ' + str(REPEATS):>12}{'peak / file':>14}{'x plyfile':>12}")
        results = {}
        for name in JOBS:
            command = [sys.executable, "-m", "tests.bench.bench_ply", name, str(source)]
            results[name] = json.loads(subprocess.check_output(command))
        for name, result in results.items():
            rival = results[name.replace("ffsplat", "plyfile")]["seconds"]
            ratio = rival / result["seconds"]
            print(f"{name:16}{result['seconds']:>10.3f} s{result['files']:>14.2f}{ratio:>12.1f}")


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in JOBS:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
    else:
        main(Path(sys.argv[1] if sys.argv[1:] else tempfile.gettempdir()))
