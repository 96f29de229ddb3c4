"""transforms.json: against the identity of its axes, and the reader of our training data."""

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from PIL import Image
from posedroom import posed_room

from data.sources import nerfstudio as training
from ffsplat.errors import OutputError, SceneFileError, UsageError
from ffsplat.formats import read_scene, write_scene
from ffsplat.formats.nerfstudio import read, write


@pytest.fixture(scope="module")
def room():
    return posed_room()


@pytest.fixture(scope="module")
def file(room, tmp_path_factory):
    path = tmp_path_factory.mktemp("nerfstudio") / "transforms.json"
    write_scene(room, path)
    return path


def test_a_pixel_ray_of_opengl_meets_our_point(room, file):
    """p = M (x d / fx, -y d / fy, -d): what nerfstudio's Cameras compute for a pixel at depth d."""
    content = json.loads(file.read_text())
    random = np.random.default_rng(0)
    for index, frame in enumerate(content["frames"]):
        u, v, depth = random.uniform(0, 36), random.uniform(0, 36), random.uniform(1, 5)
        x, y = (u - frame["cx"]) / frame["fl_x"], -(v - frame["cy"]) / frame["fl_y"]
        theirs = np.array(frame["transform_matrix"]) @ [x * depth, y * depth, -depth, 1]
        ray = np.linalg.inv(room.cameras.intrinsics[index].astype(float)) @ [u, v, 1]
        ours = room.cameras.world_from_camera[index].astype(float) @ [*(depth * ray), 1]
        np.testing.assert_allclose(theirs, ours, atol=1e-6)
        assert frame["file_path"] == room.cameras.names[index]
        assert [frame["w"], frame["h"]] == [48, 36]


def test_what_all_frames_share_stands_once(room, tmp_path):
    write(replace(room, cameras=room.cameras[:2]), tmp_path / "transforms.json")
    content = json.loads((tmp_path / "transforms.json").read_text())
    assert (content["w"], content["fl_x"], content["fl_y"]) == (48, 40, 41)
    assert all(set(frame) == {"file_path", "transform_matrix"} for frame in content["frames"])


def test_the_reader_of_training_data_agrees(room, file):
    for name in room.cameras.names:
        photo = file.parent / name
        photo.parent.mkdir(exist_ok=True)
        Image.new("RGB", (48, 36)).save(photo)
    read_back = training.read(file.parent)
    for index, frame in enumerate(read_back.frames):
        np.testing.assert_allclose(
            frame.world_from_camera, room.cameras.world_from_camera[index], atol=1e-6
        )
        np.testing.assert_allclose(frame.intrinsics, room.cameras.intrinsics[index], atol=1e-6)


def test_points_are_read_by_trimesh(room, file):
    cloud = trimesh.load(file.parent / "sparse_pc.ply")
    np.testing.assert_array_equal(cloud.vertices.astype(np.float32), room.gaussians.means)
    colors = np.rint(255 * room.gaussians.colors)
    np.testing.assert_array_equal(np.asarray(cloud.colors)[:, :3], colors)


def test_a_scene_comes_back(room, file):
    back = read_scene(file)
    np.testing.assert_array_equal(back.cameras.world_from_camera, room.cameras.world_from_camera)
    np.testing.assert_array_equal(back.cameras.intrinsics, room.cameras.intrinsics)
    np.testing.assert_array_equal(back.gaussians.means, room.gaussians.means)
    np.testing.assert_allclose(back.gaussians.colors, room.gaussians.colors, atol=0.6 / 255)


def test_a_field_of_view_is_a_focal_length(file, tmp_path):
    content = json.loads(file.read_text())
    for frame in content["frames"]:
        frame |= {"camera_angle_x": np.pi / 2}
        del frame["fl_x"], frame["fl_y"]
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    (tmp_path / "sparse_pc.ply").write_bytes((file.parent / "sparse_pc.ply").read_bytes())
    lens = read(tmp_path / "transforms.json").cameras.intrinsics[0]
    np.testing.assert_allclose([lens[0, 0], lens[1, 1]], 24, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k1": 0.1}, "distorted"),
        ({"camera_model": "OPENCV_FISHEYE"}, "distorted"),
        ({"ply_file_path": "../x.ply"}, "outside"),
        ({"ply_file_path": None}, "names no points"),
        ({"frames": []}, "no frames"),
        ({"frames": [{"file_path": "a"}]}, "w is None"),
    ],
)
def test_files_that_do_not_fit_are_refused(file, tmp_path, change, message):
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(SceneFileError, match=message):
        read(path)


def test_hostile_poses_and_sizes_are_refused(file, tmp_path):
    content = json.loads(file.read_text())
    path = tmp_path / "transforms.json"
    for key, value in (("transform_matrix", [[1, 2]]), ("w", 1e12), ("fl_x", -1), ("h", "x")):
        frames = [frame | {key: value} for frame in content["frames"]]
        path.write_text(json.dumps(content | {"frames": frames}))
        with pytest.raises(SceneFileError):
            read(path)


def test_a_name_that_is_no_json_is_that_of_a_folder_of_both(room, file, tmp_path):
    for folder in (tmp_path / "new", tmp_path / "old.v2"):
        write(room, folder, overwrite=folder.exists())
        for name in ("transforms.json", "sparse_pc.ply"):
            assert (folder / name).read_bytes() == (file.parent / name).read_bytes()
        with pytest.raises(OutputError, match="already exists"):
            write(room, folder)
    write(room, tmp_path / "new", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "old.v2"}


def test_nothing_is_overwritten(room, file, tmp_path):
    (tmp_path / "sparse_pc.ply").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        write(room, tmp_path / "transforms.json")
    assert not (tmp_path / "transforms.json").exists()
    with pytest.raises(UsageError, match="no cameras"):
        write(replace(room, cameras=None), tmp_path / "b.json")
