"""ScanNet's labelled points, and a scene that is asked at them."""

from dataclasses import replace

import numpy as np
import pytest
from plyfile import PlyData, PlyElement
from small_room import small_room

from ffsplat.alignment import Similarity
from ffsplat.errors import SceneFileError, UsageError
from ffsplat.evaluation.asking import Subject
from ffsplat.evaluation.points import align, measure_points, read_labelled_points, read_poses
from ffsplat.types import Cameras


def write(path, points, labels):
    """In the layout of `_vh_clean_2.labels.ply`: colours, a label, and faces behind."""
    kinds = [(a, "f4") for a in "xyz"] + [(c, "u1") for c in ("red", "green", "blue", "alpha")]
    rows = np.zeros(len(points), [*kinds, ("label", "u2")])
    for axis, values in zip("xyz", points.T, strict=True):
        rows[axis] = values
    rows["label"] = labels
    faces = np.array([([0, 1, 2],)], [("vertex_indices", "i4", (3,))])
    elements = [PlyElement.describe(rows, "vertex"), PlyElement.describe(faces, "face")]
    PlyData(elements).write(path)


def test_points_and_labels_come_as_another_library_wrote_them(tmp_path):
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    labels = np.arange(50) % 41
    write(tmp_path / "a.ply", points, labels)
    read, numbers = read_labelled_points(tmp_path / "a.ply")
    np.testing.assert_array_equal(read, points)
    np.testing.assert_array_equal(numbers, labels)


def test_cut_and_changed_files_are_refused_by_one_error(tmp_path):
    path = tmp_path / "a.ply"
    write(path, np.zeros((9, 3), np.float32), np.zeros(9))
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for end in range(0, whole.index(b"end_header") + 80, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(SceneFileError):
            read_labelled_points(path)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[generator.integers(len(whole))] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            read_labelled_points(path)
        except SceneFileError:
            continue


def cameras() -> Cameras:
    poses = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    poses[:, :3, 3] = np.random.default_rng(1).normal(size=(3, 3))
    lens = np.tile(np.eye(3, dtype=np.float32), (3, 1, 1))
    sizes = np.full((3, 2), 9, np.int32)
    return Cameras(poses, lens, sizes, ("color/0.jpg", "color/20.jpg", "40.png"))


def test_the_poses_of_a_data_set_give_its_scale_and_frame(tmp_path):
    truth = Similarity(2.5, np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([1.0, 2, 3]))
    moved = truth.cameras(cameras())
    for name, pose in zip(("0", "20"), moved.world_from_camera, strict=False):
        np.savetxt(tmp_path / f"{name}.txt", pose)
    np.savetxt(tmp_path / "40.txt", np.full((4, 4), -np.inf))
    found = align(cameras(), read_poses(tmp_path, cameras()))
    assert found.scale == pytest.approx(2.5, rel=1e-5)
    np.testing.assert_allclose(found.rotation, truth.rotation, atol=1e-5)
    np.testing.assert_allclose(found.translation, truth.translation, atol=1e-5)


def test_one_pose_is_not_enough(tmp_path):
    np.savetxt(tmp_path / "0.txt", np.eye(4))
    with pytest.raises(UsageError, match="two cameras"):
        align(cameras(), read_poses(tmp_path, cameras()))


def test_points_take_the_class_of_the_gaussian_beside_them():
    """Table 7, sofa 6, wall 1; a third of the wall's points are called floor by the truth."""
    scene = small_room()
    names = np.repeat([7, 6, 1], [300, 200, 500])
    points = scene.gaussians.means + np.float32(0.001)
    assert measure_points(Subject(scene), points, names)["miou"] == 1
    wrong = names.copy()
    wrong[900:] = 2
    scores = measure_points(Subject(scene), points, wrong)
    assert scores["macc"] == pytest.approx((1 + 1 + 1 + 0) / 4)
    assert scores["miou"] == pytest.approx((1 + 1 + 400 / 500 + 0) / 4)


def test_classes_that_are_not_asked_for_count_for_nothing():
    scene = small_room()
    names = np.repeat([7, 12, 40], [300, 200, 500])  # counter is not among the ten
    scores = measure_points(Subject(scene), scene.gaussians.means, names, 10)
    assert scores == {"miou": 1, "macc": 1, "accuracy": 1}


def test_a_point_far_from_all_and_a_gaussian_like_glass_give_no_answer():
    scene = small_room()
    names = np.repeat([7, 6, 1], [300, 200, 500])
    away = scene.gaussians.means + np.float32(50)
    assert measure_points(Subject(scene), away, names)["accuracy"] == 0
    glass = replace(scene.gaussians, opacities=np.full(1000, 0.05, np.float32))
    clear = Subject(replace(scene, gaussians=glass))
    assert measure_points(clear, scene.gaussians.means, names)["accuracy"] == 0
