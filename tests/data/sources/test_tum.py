"""TUM RGB-D: the toy world in its layout, times that do not meet, damaged lists."""

from pathlib import Path

import numpy as np
import pytest
import toyworld as toy
from scipy.spatial.transform import Rotation, Slerp

from data.sources import tum
from data.sources.poses import pose_fault
from ffsplat.errors import FFSplatError

K3 = np.array([[535.4, 0, 320.6], [0, 539.2, 248.1], [0, 0, 1]])
"""Freiburg 3 with half-integer pixel centres."""
SMALL = np.diag([1 / 8, 1 / 8, 1]) @ K3


def write(folder: Path, poses: list[np.ndarray], times: list[float]) -> None:
    rgb, depth, truth = ["# colour"], ["# depth"], ["# truth", "# timestamp tx ty tz qx qy qz qw"]
    for pose, time in zip(poses, times, strict=True):
        view = toy.trace(pose, SMALL, toy.SIZE)
        toy.save_image(folder / f"rgb/{time:.6f}.png", view.image)
        toy.save_depth(folder / f"depth/{time + 0.01:.6f}.png", view.depth, 1 / 5000)
        rgb.append(f"{time:.6f} rgb/{time:.6f}.png")
        depth.append(f"{time + 0.01:.6f} depth/{time + 0.01:.6f}.png")
        quaternion = Rotation.from_matrix(pose[:3, :3]).as_quat()
        numbers = " ".join(f"{value:.9f}" for value in (*pose[:3, 3], *quaternion))
        truth.append(f"{time:.6f} {numbers}")
    for name, rows in (("rgb", rgb), ("depth", depth), ("groundtruth", truth)):
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "rgbd_dataset_freiburg3_toy"
    write(path, [view.pose for view in toy.views()], [1.0, 1.1, 1.2, 1.3])
    return path


def test_toy_world_comes_back(folder):
    assert tum.find(folder.parent) == [folder]
    scene = tum.read(folder)
    assert scene.metric
    assert not scene.notes
    np.testing.assert_allclose(scene.frames[0].intrinsics, K3)
    toy.assert_exact(scene, mistakes=(toy.inverted, toy.opengl))
    assert [frame.timestamp for frame in scene.frames] == [1.0, 1.1, 1.2, 1.3]


def test_pose_between_two_rows_is_interpolated(folder):
    """A photo 4 ms after one row and 6 ms before the next, against scipy's Slerp."""
    a, b = (view.pose for view in toy.views(2))
    turn = Rotation.from_rotvec([0.01, -0.02, 0.01]).as_matrix()
    b = np.block([[a[:3, :3] @ turn, a[:3, 3:] + 0.01], [np.zeros((1, 3)), 1]])
    write(folder, [a, b], [2.0, 2.01])
    rgb = (folder / "rgb.txt").read_text().replace("2.000000 rgb", "2.004000 rgb")
    (folder / "rgb.txt").write_text(rgb)
    frame = tum.read(folder).frames[0]
    rotations = Rotation.from_matrix([a[:3, :3], b[:3, :3]])
    expected = Slerp([2.0, 2.01], rotations)(2.004).as_matrix()
    np.testing.assert_allclose(frame.world_from_camera[:3, :3], expected, atol=1e-6)
    np.testing.assert_allclose(frame.world_from_camera[:3, 3], a[:3, 3] + 0.004, atol=1e-6)
    assert not pose_fault(frame.world_from_camera)


def test_sign_of_a_quaternion_does_not_matter(folder):
    text = (folder / "groundtruth.txt").read_text().splitlines()
    words = text[3].split()
    text[3] = " ".join([*words[:4], *(str(-float(word)) for word in words[4:])])
    before = tum.read(folder)
    (folder / "groundtruth.txt").write_text("\n".join(text))
    for old, new in zip(before.frames, tum.read(folder).frames, strict=True):
        np.testing.assert_allclose(old.world_from_camera, new.world_from_camera, atol=1e-7)


def test_what_is_not_simultaneous_is_left_out(folder):
    rgb = (folder / "rgb.txt").read_text().replace("1.300000 rgb", "1.330000 rgb")
    (folder / "rgb.txt").write_text(rgb)
    depth = (folder / "depth.txt").read_text().replace("1.110000 depth", "1.130000 depth")
    (folder / "depth.txt").write_text(depth)
    scene = tum.read(folder)
    assert [frame.depth is not None for frame in scene.frames] == [True, False, True]
    assert scene.notes == ("1 photos have no pose within 0.02 s",)


def test_camera_without_calibration_is_said(folder):
    other = folder.rename(folder.parent / "kitchen")
    scene = tum.read(other)
    assert scene.notes == ("the folder's name has no freiburg1, 2 or 3: default intrinsics",)
    np.testing.assert_allclose(scene.frames[0].intrinsics[:2, 2], [320, 240])


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("rgb.txt", "1.5 ../../secret.png"),
        ("rgb.txt", "soon rgb/1.png"),
        ("rgb.txt", "1.5"),
        ("groundtruth.txt", "1.5 0 0 0 1"),
        ("groundtruth.txt", "1.5 0 0 0 0 0 0 one"),
    ],
)
def test_damaged_lists_are_refused(folder, name, line):
    with (folder / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(FFSplatError):
        tum.read(folder)


def test_pose_that_is_not_finite_is_seen(folder):
    text = (folder / "groundtruth.txt").read_text().replace("1.300000 ", "1.300000 nan ", 1)
    rows = [line if "nan" not in line else " ".join(line.split()[:8]) for line in text.splitlines()]
    (folder / "groundtruth.txt").write_text("\n".join(rows))
    faults = [pose_fault(frame.world_from_camera) for frame in tum.read(folder).frames]
    assert faults == ["", "", "", "not finite"]
