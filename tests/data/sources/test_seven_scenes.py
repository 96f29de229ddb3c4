"""7-Scenes: the toy world in its layout."""

import numpy as np
import pytest
import toyworld as toy

from data.sources import seven_scenes
from data.sources.poses import pose_fault
from data.sources.view import load_view
from ffsplat.errors import FFSplatError

K = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "chess/seq-01"
    for index, view in enumerate(toy.views()):
        small = toy.trace(view.pose, np.diag([1 / 8, 1 / 8, 1]) @ K, toy.SIZE)
        millimetres = np.round(small.depth * 1000).astype(np.uint16)
        millimetres[:2] = 65535
        toy.save_image(path / f"frame-{index:06d}.color.png", small.image)
        toy.save_map(path / f"frame-{index:06d}.depth.png", millimetres)
        text = "\n".join("\t".join(f"{value:.9e}" for value in row) for row in view.pose)
        (path / f"frame-{index:06d}.pose.txt").write_text(text)
    return path


def test_toy_world_comes_back(folder):
    assert seven_scenes.find(folder.parents[1]) == [folder]
    scene = seven_scenes.read(folder)
    assert scene.name == "chess-seq-01"
    np.testing.assert_array_equal(scene.frames[0].intrinsics, K)
    assert toy.image_error(scene) < 1
    for frame in scene.frames:
        view = load_view(frame, toy.FULL)
        assert view.depth is not None
        truth = toy.trace(frame.world_from_camera, view.intrinsics, toy.SIZE)
        np.testing.assert_array_equal(view.depth[:2], 0)
        np.testing.assert_allclose(view.depth[2:], truth.depth[2:], atol=6e-4)
    for mistake in (toy.inverted, toy.opengl):
        wrong = toy.replace(scene, frames=tuple(mistake(frame) for frame in scene.frames))
        assert toy.image_error(wrong) > 20


def test_frames_without_a_pose_are_counted(folder):
    (folder / "frame-000002.pose.txt").unlink()
    scene = seven_scenes.read(folder)
    assert len(scene.frames) == 3
    assert scene.notes == ("1 photos have no pose",)


@pytest.mark.parametrize("text", ["", "1 2 3", "a " * 16, "1 " * 100_000])
def test_damaged_poses_are_refused(folder, text):
    (folder / "frame-000001.pose.txt").write_text(text)
    with pytest.raises(FFSplatError):
        seven_scenes.read(folder)


def test_pose_that_is_not_finite_is_seen(folder):
    (folder / "frame-000001.pose.txt").write_text("-inf " * 16)
    assert pose_fault(seven_scenes.read(folder).frames[1].world_from_camera) == "not finite"
