"""COLMAP: the toy world as binary and text models, lenses, and damaged files."""

import struct

import numpy as np
import pytest
import toyworld as toy
from toylayouts import sparse_points, write_colmap, write_colmap_text

from data.sources import colmap
from ffsplat.errors import FFSplatError, SceneFileError
from ffsplat.formats.colmap_files import CameraRecord


def test_binary_model_comes_back(tmp_path):
    views = toy.views()
    write_colmap(tmp_path, views)
    assert colmap.find(tmp_path) == [tmp_path]
    scene = colmap.read(tmp_path)
    assert not scene.metric
    toy.assert_exact(scene)
    world, seen = sparse_points(views)
    np.testing.assert_allclose(scene.points, world)
    for frame, rows in zip(scene.frames, seen, strict=True):
        np.testing.assert_array_equal(frame.points, rows)


def test_text_model_is_the_same(tmp_path):
    views = toy.views()
    write_colmap(tmp_path / "a", views)
    write_colmap_text(tmp_path / "b", views, "PINHOLE 80 60 61 58 38.2 31.7")
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
    write_colmap(tmp_path, toy.views(2))
    path = tmp_path / "sparse/0" / name
    content = path.read_bytes()
    for size in (0, 7, 9, 40, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(SceneFileError, match="truncated"):
            colmap.read(tmp_path)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
def test_absurd_counts_allocate_nothing(tmp_path, name):
    write_colmap(tmp_path, toy.views(1))
    path = tmp_path / "sparse/0" / name
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])
    with pytest.raises(SceneFileError, match="promises"):
        colmap.read(tmp_path)


def test_name_without_end_is_refused(tmp_path):
    write_colmap(tmp_path, toy.views(1))
    path = tmp_path / "sparse/0/images.bin"
    path.write_bytes(path.read_bytes()[:76] + b"a" * 10**6)
    with pytest.raises(SceneFileError, match="name has no end"):
        colmap.read(tmp_path)


@pytest.mark.parametrize(
    ("place", "value"),
    [(12, 99), (16, 2**40), (24, 0)],
)
def test_absurd_cameras_are_refused(tmp_path, place, value):
    write_colmap(tmp_path, toy.views(1))
    path = tmp_path / "sparse/0/cameras.bin"
    content = bytearray(path.read_bytes())
    width = 4 if place == 12 else 8
    content[place : place + width] = value.to_bytes(width, "little")
    path.write_bytes(content)
    with pytest.raises(SceneFileError):
        colmap.read(tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd"])
def test_names_outside_are_refused(tmp_path, name):
    write_colmap_text(tmp_path, toy.views(1), "PINHOLE 80 60 61 58 38.2 31.7")
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
    write_colmap_text(tmp_path, toy.views(1), "PINHOLE 80 60 61 58 38.2 31.7")
    (tmp_path / "sparse" / name).write_text(text)
    with pytest.raises(FFSplatError):
        colmap.read(tmp_path)
