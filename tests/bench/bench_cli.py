"""What the command costs beyond the network: `--help`, and `infer` on eight photos.

Run `python -m tests.bench.bench_cli [folder of photos]`; every run is a fresh process. The overhead
is the wall time of `infer` without the network's forward pass and without `import torch`.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPEATS, PHOTOS = 5, 8
COMMAND = [sys.executable, "-m", "ffsplat"]


def wall(arguments: list[str]) -> tuple[float, str]:
    """Seconds that a process takes, and its output."""
    start = time.perf_counter()
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, done.stdout


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "data/examples"
    help_seconds = statistics.median(wall([*COMMAND, "--help"])[0] for _ in range(REPEATS))
    print(f"ffsplat --help       {help_seconds:.3f} s")
    torch_seconds = statistics.median(
        wall([sys.executable, "-c", "import torch"])[0] for _ in range(REPEATS)
    )
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--out", f"{scratch}/a.ply", "--max-views", str(PHOTOS), "--overwrite", "--json"]
        runs = [wall([*COMMAND, "infer", str(folder), *options]) for _ in range(REPEATS)]
    seconds, output = sorted(runs)[REPEATS // 2]
    stages = json.loads(output)["seconds"]
    overhead = seconds - stages["network"] - torch_seconds
    print(f"ffsplat infer        {seconds:.2f} s")
    print(f"  import torch       {torch_seconds:.2f} s")
    for stage, duration in stages.items():
        print(f"  {stage:<18} {duration:.2f} s")
    print(f"  beyond network and import torch: {overhead:.2f} s, {overhead / seconds:.0%} of all")


if __name__ == "__main__":
    main()
