"""Cameras in the viewer: which photos they bear, and where they stand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from PIL import Image
from small_room import small_room

from ffsplat.types import Cameras
from ffsplat.view.frusta import (
    MOST,
    THUMBNAIL,
    Frusta,
    extent_of,
    photos_of,
    pose_of,
    vertical_fov,
    wxyz_of,
)


def cameras(*names: str) -> Cameras:
    """Cameras in a row, 90 degrees high."""
    count = len(names)
    poses = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    poses[:, 0, 3] = np.arange(count)
    intrinsics = np.array([[30, 0, 40], [0, 30, 30], [0, 0, 1]], np.float32)
    sizes = np.tile(np.array([[80, 60]], np.int32), (count, 1))
    return Cameras(poses, np.tile(intrinsics, (count, 1, 1)), sizes, names)


def test_photos_are_found_by_name_and_made_small(tmp_path):
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (1000, 500), (255, 0, 0)).save(tmp_path / "a.png")
    Image.new("RGB", (10, 10)).save(tmp_path / "sub" / "b.png")
    found = photos_of(cameras("a.png", "sub/b.png", "photos/a.png", "c.png"), [tmp_path])
    assert list(found) == ["a.png", "sub/b.png", "photos/a.png"]
    assert found["a.png"].shape == (THUMBNAIL // 2, THUMBNAIL, 3)
    assert (found["a.png"] == [255, 0, 0]).all()


def test_the_first_folder_that_has_a_photo_counts(tmp_path):
    for folder, color in (("one", 10), ("two", 200)):
        (tmp_path / folder).mkdir()
        Image.new("L", (4, 4), color).save(tmp_path / folder / "a.png")
    found = photos_of(cameras("a.png"), [tmp_path / "none", tmp_path / "two", tmp_path / "one"])
    assert found["a.png"].max() == 200


def test_what_is_no_photo_or_lies_elsewhere_is_left_out(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "text.png").write_text("no photo")
    Image.new("RGB", (4, 4)).save(tmp_path / "out.png")
    names = ("text.png", "../out.png", str(tmp_path / "out.png"))
    assert photos_of(cameras(*names), [inside]) == {}
    assert photos_of(None, [inside]) == {}


def test_the_extent_is_that_of_most_of_the_scene():
    room = small_room(100)
    assert extent_of(room[:0]) == 1
    low, high = np.percentile(room.gaussians.means, [2, 98], axis=0)
    assert extent_of(room) == np.linalg.norm(high - low)


def test_quaternions_and_poses_are_inverses():
    turn = np.eye(4)
    turn[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]  # 90 degrees about z
    turn[:3, 3] = [1, 2, 3]
    half = np.sqrt(0.5)
    np.testing.assert_allclose(wxyz_of(turn), [half, 0, 0, half], atol=1e-12)
    np.testing.assert_allclose(pose_of(wxyz_of(turn), turn[:3, 3]), turn, atol=1e-6)


def test_the_field_of_view_is_vertical():
    assert np.isclose(vertical_fov(cameras("a")), np.pi / 2)


class Nodes:
    """Of viser's server what frusta need."""

    def __init__(self):
        self.nodes: dict[str, SimpleNamespace] = {}
        self.scene = SimpleNamespace(add_camera_frustum=self._add)

    def _add(self, name: str, **options) -> SimpleNamespace:
        self.nodes[name] = SimpleNamespace(
            on_click=lambda callback: None, remove=lambda: self.nodes.pop(name), **options
        )
        return self.nodes[name]


def test_frusta_follow_the_cameras_of_the_scene():
    server = Nodes()
    photo = np.zeros((3, 4, 3), np.uint8)
    frusta = Frusta(server, {"b": photo}, lambda client, pose: None)
    scene = replace(small_room(50), cameras=cameras("a", "b"))
    frusta.show(scene)
    assert [node.image is photo for node in server.nodes.values()] == [False, True]
    assert server.nodes["/cameras/1"].position.tolist() == [1, 0, 0]
    moved = cameras("a")
    moved.world_from_camera[0, 1, 3] = 5
    frusta.show(replace(scene, cameras=moved))
    assert list(server.nodes) == ["/cameras/0"]
    assert server.nodes["/cameras/0"].position.tolist() == [0, 5, 0]
    frusta.set_visible(False)
    assert not server.nodes["/cameras/0"].visible


def test_of_very_many_cameras_some_are_shown():
    server = Nodes()
    names = [str(i) for i in range(3 * MOST)]
    Frusta(server, {}, lambda client, pose: None).show(
        replace(small_room(50), cameras=cameras(*names))
    )
    assert len(server.nodes) == MOST
    assert "/cameras/0" in server.nodes
    assert f"/cameras/{3 * MOST - 1}" in server.nodes
