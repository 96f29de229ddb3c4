"""Time a stream's server and load it: python -m tests.bench.bench_server [--splats N].

The server runs in a process of its own, with an engine that judges frames at once. Targets: a
frame's way there and back p99 10 ms; a client that comes back has what it missed within 1 s; a
query is answered in milliseconds; 200 slow clients are closed within 12 s and leave the p99 of
others below twice of what it was; 1000 connections leave no file open; a token that is wrong at its
end takes no longer than one that is wrong at its beginning, by less than 1 ms.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ffsplat.stream.protocol.control import Ack, Hits, Query, Resume
from ffsplat.stream.server.auth import Tokens
from ffsplat.stream.server.serve import Address, serve
from ffsplat.stream.server.settings import ServerSettings
from tests.stream.server.standin import StandIn
from tests.stream.server.talk import answer, ask, client, frame, metric, raw

FRAME = b"\xff\xd8\xff" + bytes(60_000)
"""As many bytes as a JPEG of 640x480."""


def percentiles(name: str, seconds: list[float]) -> None:
    p50, p99 = np.percentile(np.array(seconds) * 1e3, [50, 99])
    print(f"{name:44} p50 {p50:8.2f} ms   p99 {p99:8.2f} ms   n {len(seconds)}")


def run_server(splats: int) -> None:
    """What the process of the server does: a large first delta, then what is asked for."""
    engine = StandIn(splats=splats)

    def ready(address: Address) -> None:
        print(address.port, flush=True)
        engine.publish()
        engine.splats = 2000

    settings = ServerSettings(port=0, max_fps=1000.0, max_queries=1000.0, max_connections=600)
    asyncio.run(serve(engine, None, settings, ready=ready))


@contextmanager
def server(splats: int) -> Iterator[tuple[Address, int]]:
    """The address of a server, and the number of its process."""
    command = [sys.executable, "-m", "tests.bench.bench_server", "--serve", "--splats", str(splats)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = Address("127.0.0.1", int(process.stdout.readline()), is_tls=False)
            while not metric(address, "map_delta"):
                time.sleep(0.1)
            yield address, process.pid
        finally:
            process.terminate()
            start = time.perf_counter()
            code = process.wait()
            print(f"ended with {code} in {time.perf_counter() - start:.2f} s")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_frames(address: Address, count: int, rate: float) -> None:
    """From sending a frame to its verdict, at a steady rate."""
    seconds = []
    with client(address) as one:
        one.greet(want=("ack",))
        for number in range(count):
            picture = frame(number, FRAME)

            def there_and_back(picture=picture) -> None:
                one.send(picture)
                one.wait_for(Ack)

            seconds.append(timed(there_and_back))
            time.sleep(max(0.0, 1 / rate - seconds[-1]))
    percentiles(f"frame of {len(FRAME) // 1000} kB, to its verdict", seconds)


def measure_queries(address: Address, splats: int, count: int) -> None:
    """Questions that every Gaussian matches, which is the most that an answer can cost."""

    with client(address) as one:
        one.greet(want=())

        def ask_for_chairs() -> None:
            one.send(Query(1, "chair"))
            one.wait_for(Hits)

        ask_for_chairs()
        percentiles(
            f"query, {splats} Gaussians that all match",
            [timed(ask_for_chairs) for _ in range(count)],
        )


def measure_return(address: Address) -> None:
    """A client that left, and comes back while as many deltas have passed as fit in 3 s."""
    with client(address) as one:
        begin = time.perf_counter()
        welcome = one.greet()
        one.follow(welcome.number)
        print(
            f"{'late client, to the whole map':44} {(time.perf_counter() - begin) * 1e3:12.0f} ms"
        )
        had, name, kept = one.map.number, welcome.map, one.map
    with client(address) as camera:
        camera.greet(want=("ack",))
        for number in range(30):
            camera.send(frame(10_000 + number, FRAME))
            camera.wait_for(Ack)
    begin = time.perf_counter()
    with client(address) as two:
        two.map = kept
        assert two.greet(resume_from=Resume(name, had)).resumed
        two.follow(had + 30)
    print(f"{'client back after 30 deltas':44} {(time.perf_counter() - begin) * 1e3:12.0f} ms")


def measure_slow(address: Address, slow: int, count: int) -> None:
    """Requests of a good client without and beside clients that send a byte a second."""

    def good() -> list[float]:
        return [timed(lambda: ask(address, "/healthz")) for _ in range(count)]

    percentiles("request", good())
    begin, sockets = time.perf_counter(), [raw(address) for _ in range(slow)]
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(1.0):
            for one in sockets:
                try:
                    one.send(b"G")
                except OSError:
                    continue

    for one in sockets:
        one.send(b"GET / HTTP/1.1\r\nX: ")
    thread = threading.Thread(target=trickle)
    thread.start()
    percentiles(f"request beside {slow} slow clients", good())
    for one in sockets:
        answer(one)
        one.close()
    stop.set()
    thread.join()
    print(f"{'all slow clients closed after':44} {time.perf_counter() - begin:12.1f} s")


def measure_flood(address: Address, process: int, count: int) -> None:
    files = Path(f"/proc/{process}/fd")
    before = len(list(files.iterdir()))
    sockets = [raw(address) for _ in range(count)]
    most = len(list(files.iterdir()))
    for one in sockets:
        one.close()
    deadline = time.monotonic() + 15
    while len(list(files.iterdir())) > before and time.monotonic() < deadline:
        time.sleep(0.1)
    after = len(list(files.iterdir()))
    print(f"files open before, during, after {count} connections: {before}, {most}, {after}")


def measure_token(tries: int) -> None:
    right = "a" * 32
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokens"
        file.write_text(right)
        tokens = Tokens.read(file)
    wrong = {"first": "b" + right[1:], "last": right[:-1] + "b"}
    means = {
        where: float(
            np.mean([timed(lambda text=text: tokens.accept(text, 0.0)) for _ in range(tries)])
        )
        for where, text in wrong.items()
    }
    apart = abs(means["first"] - means["last"]) * 1e6
    print(f"{'wrong first or last letter of a token':44} {apart:12.3f} us apart   n {tries}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splats", type=int, default=500_000)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--flood", type=int, default=1000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        run_server(given.splats)
        return
    with server(given.splats) as (address, process):
        measure_queries(address, given.splats, given.queries)
        measure_return(address)
        measure_frames(address, given.frames, rate=30.0)
        measure_slow(address, given.slow, count=200)
        measure_flood(address, process, given.flood)
    measure_token(10_000)


if __name__ == "__main__":
    main()
