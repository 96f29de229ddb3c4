"""Footage: walks and folders say what they show, and keep some of it back."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from PIL import Image

from data.rooms import SPLITS
from ffsplat.errors import SceneFileError
from train.evaluation.footage import folder_footage, open_rooms, walk_footage


@cache
def walk():
    return walk_footage(SPLITS["preview"][0], 30, 24, 32)


def test_a_walk_is_given_frame_by_frame():
    footage = walk()
    assert footage.images.shape == (30, 24, 32, 3)
    np.testing.assert_array_equal(np.diff(footage.times_ns), 100_000_000)
    steps = np.linalg.norm(np.diff(footage.world_from_camera[:, :3, 3], axis=0), axis=1)
    assert 0 < steps.max() <= 0.0501


def test_frames_are_given_or_held_back():
    for count, every in ((30, 5), (100, 20)):
        rows = np.arange(count) % 30
        footage = replace(walk(), images=walk().images[rows])
        np.testing.assert_array_equal(np.sort([*footage.given, *footage.held]), np.arange(count))
        np.testing.assert_array_equal(np.diff(footage.held), every)


def test_footage_is_begun_later_and_walked_back():
    names = []
    for footage, rows in zip(
        walk().begun(2),
        (range(30), range(1, 30), range(29, -1, -1), range(28, -1, -1)),
        strict=True,
    ):
        names.append(footage.name.partition(", ")[2])
        np.testing.assert_array_equal(footage.images, walk().images[rows])
        np.testing.assert_array_equal(footage.depth, walk().depth[rows])
        np.testing.assert_array_equal(footage.world_from_camera, walk().world_from_camera[rows])
        assert (np.diff(footage.times_ns) > 0).all()
        assert len(footage.given) + len(footage.held) == len(rows)
    assert names == ["from 0", "from 1", "back from 0", "back from 1"]


def test_open_rooms_are_found_in_the_order_of_their_seeds():
    rooms = open_rooms("preview", 2)
    first, second = next(rooms), next(rooms)
    assert SPLITS["preview"][2] <= first < second


def write_set(folder, count=4, **changes):
    """Frames of 64 x 48, depth at half of that, which names its own pixel."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for i in range(count):
        Image.new("RGB", (64, 48), (10 * i, 0, 0)).save(folder / "images" / f"{i}.png")
        depth = 100 + np.arange(24 * 32).reshape(24, 32) + i
        Image.fromarray(depth.astype(np.uint16)).save(folder / f"{i}.png")
        frame = {
            "image": f"images/{i}.png", "depth": f"{i}.png", "width": 64, "height": 48,
            "K": [[60, 0, 31.5], [0, 60, 23.5], [0, 0, 1]],
            "cam_to_world": np.eye(4).tolist(),
        }  # fmt: skip
        frames.append({k: v for k, v in (frame | changes).items() if v is not None})
    (folder / "cameras.json").write_text(json.dumps({"depth_scale": 0.01, "frames": frames}))
    return folder


def test_a_folder_is_read_at_the_size_of_the_network(tmp_path):
    footage = folder_footage(write_set(tmp_path / "office"), 32, 8, stride=2)
    assert footage.name == "office"
    assert footage.images.shape == (2, 24, 32, 3)
    assert footage.images[1, 0, 0, 0] == 20
    np.testing.assert_allclose(footage.intrinsics[0], [[30, 0, 16], [0, 30, 12], [0, 0, 1]])
    expected = (100 + np.arange(24 * 32).reshape(24, 32) + 2) * np.float32(0.01)
    np.testing.assert_allclose(footage.depth[1], expected, rtol=1e-6)


def test_a_folder_may_have_no_depth(tmp_path):
    assert folder_footage(write_set(tmp_path / "office", depth=None), 32, 8).depth is None


def test_a_broken_folder_is_refused(tmp_path):
    with pytest.raises(SceneFileError, match="breaks the layout"):
        folder_footage(write_set(tmp_path / "office", K=[1, 2]), 32, 8)
