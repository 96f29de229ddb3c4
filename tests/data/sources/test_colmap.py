"""COLMAP: the toy world as binary and text models, lenses, and damaged files."""

import struct
from pathlib import Path

import numpy as np
import pytest
import toyworld as toy
from scipy.spatial.transform import Rotation

from data.sources import colmap
from data.sources.colmap_files import CameraRecord
from ffsplat.errors import FFSplatError, SceneFileError

PINHOLE = (61.0, 58.0, 38.2, 31.7)


def _camera_from_world(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inverse = np.linalg.inv(pose)
    x, y, z, w = Rotation.from_matrix(inverse[:3, :3]).as_quat()
    return np.array([w, x, y, z]), inverse[:3, 3]


def _points(views: list[toy.ToyView]) -> tuple[np.ndarray, list[np.ndarray]]:
    """50 world points on the box and, per view, which of them its frustum holds."""
    half = toy.HALF.numpy()
    world = np.random.default_rng(0).uniform(-1, 1, (50, 3)) * half
    world[:, 2] = half[2]
    seen = []
    for view in views:
        local = (world - view.pose[:3, 3]) @ view.pose[:3, :3]
        pixel = local @ toy.INTRINSICS.T
        pixel = pixel[:, :2] / pixel[:, 2:]
        seen.append(np.flatnonzero(((pixel > 0) & (pixel < toy.SIZE)).all(1) & (local[:, 2] > 0)))
    return world, seen


def write_photos(folder: Path, views: list[toy.ToyView]) -> None:
    for index, view in enumerate(views):
        toy.save_image(folder / f"images/{index}.png", view.image)


def write_binary(folder: Path, views: list[toy.ToyView]) -> None:
    """Camera 7; point i has the number 100 + 3 i; each image sees one keypoint without a point."""
    model = folder / "sparse/0"
    model.mkdir(parents=True)
    write_photos(folder, views)
    camera = struct.pack("<QIiQQ4d", 1, 7, 1, *toy.SIZE, *PINHOLE)
    (model / "cameras.bin").write_bytes(camera)
    world, seen = _points(views)
    images = struct.pack("<Q", len(views))
    for index, (view, rows) in enumerate(zip(views, seen, strict=True)):
        quaternion, translation = _camera_from_world(view.pose)
        images += struct.pack("<I7dI", index + 1, *quaternion, *translation, 7)
        images += f"{index}.png".encode() + b"\0" + struct.pack("<Q", len(rows) + 1)
        images += struct.pack("<2dq", 1, 2, -1)
        for row in rows:
            images += struct.pack("<2dq", 3, 4, 100 + 3 * row)
    (model / "images.bin").write_bytes(images)
    points = struct.pack("<Q", len(world))
    for row in reversed(range(len(world))):
        points += struct.pack("<Q3d3Bd", 100 + 3 * row, *world[row], 1, 2, 3, 0.5)
        points += struct.pack("<Q2I", 1, 1, 0)
    (model / "points3D.bin").write_bytes(points)


def write_text(folder: Path, views: list[toy.ToyView], camera: str) -> None:
    write_photos(folder, views)
    model = folder / "sparse"
    model.mkdir()
    (model / "cameras.txt").write_text(f"# one camera\n7 {camera}\n")
    world, seen = _points(views)
    rows = ["# images"]
    for index, (view, points) in enumerate(zip(views, seen, strict=True)):
        quaternion, translation = _camera_from_world(view.pose)
        pose = " ".join(f"{value:.12f}" for value in (*quaternion, *translation))
        rows.append(f"{index + 1} {pose} 7 {index}.png")
        rows.append("" if index == 0 else " ".join(f"1.5 2.5 {100 + 3 * row}" for row in points))
    (model / "images.txt").write_text("\n".join(rows) + "\n")
    listed = [f"{100 + 3 * row} {x} {y} {z} 1 2 3 0.5 1 0" for row, (x, y, z) in enumerate(world)]
    (model / "points3D.txt").write_text("\n".join(listed) + "\n")


def test_binary_model_comes_back(tmp_path):
    views = toy.views()
    write_binary(tmp_path, views)
    assert colmap.find(tmp_path) == [tmp_path]
    scene = colmap.read(tmp_path)
    assert not scene.metric
    toy.assert_exact(scene)
    world, seen = _points(views)
    np.testing.assert_allclose(scene.points, world)
    for frame, rows in zip(scene.frames, seen, strict=True):
        np.testing.assert_array_equal(frame.points, rows)


def test_text_model_is_the_same(tmp_path):
    views = toy.views()
    write_binary(tmp_path / "a", views)
    write_text(tmp_path / "b", views, "PINHOLE 80 60 61 58 38.2 31.7")
    first, second = colmap.read(tmp_path / "a"), colmap.read(tmp_path / "b")
    toy.assert_exact(second)
    np.testing.assert_allclose(first.points, second.points)
    assert second.frames[0].points is not None
    assert len(second.frames[0].points) == 0, "its second line is empty"
    for a, b in zip(first.frames[1:], second.frames[1:], strict=True):
        np.testing.assert_allclose(a.world_from_camera, b.world_from_camera, atol=1e-9)
        np.testing.assert_array_equal(a.points, b.points)


@pytest.mark.parametrize(
    ("model", "parameters", "focal", "lens"),
    [
        ("SIMPLE_PINHOLE", (9, 3, 2), (9, 9), ()),
        ("PINHOLE", (9, 8, 3, 2), (9, 8), ()),
        ("SIMPLE_RADIAL", (9, 3, 2, 0.1), (9, 9), (0.1,)),
        ("RADIAL", (9, 3, 2, 0.1, 0.2), (9, 9), (0.1, 0.2)),
        ("OPENCV", (9, 8, 3, 2, 0.1, 0.2, 0.3, 0.4), (9, 8), (0.1, 0.2, 0.3, 0.4)),
        (
            "FULL_OPENCV",
            (9, 8, 3, 2, 0.1, 0.2, 0.3, 0.4, 0.5, 0, 0, 0),
            (9, 8),
            (0.1, 0.2, 0.3, 0.4, 0.5),
        ),
    ],
)
def test_parameters_of_every_model(model, parameters, focal, lens):
    record = CameraRecord(1, model, 6, 4, tuple(float(value) for value in parameters))
    read = colmap.lens_of(record, "here")
    expected = [[focal[0], 0, 3], [0, focal[1], 2], [0, 0, 1]]
    np.testing.assert_array_equal(read.intrinsics, expected)
    assert read.distortion == lens


@pytest.mark.parametrize("model", ["OPENCV_FISHEYE", "FOV", "FULL_OPENCV", "NEW"])
def test_lenses_that_no_pinhole_follows_are_refused(model):
    record = CameraRecord(1, model, 6, 4, (9.0, 8.0, 3.0, 2.0, *(0.1,) * 8))
    with pytest.raises(SceneFileError) as caught:
        colmap.lens_of(record, "here")
    assert "image_undistorter" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
def test_every_truncation_is_refused(tmp_path, name):
    write_binary(tmp_path, toy.views(2))
    path = tmp_path / "sparse/0" / name
    content = path.read_bytes()
    for size in (0, 7, 9, 40, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(SceneFileError, match="truncated"):
            colmap.read(tmp_path)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
def test_absurd_counts_allocate_nothing(tmp_path, name):
    write_binary(tmp_path, toy.views(1))
    path = tmp_path / "sparse/0" / name
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])
    with pytest.raises(SceneFileError, match="promises"):
        colmap.read(tmp_path)


@pytest.mark.parametrize(
    ("place", "value"),
    [(12, 99), (16, 2**40), (24, 0)],
)
def test_absurd_cameras_are_refused(tmp_path, place, value):
    write_binary(tmp_path, toy.views(1))
    path = tmp_path / "sparse/0/cameras.bin"
    content = bytearray(path.read_bytes())
    width = 4 if place == 12 else 8
    content[place : place + width] = value.to_bytes(width, "little")
    path.write_bytes(content)
    with pytest.raises(SceneFileError):
        colmap.read(tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd"])
def test_names_outside_are_refused(tmp_path, name):
    write_text(tmp_path, toy.views(1), "PINHOLE 80 60 61 58 38.2 31.7")
    path = tmp_path / "sparse/images.txt"
    path.write_text(path.read_text().replace("0.png", name))
    with pytest.raises(SceneFileError, match="outside"):
        colmap.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cameras.txt", "7 PINHOLE 80 60 61 58 38.2"),
        ("cameras.txt", "seven PINHOLE 80 60 61 58 38.2 31.7"),
        ("cameras.txt", "8 PINHOLE 80 60 61 58 38.2 31.7"),
        ("images.txt", "1 1 0 0 0 0 0 0\n\n"),
        ("images.txt", "1 0 0 0 0 0 0 0 7 0.png\n\n"),
        ("images.txt", "1 1 0 0 0 0 0 0 7 0.png\n1 2 9999999999999999999999999\n"),
        ("points3D.txt", "1 2\n"),
    ],
)
def test_damaged_text_is_refused(tmp_path, name, text):
    write_text(tmp_path, toy.views(1), "PINHOLE 80 60 61 58 38.2 31.7")
    (tmp_path / "sparse" / name).write_text(text)
    with pytest.raises(FFSplatError):
        colmap.read(tmp_path)
