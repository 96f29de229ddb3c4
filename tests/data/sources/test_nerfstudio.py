"""transforms.json: the toy world, intrinsics per frame, smaller copies, hostile values."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import toyworld as toy
from PIL import Image

from data.sources import nerfstudio
from data.sources.poses import pose_fault
from ffsplat.errors import FFSplatError

GLOBAL = {"fl_x": 61.0, "fl_y": 58.0, "cx": 38.2, "cy": 31.7, "w": 80, "h": 60}


def write(folder: Path, shared: dict, own: dict) -> dict:
    frames = []
    for index, view in enumerate(toy.views()):
        toy.save_image(folder / f"images/frame_{index}.jpg", view.image)
        toy.save_depth(folder / f"depth/{index}.png", view.depth, 0.001)
        opengl = view.pose @ np.diag([1.0, -1, -1, 1])
        frames.append(
            own
            | {
                "file_path": f"images/frame_{index}.jpg",
                "depth_file_path": f"depth/{index}.png",
                "transform_matrix": opengl.tolist(),
            }
        )
    content = shared | {"frames": frames[::-1]}
    save(folder, content)
    return content


def save(folder: Path, content: dict) -> None:
    (folder / "transforms.json").write_text(json.dumps(content))


@pytest.mark.parametrize(("shared", "own"), [(GLOBAL, {}), ({"fl_x": 1.0}, GLOBAL)])
def test_toy_world_comes_back(tmp_path, shared, own):
    write(tmp_path, shared, own)
    assert nerfstudio.find(tmp_path) == [tmp_path]
    scene = nerfstudio.read(tmp_path)
    assert not scene.metric
    assert [frame.name for frame in scene.frames] == [f"frame_{index}" for index in range(4)]
    toy.assert_exact(scene, image=3.0)


def test_field_of_view_and_middle_are_taken_where_nothing_else_is_said(tmp_path):
    content = write(tmp_path, {"camera_angle_x": math.pi / 2}, {})
    frame = nerfstudio.read(tmp_path).frames[0]
    np.testing.assert_allclose(frame.intrinsics, [[40, 0, 40], [0, 40, 30], [0, 0, 1]])
    assert frame.size == toy.SIZE
    save(tmp_path, {"frames": content["frames"]})
    with pytest.raises(FFSplatError, match="focal"):
        nerfstudio.read(tmp_path)


def test_smaller_copies_of_the_photos_are_taken(tmp_path):
    write(tmp_path, GLOBAL, {})
    (tmp_path / "images_2").mkdir()
    for photo in (tmp_path / "images").iterdir():
        with Image.open(photo) as image:
            half = image.resize((40, 30), Image.Resampling.BOX)
        half.save(tmp_path / "images_2" / photo.name, quality=98, subsampling=0)
        photo.unlink()
    (tmp_path / "images").rmdir()
    scene = nerfstudio.read(tmp_path)
    assert scene.frames[0].image.parent.name == "images_2"
    error = toy.image_error(scene, toy.Target(40, 1))
    assert error < 8, "a box filter of 2 x 2 pixels against the centre"
    wrong = [toy.inverted(frame) for frame in scene.frames]
    assert toy.image_error(toy.replace(scene, frames=tuple(wrong)), toy.Target(40, 1)) > 3 * error


def test_distortion_is_kept_and_fisheye_is_refused(tmp_path):
    content = write(tmp_path, GLOBAL | {"k1": 0.1, "p2": 0.02, "camera_model": "OPENCV"}, {})
    assert nerfstudio.read(tmp_path).frames[0].distortion == (0.1, 0, 0, 0.02, 0)
    save(tmp_path, content | {"camera_model": "OPENCV_FISHEYE"})
    with pytest.raises(FFSplatError) as caught:
        nerfstudio.read(tmp_path)
    assert caught.value.hint == "undistort it first"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file_path", "../../secret.png"),
        ("file_path", "/etc/passwd"),
        ("file_path", 7),
        ("file_path", "9" * 5000),
        ("file_path", None),
        ("depth_file_path", "depth/../../x.png"),
        ("w", 10**15),
        ("h", 0),
        ("fl_x", -1),
        ("fl_x", "wide"),
        ("cx", float("nan")),
        ("k1", float("inf")),
        ("transform_matrix", None),
        ("transform_matrix", [[1, 2], [3, 4]]),
    ],
)
def test_hostile_values_are_refused(tmp_path, key, value):
    content = write(tmp_path, GLOBAL, {})
    content["frames"][1][key] = value
    save(tmp_path, content)
    with pytest.raises(FFSplatError):
        nerfstudio.read(tmp_path)


def test_pose_that_is_not_finite_is_seen(tmp_path):
    content = write(tmp_path, GLOBAL, {})
    content["frames"][0]["transform_matrix"][1][3] = float("nan")
    save(tmp_path, content)
    faults = [pose_fault(frame.world_from_camera) for frame in nerfstudio.read(tmp_path).frames]
    assert sorted(faults) == ["", "", "", "not finite"]
