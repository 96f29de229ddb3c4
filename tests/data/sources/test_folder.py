"""A plain folder: the toy world as it would be stored, and the real sets."""

import numpy as np
import pytest
import toyworld as toy
from toylayouts import save_cameras, write_folder

from data.sources import folder
from data.sources.poses import pose_fault
from ffsplat.errors import FFSplatError, SceneFileError


def test_toy_world_comes_back(tmp_path):
    write_folder(tmp_path / "a", toy.views())
    assert folder.find(tmp_path) == [tmp_path / "a"]
    scene = folder.read(tmp_path / "a")
    assert scene.metric
    assert len(scene.frames) == 4
    toy.assert_exact(scene)
    assert toy.labels_agree(scene, toy.WALL_NAMES)


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "a/../../b.png", "", None, "C:/x"]
)
def test_names_outside_of_the_folder_are_refused(tmp_path, name):
    content = write_folder(tmp_path, toy.views(1))
    content["frames"][0]["image"] = name
    save_cameras(tmp_path, content)
    with pytest.raises(SceneFileError, match="outside"):
        folder.read(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("width", 10**12),
        ("width", -3),
        ("height", "tall"),
        ("K", [[0, 0, 1], [0, 1, 1], [0, 0, 1]]),
        ("K", [[1e400, 0, 1], [0, 1, 1], [0, 0, 1]]),
        ("K", [[1, 2], [3, 4]]),
        ("cam_to_world", [1, 2, 3]),
        ("cam_to_world", "here"),
    ],
)
def test_absurd_values_are_refused(tmp_path, key, value):
    content = write_folder(tmp_path, toy.views(1))
    content["frames"][0][key] = value
    save_cameras(tmp_path, content)
    with pytest.raises(FFSplatError):
        folder.read(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("depth_scale", "small"),
        ("depth_scale", 0),
        ("depth_scale", 1e300),
        ("depth_scale", float("nan")),
        ("label_names", {"one": "wall"}),
        ("label_names", ["wall"]),
        ("label_names", {"9" * 5000: "wall"}),
    ],
)
def test_absurd_values_for_all_frames_are_refused(tmp_path, key, value):
    content = write_folder(tmp_path, toy.views(1))
    save_cameras(tmp_path, content | {key: value})
    with pytest.raises(SceneFileError, match=key):
        folder.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"frames": 3}', '{"frames": [3]}', "[" * 10**5])
def test_damaged_json_is_refused(tmp_path, text):
    (tmp_path / "cameras.json").write_text(text)
    with pytest.raises(FFSplatError):
        folder.read(tmp_path)


def test_broken_pose_is_read_but_seen(tmp_path):
    content = write_folder(tmp_path, toy.views(1))
    content["frames"][0]["cam_to_world"][0][0] = float("nan")
    save_cameras(tmp_path, content)
    assert pose_fault(folder.read(tmp_path).frames[0].world_from_camera) == "not finite"


@pytest.mark.parametrize("name", ["hololens_office", "apc_shelf", "ycbv_0000", "train/tum_fr1_rpy"])
def test_real_sets_are_read(shared_data, name):
    scene = folder.read(shared_data / name)
    assert scene.metric
    assert not any(pose_fault(frame.world_from_camera) for frame in scene.frames)
    view = toy.load_view(scene.frames[0], toy.Target(160))
    assert view.image.shape[1] == 160
    assert view.depth is not None
    assert 0.1 < np.median(view.depth[view.depth > 0]) < 10


def test_frames_without_camera_are_counted(shared_data):
    scene = folder.read(shared_data / "opensfm_lund")
    assert not scene.frames
    assert scene.notes == ("15 frames have no camera",)
