"""Time what a mapper does beside its network and its map: python -m tests.bench.bench_checks.

Frame checks, moving pixels and the proof of a loop on views of 128 x 96 pixels, candidates among
256 places, and a pose graph of 128 submaps with 16 loops, each on one thread. Targets: 1 ms for a
frame check, 60 ms for the graph.
"""

import os
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch

from ffsplat.alignment import Similarity
from ffsplat.prediction import Prediction
from ffsplat.stream.graph import sim3
from ffsplat.stream.graph.edges import PoseError
from ffsplat.stream.graph.graph import PoseGraph
from ffsplat.stream.loops import PlaceMemory, confirm_loop
from ffsplat.stream.moving import find_moving
from ffsplat.stream.quality import FrameCheck
from ffsplat.stream.sight import PosedViews
from tests.bench.bench_query import milliseconds

VIEWS, HEIGHT, WIDTH = 6, 96, 128
ERROR = PoseError(0.02, 0.02, 0.02)


def window() -> PosedViews:
    """Views of a picture on a wall, each a little to the right of the one before."""
    random = np.random.default_rng(0)
    wall = random.integers(0, 256, (HEIGHT, WIDTH + 8 * VIEWS, 3), np.uint8)
    pixels = np.stack([wall[:, 8 * view : 8 * view + WIDTH] for view in range(VIEWS)])
    depth = torch.full((1, VIEWS, HEIGHT, WIDTH), 2.0)
    poses = torch.eye(4).repeat(1, VIEWS, 1, 1)
    poses[0, :, 0, 3] = 8 * torch.arange(VIEWS) * 2.0 / 100
    lens = torch.tensor([[100.0, 0, WIDTH / 2], [0, 100.0, HEIGHT / 2], [0, 0, 1]])
    none = torch.zeros(1, VIEWS, HEIGHT, WIDTH, 0)
    said = Prediction(
        depth=depth, depth_error=0.02 * torch.ones_like(depth), scale=torch.full((1,), 2.0),
        world_from_camera=poses, intrinsics=lens.repeat(1, VIEWS, 1, 1),
        offsets=torch.zeros(*depth.shape, 2), scales=torch.ones(*depth.shape, 3),
        quaternions_wxyz=torch.zeros(*depth.shape, 4), opacities=torch.ones_like(depth),
        colors=torch.from_numpy(pixels / 255)[None], whole_logits=none, part_logits=none,
        instances=none, descriptors=none, token_descriptors=none,
    )  # fmt: skip
    return PosedViews.of(said, pixels, np.ones(pixels.shape[:3], dtype=bool))


def round_trip(submaps: int, loops: int) -> PoseGraph:
    """A chain on a circle that shrinks by 0.2 % a step, with loops where it meets itself."""
    angles = 2 * np.pi * np.arange(submaps) / submaps
    tangents = np.zeros((submaps, 7))
    tangents[:, 2] = angles
    stack = sim3.exponential(tangents)
    stack[:, :2, 3] = 5 * np.stack([np.cos(angles), np.sin(angles)], -1)
    truth = [sim3.similarity(one) for one in stack]
    shrunk = Similarity(0.998, np.eye(3), np.zeros(3))
    graph = PoseGraph()
    graph.add_node(0, truth[0])
    for j in range(1, submaps):
        measured = truth[j - 1].inverse() @ truth[j] @ shrunk
        graph.add_node(j, graph.poses[j - 1] @ measured)
        graph.add_edge(j - 1, j, measured, ERROR)
    for i in range(loops):
        j = submaps - 1 - i
        graph.add_edge(j, i, truth[j].inverse() @ truth[i], ERROR, loop=True)
    return graph


def main() -> None:
    random = np.random.default_rng(0)
    for height, width in ((HEIGHT, WIDTH), (480, 640)):
        picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pictures = iter([np.roll(picture, 7 * k, axis=1) for k in range(20)] * 2)
        check = FrameCheck()
        median, _ = milliseconds(lambda c=check, p=pictures: c.judge(next(p)))
        print(f"frame check, {width} x {height}: {median:.2f} ms")
    views, old = window(), list(range(VIEWS - 1))
    # Views keep what was found of them, so others are asked each time.
    median, _ = milliseconds(lambda: find_moving(replace(views), VIEWS - 1, old))
    print(f"moving pixels, {len(old)} old views: {median:.1f} ms")
    median, _ = milliseconds(lambda: confirm_loop(replace(views), 0, 1))
    print(f"proof of a loop: {median:.1f} ms")
    memory = PlaceMemory(256)
    places = random.normal(size=(256, 256)).astype(np.float32)
    for key, place in enumerate(places):
        memory.add(key, place)
    median, _ = milliseconds(lambda: memory.candidates(places[0], range(8), 1))
    print(f"candidates of 256 places: {median:.2f} ms")
    graph = round_trip(128, 16)
    median, _ = milliseconds(lambda: graph.optimize(fixed={0}))
    print(f"pose graph, 128 submaps, 16 loops: {median:.0f} ms")


if __name__ == "__main__":
    main()
