"""Checks: exact data agrees, each usual mistake is noticed and named, the figures of real sets."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import toyworld as toy
from click.testing import CliRunner
from toylayouts import write_folder

from data.__main__ import main
from data.check import Check, check_clip, check_scene, table
from data.clip import Clip
from data.convert import Options, convert
from data.epipolar import epipolar_distance, matches
from data.sources import folder
from data.sources.clips import ClipRule
from data.sources.registry import source_of
from data.sources.view import Target

PAIRS = [(0, 1), (1, 2), (2, 3)]


@pytest.fixture
def clip() -> Clip:
    """The toy world without files: four views with depth and labels."""
    views = toy.views()
    return Clip(
        key="toy",
        source="toy",
        metric=True,
        images=np.stack([view.image for view in views]),
        intrinsics=np.stack([toy.INTRINSICS] * 4).astype(np.float32),
        world_from_camera=np.stack([view.pose for view in views]).astype(np.float32),
        depth=np.stack([view.depth for view in views]).astype(np.float32),
        whole=np.stack([view.labels for view in views]).astype(np.int16),
        instance=np.stack([view.labels for view in views]).astype(np.int16),
    )


def test_exact_data_agrees(clip):
    found = check_clip(clip, PAIRS)
    assert found.depth is not None
    assert found.depth_shuffled is not None
    assert found.depth < 0.01
    assert found.depth_shuffled > 5 * found.depth
    assert found.labels is not None
    assert found.labels > 0.97
    assert found.instances == found.labels
    assert not found.warnings


def _mistaken(clip: Clip, name: str) -> Clip:
    pose = clip.world_from_camera
    depth = clip.depth
    assert depth is not None
    changes = {
        "inverted": {"world_from_camera": np.linalg.inv(pose)},
        "OpenGL": {"world_from_camera": (pose @ np.diag([1, -1, -1, 1])).astype(np.float32)},
        "1000 times too large": {"depth": depth * 1000},
        "1000 times too small": {"depth": depth / 1000},
    }
    return replace(clip, **changes[name])


@pytest.mark.parametrize(
    "name", ["inverted", "OpenGL", "1000 times too large", "1000 times too small"]
)
def test_each_mistake_is_named(clip, name):
    warnings = check_clip(_mistaken(clip, name), PAIRS).warnings
    assert any(name in warning and "as read" in warning for warning in warnings), warnings


def test_millimetres_for_metres_are_suspected_even_if_all_agrees(clip):
    large = replace(clip, depth=1000 * clip.depth, world_from_camera=clip.world_from_camera.copy())
    large.world_from_camera[:, :3, 3] *= 1000
    found = check_clip(large, PAIRS)
    assert found.depth is not None
    assert found.depth < 0.01
    (warning,) = found.warnings
    assert "millimetres taken for metres" in warning
    assert not check_clip(replace(large, metric=False), PAIRS).warnings


def test_wrong_labels_are_seen(clip):
    wrong = clip.whole.copy()
    wrong[1] = np.roll(wrong[1], 20, axis=1)
    found = check_clip(replace(clip, whole=wrong), PAIRS)
    assert found.labels is not None
    assert found.labels < 0.9
    assert found.instances is not None
    assert found.instances > 0.97


def test_epipolar_distance_of_exact_points_is_zero_and_of_moved_ones_known():
    """Pure motion to the right: lines are rows, so a point moved down by 3 px is 3 px off."""
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -1, 3], [1, 1, 5], (30, 3))
    k = np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])
    poses = np.stack([np.eye(4), np.eye(4)])
    poses[1, 0, 3] = 0.5
    pixels = []
    for pose in poses:
        image = (points - pose[:3, 3]) @ k.T
        pixels.append(image[:, :2] / image[:, 2:])
    both = np.stack([k, k])
    np.testing.assert_allclose(epipolar_distance(*pixels, both, poses), 0, atol=1e-9)
    moved = epipolar_distance(pixels[0], pixels[1] + [7, 3], both, poses)
    np.testing.assert_allclose(moved, 3, atol=1e-9)


def test_epipolar_distance_is_that_of_opencv():
    rng = np.random.default_rng(1)
    a, b = toy.views(2)
    first, second = rng.uniform(0, 60, (2, 20, 2))
    both = np.stack([toy.INTRINSICS, toy.INTRINSICS])
    poses = np.stack([a.pose, b.pose])
    relative = np.linalg.inv(b.pose) @ a.pose
    x, y, z = relative[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ relative[:3, :3]
    inverse = np.linalg.inv(toy.INTRINSICS)
    fundamental = inverse.T @ essential @ inverse
    lines = [
        cv2.computeCorrespondEpilines(p.reshape(-1, 1, 2), side, fundamental)[:, 0]
        for p, side in ((first, 1), (second, 2))
    ]  # lines in the other image, of unit normals
    ones = np.ones((20, 1))
    expected = np.abs((np.hstack([second, ones]) * lines[0]).sum(1))
    expected += np.abs((np.hstack([first, ones]) * lines[1]).sum(1))
    found = epipolar_distance(first, second, both, poses)
    np.testing.assert_allclose(found, expected / 2, rtol=1e-5)


def test_matches_of_a_shifted_picture_are_the_shift():
    rng = np.random.default_rng(2)
    noise = cv2.resize(rng.integers(0, 255, (40, 60, 3), np.uint8), (360, 240))
    first, second = noise[:, 20:], noise[:, :-20]
    a, b = matches(first, second)
    assert len(a) > 30
    np.testing.assert_allclose(np.median(b - a, axis=0), [20, 0], atol=0.1)
    blank = np.zeros((50, 50, 3), np.uint8)
    assert len(matches(blank, blank)[0]) == 0


def test_scenes_name_their_broken_poses(tmp_path):
    content = write_folder(tmp_path, toy.views(5))
    content["frames"][1]["cam_to_world"][0][0] = float("inf")
    content["frames"][3]["cam_to_world"][0][0] = float("inf")
    (tmp_path / "cameras.json").write_text(json.dumps(content))
    found = check_scene(folder.read(tmp_path), "here")
    assert (found.name, found.views) == ("here", 3)
    assert found.warnings == ("2 frames: pose is not finite",)


FIGURES = {
    "hololens_office": 0.0031,
    "slambook_diningroom": 0.016,
    "slambook_livingroom": 0.012,
    "apc_shelf": 0.0095,
    "ycbv_0000": 0.0012,
    "train/tum_fr1_rpy": 0.017,
    "train/pochang_office": 0.003,
}
"""Median relative depth errors that were measured when the sets were made, by other code."""


@pytest.mark.parametrize("name", FIGURES)
def test_real_sets_give_the_figures_they_were_published_with(shared_data, name):
    found = check_scene(folder.read(shared_data / name), name)
    assert found.depth is not None
    assert 0.4 * FIGURES[name] < found.depth < 1.6 * FIGURES[name]
    assert not found.warnings


@pytest.mark.parametrize(("name", "pixels"), [("buddha", 0.94), ("robustmvd_table", 0.35)])
def test_real_sets_without_depth_give_their_epipolar_error(shared_data, name, pixels):
    """Measured here on views of half the width, so half of the pixels."""
    found = check_scene(folder.read(shared_data / name), name)
    assert found.epipolar is not None
    assert found.epipolar_shuffled is not None
    assert found.epipolar < pixels
    assert found.epipolar_shuffled > 10 * found.epipolar
    assert not found.warnings


@pytest.mark.parametrize(("mistake", "word"), [(toy.inverted, "inverted"), (toy.opengl, "OpenGL")])
@pytest.mark.parametrize("name", ["slambook_diningroom", "robustmvd_table"])
def test_mistakes_on_real_sets_are_named(shared_data, name, mistake, word):
    scene = folder.read(shared_data / name)
    wrong = replace(scene, frames=tuple(mistake(frame) for frame in scene.frames))
    (warning,) = check_scene(wrong, name).warnings
    assert word in warning


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_command_checks_sources_and_shards(tmp_path):
    write_folder(tmp_path / "in/a", toy.views())
    result = run("check", tmp_path / "in")
    assert result.exit_code == 0
    assert result.output.startswith("a: 4 views, depth error ")
    assert "labels agree" in result.output
    (tmp_path / "in/b").mkdir()
    (tmp_path / "in/b/cameras.json").write_text("[]")
    result = run("check", tmp_path / "in", "--source", "folder")
    assert result.exit_code == 3
    assert "skipped: b: " in result.output
    out: Path = tmp_path / "out"
    convert(
        source_of("folder"), tmp_path / "in/a", out, Options(Target(80, 4), ClipRule(2, 0.05, 1.0))
    )
    result = run("check", out)
    assert result.exit_code == 0
    assert result.output.startswith("folder-a-")
    assert run("check", tmp_path / "absent").exit_code == 2
    assert run("check", tmp_path / "out", "--source", "tum").exit_code == 2


def test_table_says_what_there_is():
    bare = Check("x", 2, None, None, None, None, None, None, ("odd",))
    assert list(table([bare])) == ["x: 2 views, nothing to compare", "warning: x: odd"]
    full = replace(bare, depth=0.012, labels=0.5, warnings=())
    expected = "x: 2 views, depth error 1.20 % (poses shuffled none), labels agree 50.0 %"
    assert list(table([full])) == [expected]
