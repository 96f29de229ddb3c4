"""Rooms of boxes made by hand, for questions about where things lie."""

from dataclasses import dataclass

import numpy as np

from ffsplat import codes
from ffsplat.codebook import lexicon_codebook
from ffsplat.types import SH_C0, Cameras, Gaussians, Scene

GRAY = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Box:
    """A thing of a lexicon name: right, ahead and up of its foot's middle, and its size, in m."""

    name: str
    at: tuple[float, float, float]
    size: tuple[float, float, float] = (0.4, 0.4, 0.4)
    color: tuple[float, float, float] = GRAY


def surface(box, generator, count=200):
    """Points on the six faces of a box, (right, ahead, up)."""
    points = generator.uniform(-0.5, 0.5, (count, 3))
    axis = generator.integers(0, 3, count)
    points[np.arange(count), axis] = np.sign(points[np.arange(count), axis]) / 2
    points[:, 2] += 0.5
    return points * box.size + box.at


def room(*boxes, eye=1.5, cameras=True, metric=True, scale=1.0):
    """A scene of boxes, each an instance in their order; the first camera looks ahead from `eye` m.

    The world is the frame of that camera: x right, y down, z ahead.
    """
    generator = np.random.default_rng(5)
    book = lexicon_codebook()
    points = np.concatenate([surface(box, generator) for box in boxes])
    owner = np.repeat(np.arange(len(boxes)), 200)
    means = np.stack([points[:, 0], eye - points[:, 2], points[:, 1]], axis=1) * scale
    ids = np.array([[book.names.index(box.name)] for box in boxes])[owner]
    colors = np.array([box.color for box in boxes])[owner]
    count = len(points)
    gaussians = Gaussians(
        means.astype(np.float32),
        np.full((count, 3), 0.02, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, 0.9, np.float32),
        ((colors - 0.5) / SH_C0).astype(np.float32)[:, None],
    )
    poses = np.eye(4, dtype=np.float32)[None]
    back = np.diag(np.array([-1, 1, -1, 1], np.float32))  # turned about, at the far end
    back[:3, 3] = np.array([0, 0, 6]) * scale
    made = Cameras(
        np.concatenate([poses, back[None]]),
        np.tile(np.array([[50, 0, 32], [0, 50, 24], [0, 0, 1]], np.float32), (2, 1, 1)),
        np.tile(np.array([64, 48], np.int32), (2, 1)),
        ("front", "back"),
    )
    code = codes.from_pairs(ids, np.ones(ids.shape))
    instances = owner.astype(np.int32)
    return Scene(gaussians, code, instances, book, made if cameras else None, metric)
