"""Clips and shards to test with."""

import io
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.clip import Clip


def _pose(random: np.random.Generator) -> np.ndarray:
    pose = np.eye(4)
    q, _ = np.linalg.qr(random.normal(size=(3, 3)))
    pose[:3, :3] = q * np.sign(np.linalg.det(q))
    pose[:3, 3] = random.normal(size=3)
    return pose.astype(np.float32)


@pytest.fixture
def make_clip() -> Callable[..., Clip]:
    """A clip of random content; keywords replace its fields."""

    def make(key: str = "a", seed: int = 0, views: int = 2, size=(6, 8), **changes) -> Clip:
        random = np.random.default_rng(seed)
        shape = (views, *size)
        intrinsics = np.tile(
            np.array([[9.5, 0, 4], [0, 9.25, 3], [0, 0, 1]], np.float32), (views, 1, 1)
        )
        depth = random.uniform(0, 7, shape).astype(np.float32)
        depth[0, 0] = 0
        values = {
            "key": key,
            "source": "test",
            "metric": True,
            "images": random.integers(0, 256, (*shape, 3), np.uint8),
            "intrinsics": intrinsics,
            "world_from_camera": np.stack([_pose(random) for _ in range(views)]),
            "depth": depth,
            "whole": random.integers(-1, 60, shape, np.int16),
            "part": random.integers(-1, 3000, shape, np.int16),
            "instance": random.integers(-1, 9, shape, np.int16),
            "teachers": {"dino": random.normal(size=(views, 5, 2, 3)).astype(np.float16)},
        }
        return Clip(**values | changes)

    return make


@pytest.fixture
def same() -> Callable[[Clip, Clip], None]:
    """Assert that two clips are equal, photos aside; depth to half a step or what is given."""

    def check(found: Clip, expected: Clip, depth: float | None = None) -> None:
        for field in fields(Clip):
            a, b = getattr(found, field.name), getattr(expected, field.name)
            if field.name == "photos":
                continue
            if field.name == "depth" and b is not None:
                step = b.max() / 65535
                assert np.abs(a - b).max() <= (step * 0.501 if depth is None else depth)
                assert np.array_equal(a > 0, b > 0)
            elif isinstance(b, np.ndarray):
                assert a.dtype == b.dtype, field.name
                assert np.array_equal(a, b), field.name
            elif field.name == "teachers":
                assert a.keys() == b.keys()
                assert all(np.array_equal(a[name], b[name]) for name in b)
            else:
                assert a == b, field.name

    return check


@pytest.fixture
def photo() -> Callable[[np.ndarray, str], bytes]:
    """An image as the bytes of a file."""

    def encode(image: np.ndarray, kind: str) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, kind)
        return file.getvalue()

    return encode


@pytest.fixture
def shards(tmp_path, make_clip) -> Path:
    """A folder of 17 clips in 4 shards."""
    from data.shards import write_shards

    clips = (make_clip(f"clip-{i:02d}", i) for i in range(17))
    write_shards(clips, tmp_path / "shards", "test", max_count=5)
    return tmp_path / "shards"
