"""Ways to map footage by one network: at once, in passes, pair by pair, by the online mapper."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64, Int64

from ffsplat.alignment import Similarity
from ffsplat.api import Model
from ffsplat.chunks.join import Bound, join_scenes, keep_within, median_cell, number_by_size
from ffsplat.chunks.some import take_prediction, take_views
from ffsplat.images import load_views
from ffsplat.merge import to_scene
from ffsplat.prediction import Prediction
from ffsplat.stream.delta import FramePoses
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.trajectory import matrices
from ffsplat.types import Scene, Views
from train.evaluation.footage import Footage

ONE_PASS = 24
"""Frames, evenly spaced, that go through the network at once."""
PASS = 4
"""Frames of a pass, where several passes go over all frames."""
CHAIN_STEP = 8
"""Of a chain, one frame in so many gives Gaussians to the scene; all give poses."""


@dataclass(frozen=True, eq=False)
class Mapped:
    """What a way made of footage: poses of the frames `rows` (world_from_camera), and a scene.

    Both are in one world and unit, those of the way. `seconds` is the wall time of all of it,
    `live` what the poses were when their frames came, where that differs from what became of them;
    `counts` says what happened to how many frames.
    """

    rows: Int64[np.ndarray, " n"]
    poses: Float64[np.ndarray, "n 4 4"]
    scene: Scene
    seconds: float
    live: Float64[np.ndarray, "n 4 4"] | None = None
    counts: Mapping[str, float] = field(default_factory=dict)


def one_pass(model: Model, footage: Footage, frames: int = ONE_PASS) -> Mapped:
    """`infer` of evenly spaced frames, all in one pass."""
    start = time.perf_counter()
    rows = spread(footage.given, frames)
    images = [footage.images[row] for row in rows]
    scene = model.infer(images, chunk_views=max(2, len(images)))
    assert scene.cameras is not None  # `infer` gives every scene its cameras
    poses = scene.cameras.world_from_camera.astype(np.float64)
    return Mapped(rows, poses, scene, time.perf_counter() - start)


def in_passes(model: Model, footage: Footage, chunk_views: int = PASS) -> Mapped:
    """`infer` of all frames, in passes that are each placed by views shared with the last one."""
    start = time.perf_counter()
    images = [footage.images[row] for row in footage.given]
    scene = model.infer(images, chunk_views=chunk_views)
    assert scene.cameras is not None
    poses = scene.cameras.world_from_camera.astype(np.float64)
    return Mapped(footage.given, poses, scene, time.perf_counter() - start)


def spread(rows: Int64[np.ndarray, " k"], count: int) -> Int64[np.ndarray, " n"]:
    """So many of the rows, evenly spaced; all, where there are fewer."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows)))
    return rows[places.round().astype(int)]


def chained(model: Model, footage: Footage) -> Mapped:
    """Each frame by one pass with the frame before it, at the scale of the pass before.

    The unit of a pass is that in which the frame that it shares with the pass before has the median
    depth that it had there. Poses are those of the network, refined, and composed; nothing else
    ties frames, and errors add up.
    """
    start = time.perf_counter()
    rows = footage.given
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    scene, known, bound = None, None, Bound()
    for i in range(1, len(rows)):
        views = views_of(model, footage, rows[[i - 1, i]])
        prediction = predicted(model, views)
        depth = prediction.depth[0].numpy()
        scale = 1.0 if known is None else float(np.median(known / depth[0]))
        placed = Similarity(scale, poses[i - 1, :3, :3], poses[i - 1, :3, 3])
        local = prediction.world_from_camera[0, 1:].double().numpy()
        poses[i] = placed.poses(local)[0]
        known = scale * depth[1]
        if (i - 1) % CHAIN_STEP == 0:
            part = placed.scene(last_view(model, prediction, views))
            cell = float(np.median(known)) / float(prediction.intrinsics[0, 1, 0, 0])
            bound = bound if scene is not None else Bound(cell)
            scene = part if scene is None else join_scenes(scene, part, median_cell(known.ravel()))
    assert scene is not None
    scene, _ = keep_within(scene, bound, bound.cell or 0.0, last=True)
    return Mapped(rows, poses, number_by_size(scene), time.perf_counter() - start)


def last_view(model: Model, prediction: Prediction, views: Views) -> Scene:
    """What the last of some views shows, as `infer` would have it."""
    last = [len(views) - 1]
    return to_scene(
        take_prediction(prediction, last), take_views(views, last), model.codebook,
        metric=model.config.metric,
    )  # fmt: skip


def views_of(model: Model, footage: Footage, rows: Int64[np.ndarray, " v"]) -> Views:
    """Some frames as the network takes them."""
    config = model.config
    images = [footage.images[row] for row in rows]
    return load_views(images, resolution=config.resolution, patch=config.patch).views


def predicted(model: Model, views: Views) -> Prediction:
    """What `infer` takes from the network: with refined cameras, on the CPU."""
    with torch.inference_mode():
        prediction = model.place_cameras(model.predict(views), views, refine=True)
    cpu = {name: value.cpu() for name, value in vars(prediction).items() if value is not None}
    return Prediction(**cpu)


def mapped(
    model: Model, footage: Footage, settings: MapperSettings | None = None, posed: bool = False
) -> Mapped:
    """The online mapper, frame by frame; `posed` gives it the true poses and intrinsics."""
    mapper = model.stream(settings)
    return run_mapper(mapper, footage, posed)


def run_mapper(mapper: Mapper, footage: Footage, posed: bool = False) -> Mapped:
    """All given frames through a mapper."""
    start = time.perf_counter()
    reasons: Counter[str] = Counter()
    live: dict[int, np.ndarray] = {}
    for row in footage.given.tolist():
        verdict = mapper.add(
            footage.images[row],
            int(footage.times_ns[row]),
            footage.world_from_camera[row] if posed else None,
            footage.intrinsics[row] if posed else None,
            number=row,
        )
        reasons[verdict.reason] += 1
        if verdict.pose is not None:
            live[row] = verdict.pose
    mapper.finish()
    seconds = time.perf_counter() - start
    assert mapper.atlas is not None  # some frame was used
    frames = mapper.trajectory()
    poses = world_trajectory(frames, mapper.atlas.submaps.poses)
    rows = frames.numbers.tolist()
    known = dict(zip(rows, poses, strict=True)) | live  # some were placed after they came
    return Mapped(
        frames.numbers,
        poses,
        mapper.scene(),
        seconds,
        np.stack([known[row] for row in rows]),
        dict(reasons) | dict(mapper.statistics()),
    )


def world_trajectory(
    frames: FramePoses, submaps: Mapping[int, Similarity]
) -> Float64[np.ndarray, "n 4 4"]:
    """Poses of frames in the world of the map, from those in their submaps."""
    local = matrices(frames.poses)
    return np.stack(
        [
            submaps[int(i)].poses(pose[None])[0]
            for i, pose in zip(frames.submaps, local, strict=True)
        ]
    )
