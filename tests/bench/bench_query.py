"""Time a text query over a million Gaussians: python -m tests.bench.bench_query [--gaussians N].

Sparse codes (K = 4 of L = 1024) against dense 512-d float32 features, in the same run on one
thread. Targets: 5 ms a prompt with numba, 20 ms with numpy alone; 30 ms for a whole query by cosine
or relevancy, hits and boxes included. The dense features are only scored, which is less.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ffsplat import codes
from ffsplat.codebook import add_space, lexicon_codebook
from ffsplat.embeddings import TextEmbedding
from ffsplat.query import query
from ffsplat.types import Codebook, Gaussians, Scene

ROWS, WIDTH, K, REPEATS = 1024, 512, 4, 15
TARGETS = {"cosine": 30, "relevancy": 30}
"""Milliseconds of a query."""

SPACE = "open_clip:ViT-B-16/laion2b_s34b_b88k"


def milliseconds(work: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Median and minimum of the wall time after one call that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times)), min(times)


def random_scene(n: int, rng: np.random.Generator) -> Scene:
    """Gaussians with random lexicon codes in 200 instances."""
    gaussians = Gaussians(
        means=rng.random((n, 3), np.float32),
        scales=np.full((n, 3), 0.01, np.float32),
        quaternions_wxyz=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
        opacities=rng.random(n, np.float32),
        sh=rng.standard_normal((n, 1, 3), np.float32),
    )
    book = lexicon_codebook()
    code = codes.from_pairs(rng.integers(0, 120, (n, K)), rng.random((n, K), np.float32), K)
    return Scene(gaussians, code, rng.integers(-1, 200, n).astype(np.int32), book)


def embedded(scene: Scene, rng: np.random.Generator) -> tuple[Codebook, TextEmbedding]:
    """The scene's codebook with random vectors for its one space, and a text near row 5."""
    assert scene.codebook is not None
    bare = replace(scene.codebook, spaces={})
    book = add_space(bare, SPACE, rng.standard_normal((len(bare), WIDTH)))
    vectors = np.vstack([book.spaces[SPACE][5], rng.standard_normal((4, WIDTH))])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return book, TextEmbedding("row 5", SPACE, vectors[0], vectors[1:])


def strategies(n: int, rng: np.random.Generator, dense: float) -> None:
    """Time every strategy that asks by text, scores and hits; the first run of each compiles."""
    import numba  # noqa: F401 - a long-lived process has loaded it

    scene = random_scene(n, rng)
    book, saved = embedded(scene, rng)
    free = Scene(scene.gaussians, scene.codes, scene.instances, book)
    bare = replace(saved, canon=saved.canon[:0])
    labels = ("chair", "table", "lamp", "sofa", "bed", "door", "window", "wall")
    cases: dict[str, Callable[[], object]] = {
        "lexicon": lambda: query(scene, "chair"),
        "cosine": lambda: query(free, bare, strategy="cosine"),
        "relevancy": lambda: query(free, saved, strategy="relevancy"),
        "relevancy, best level": lambda: query(free, saved, strategy="relevancy", levels="best"),
        "softmax, 8 labels": lambda: query(scene, "", strategy="softmax", labels=labels),
        "two-step": lambda: query(free, saved, strategy="two-step"),
        "two-step, by feature": lambda: query(free, saved, strategy="two-step", select="feature"),
        "part-in-whole": lambda: query(scene, "leg of the chair", strategy="part-in-whole"),
        "nested": lambda: query(free, saved, strategy="nested"),
        "hyperplane": lambda: query(free, saved, strategy="hyperplane"),
    }
    for name, work in cases.items():
        median, least = milliseconds(work, 5)
        target = TARGETS.get(name)
        note = (
            ""
            if target is None
            else f"   target {target} ms: " + ("met" if median <= target else "MISSED")
        )
        print(f"{name:22s} {median:8.2f} ({least:.2f}) ms {dense / median:5.1f}x{note}")


def main() -> None:
    """Print one line a measurement, with the ratio to the dense features."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gaussians", type=int, default=1_000_000)
    n = parser.parse_args().gaussians
    rng = np.random.default_rng(0)

    features = np.empty((n, WIDTH), np.float32)
    for start in range(0, n, 65536):
        block = features[start : start + 65536]
        block[:] = rng.random(block.shape, np.float32)
    text = rng.random(WIDTH, np.float32)
    dense = milliseconds(lambda: features @ text)
    print(f"{n} Gaussians, L = {ROWS}, K = {K}; median (minimum) of {REPEATS}, one thread")
    print(f"dense {WIDTH}-d float32     {dense[0]:8.2f} ({dense[1]:.2f}) ms   1.0x")
    del features

    code = codes.from_pairs(rng.integers(0, ROWS, (n, K)), rng.random((n, K), np.float32), K)
    rows = rng.standard_normal((ROWS, WIDTH), np.float32)
    for backend, target in (("numba", 5), ("numpy", 20)):
        median, least = milliseconds(lambda b=backend: codes.score(code, rows @ text, b))
        ratio = dense[0] / median
        print(f"codes, {backend}          {median:8.2f} ({least:.2f}) ms {ratio:5.1f}x", end="   ")
        print(f"target {target} ms: {'met' if median <= target else 'MISSED'}")

    scene = random_scene(n, rng)
    for phrase in ("chair", "red chair leg", "furniture"):
        median, least = milliseconds(lambda phrase=phrase: query(scene, phrase), 5)
        print(f"query {phrase!r:16s} {median:8.2f} ({least:.2f}) ms {dense[0] / median:5.1f}x")

    strategies(n, rng, dense[0])


if __name__ == "__main__":
    main()
