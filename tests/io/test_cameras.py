import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ffsplat.errors import OutputError, SceneFileError
from ffsplat.io import read_cameras, write_cameras
from ffsplat.types import Cameras


def cameras(n: int = 3) -> Cameras:
    angles = np.linspace(0, 1, n)
    poses = np.tile(np.eye(4, dtype=np.float32), (n, 1, 1))
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(angles)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(angles), -np.sin(angles)
    poses[:, :3, 3] = np.random.default_rng(0).normal(size=(n, 3))
    intrinsics = np.tile(np.array([[100, 0, 32.5], [0, 101, 24], [0, 0, 1]], np.float32), (n, 1, 1))
    sizes = np.tile(np.array([64, 48], np.int32), (n, 1))
    return Cameras(poses, intrinsics, sizes, tuple(f"photo {i}.jpg" for i in range(n)))


def test_round_trip_keeps_every_bit(tmp_path):
    original = replace(cameras(), names=("é.jpg", "\udcff.jpg", 'a"\n'))
    write_cameras(original, tmp_path / "cameras.json")
    back = read_cameras(tmp_path / "cameras.json")
    assert np.array_equal(back.world_from_camera, original.world_from_camera)
    assert np.array_equal(back.intrinsics, original.intrinsics)
    assert np.array_equal(back.sizes, original.sizes)
    assert back.names == original.names
    assert back.sizes.dtype == np.int32
    with pytest.raises(OutputError, match="already exists"):
        write_cameras(original, tmp_path / "cameras.json")


def test_file_made_by_hand_is_read(tmp_path):
    text = """{"format": "ffsplat.cameras 1", "cameras": [{
        "name": "a.jpg", "width": 4, "height": 2,
        "intrinsics": [[2, 0, 2], [0, 2.5, 1], [0, 0, 1]],
        "world_from_camera": [[0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]]}]}"""
    (tmp_path / "c.json").write_text(text)
    read = read_cameras(tmp_path / "c.json")
    assert read.names == ("a.jpg",)
    assert read.sizes.tolist() == [[4, 2]]
    assert read.intrinsics[0].tolist() == [[2, 0, 2], [0, 2.5, 1], [0, 0, 1]]
    assert read.world_from_camera[0, :3, 3].tolist() == [5, 6, 7]


def test_file_states_its_conventions(tmp_path):
    write_cameras(cameras(), tmp_path / "c.json")
    conventions = json.loads((tmp_path / "c.json").read_text())["conventions"]
    assert "x right, y down, z forward" in conventions["axes"]
    assert "(0.5, 0.5)" in conventions["pixels"]


def changed(tmp_path: Path, **entries: object) -> Path:
    write_cameras(cameras(), tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    content["cameras"][1] |= entries
    (tmp_path / "c.json").write_text(json.dumps(content))
    return tmp_path / "c.json"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"width": 0}, "0 x 48"),
        ({"width": 1 << 17}, "131072 x 48"),
        ({"width": 6.5}, "mistyped"),
        ({"name": None}, "mistyped"),
        ({"focal": 1}, "unknown"),
        ({"intrinsics": [[1, 0], [0, 1]]}, "not 3 x 3"),
        ({"intrinsics": [[1, 0, 0], [0, "1", 0], [0, 0, 1]]}, "not 3 x 3 numbers"),
        ({"intrinsics": [[0, 0, 0], [0, 1, 0], [0, 0, 1]]}, "not those of a pinhole"),
        ({"intrinsics": [[1, 0, 0], [0, 1, 0], [0, 0, 2]]}, "not those of a pinhole"),
        ({"intrinsics": [[10**400, 0, 0], [0, 1, 0], [0, 0, 1]]}, "too large"),
        ({"intrinsics": [[1e300, 0, 0], [0, 1, 0], [0, 0, 1]]}, "not finite"),
        ({"intrinsics": [[float("nan"), 0, 0], [0, 1, 0], [0, 0, 1]]}, "not finite"),
        ({"world_from_camera": np.diag([1, 1, 2, 1]).tolist()}, "not a rigid"),
        ({"world_from_camera": np.diag([1, 1, -1, 1]).tolist()}, "not a rigid"),
        ({"world_from_camera": np.diag([1, 1, 1, 2]).tolist()}, "not a rigid"),
    ],
)
def test_wrong_entries_are_named(tmp_path, entries, message):
    with pytest.raises(SceneFileError, match=f"camera.* 1 .*{message}"):
        read_cameras(changed(tmp_path, **entries))


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": "ffsplat.cameras 1", "cameras": []}', "[" * 100_000, "é"],
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(SceneFileError, match="is not a camera file"):
        read_cameras(tmp_path / "c.json")


def test_binary_and_large_files_are_refused(tmp_path, monkeypatch):
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\xfd\xfc")
    with pytest.raises(SceneFileError, match="is not a camera file"):
        read_cameras(tmp_path / "c.json")
    monkeypatch.setattr("ffsplat.io.cameras.MAX_BYTES", 3)
    with pytest.raises(SceneFileError, match="more than 3"):
        read_cameras(tmp_path / "c.json")


def test_thumbnails_come_back_where_they_are_known(tmp_path):
    small = np.random.default_rng(0).integers(0, 256, (3, 16, 16), np.uint8)
    small[1] = 0
    write_cameras(replace(cameras(), thumbnails=small), tmp_path / "cameras.json")
    back = read_cameras(tmp_path / "cameras.json").thumbnails
    assert back is not None
    assert np.array_equal(back, small)
    text = (tmp_path / "cameras.json").read_text()
    assert text.count("thumbnail") == 2
    for wrong in ('"thumbnail": 5', '"thumbnail": "AAAA"', '"thumbnail": "?"'):
        (tmp_path / "wrong.json").write_text(re.sub(r'"thumbnail": "[^"]*"', wrong, text))
        with pytest.raises(SceneFileError, match=r"thumbnail of camera 0|not a camera file"):
            read_cameras(tmp_path / "wrong.json")
