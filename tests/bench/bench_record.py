"""What a recording costs the stream, and what it costs the machine.

Run `python -m tests.bench.bench_record [frames]`: pictures of 50 kB at 30 a second and a map of
500 000 Gaussians that changes by 5000 with each third frame are recorded as fast as they come.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))
from toydeltas import empty_delta, random_splats

from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.ros.record import Recorder, recorded_map

SPLATS, CHANGED, RATE = 500_000, 5000, 30
PICTURE = b"\xff\xd8\xff" + np.random.default_rng(0).bytes(50_000)


def main() -> None:
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    rng, replica = np.random.default_rng(1), Replica()
    everywhere = np.arange(SPLATS, dtype=np.int64)
    pose = np.array([[1.0, 1, 0, 0, 0, 0, 0, 0]])
    first = empty_delta(1, submaps=np.zeros(1, np.uint16), submap_poses=pose)
    first = _with(first, random_splats(rng, everywhere, [0], 100))
    replica.apply(first)
    seconds = {"frame": [], "delta": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.mcap"
        recorder = Recorder(path)
        recorder.on_delta(first, replica)
        start = time.perf_counter()
        for i in range(frames):
            due = start + i / RATE
            time.sleep(max(0.0, due - time.perf_counter()))
            frame = Frame(PICTURE, i * 10**9 // RATE, i)
            seconds["frame"].append(_timed(recorder.on_frame, frame, Verdict(i, "tracked")))
            if i % 3 == 0:
                places = rng.choice(SPLATS, CHANGED, replace=False)
                splats = random_splats(rng, np.sort(places), [0], 100)
                delta = _with(empty_delta(replica.number + 1), splats)
                replica.apply(delta)
                seconds["delta"].append(_timed(recorder.on_delta, delta, replica))
        recorder.close()
        print(f"{path.stat().st_size / 1e6:.0f} MB in {time.perf_counter() - start:.1f} s")
        print(f"dropped {recorder.dropped.total()}")
        assert len(recorded_map(path)) == SPLATS
    for name, values in seconds.items():
        middle, late = np.quantile(values, [0.5, 0.99]) * 1e3
        print(f"on_{name}: median {middle:.2f} ms, p99 {late:.2f} ms in the stream's thread")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(f"peak memory {usage.ru_maxrss / 1024:.0f} MiB, {usage.ru_utime:.1f} s of CPU")


def _with(delta, splats):
    return type(delta)(**{**vars(delta), "splats": splats})


def _timed(call, *arguments) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
