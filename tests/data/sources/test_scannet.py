"""ScanNet and ScanNet++: the toy world in each of their layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
import toyworld as toy
from toylayouts import (
    DEPTH_K,
    HALF,
    WHOLE,
    K,
    raw_ids,
    save_matrix,
    write_scannet,
    write_scannet_table,
)

from data.sources import scannet, scannetpp
from data.sources.poses import pose_fault
from data.sources.view import load_depth, load_view
from ffsplat.errors import FFSplatError


def test_export_comes_back(tmp_path):
    folder = tmp_path / "scans/scene0000_00"
    write_scannet(folder)
    write_scannet_table(tmp_path)
    assert scannet.find(tmp_path) == [folder]
    scene = scannet.read(folder)
    assert scene.metric
    assert toy.image_error(scene) < 3
    frame = scene.frames[0]
    np.testing.assert_allclose(frame.intrinsics, toy.INTRINSICS, atol=1e-6)
    view, truth = load_view(frame, toy.FULL), toy.views()[0]
    assert view.depth is not None
    # The nearest pixel of the coarser depth map: at most 0.5 / 44 of slope away.
    seen = view.depth > 0
    assert np.median(np.abs(view.depth / truth.depth - 1)[seen]) < 3e-3
    assert toy.labels_agree(scene, WHOLE)
    np.testing.assert_array_equal(view.instances, truth.labels)
    for mistake in toy.MISTAKES:
        wrong = toy.replace(scene, frames=tuple(mistake(frame) for frame in scene.frames))
        assert toy.image_error(wrong) > 6


def test_depth_lens_of_the_export_is_exact(tmp_path):
    """Asked for the depth camera itself, the map comes back pixel by pixel."""
    write_scannet(tmp_path)
    frame = scannet.read(tmp_path).frames[0]
    assert frame.depth is not None
    same = toy.replace(frame, size=(64, 52), intrinsics=frame.depth.intrinsics)
    depth = load_depth(same, toy.Target(64, 1))
    truth = toy.trace(frame.world_from_camera, DEPTH_K + HALF, (64, 52)).depth
    np.testing.assert_allclose(depth, truth, atol=6e-4)


def test_labels_without_their_table_are_left_out(tmp_path):
    write_scannet(tmp_path)
    scene = scannet.read(tmp_path)
    assert scene.frames[0].labels is None
    assert "scannetv2-labels.combined.tsv" in scene.notes[0]


def test_lost_poses_are_seen(tmp_path):
    write_scannet(tmp_path)
    (tmp_path / "pose/2.txt").write_text("-inf " * 16)
    faults = [pose_fault(frame.world_from_camera) for frame in scannet.read(tmp_path).frames]
    assert faults == ["", "", "not finite", ""]


def test_frames_stand_in_the_order_of_their_numbers(tmp_path):
    write_scannet(tmp_path)
    for kind, suffix in (("color", "jpg"), ("depth", "png"), ("pose", "txt")):
        (tmp_path / f"{kind}/3.{suffix}").rename(tmp_path / f"{kind}/10.{suffix}")
    assert [frame.name for frame in scannet.read(tmp_path).frames] == ["0", "1", "2", "10"]


def write_lsm(folder: Path, places: tuple[str, str, str], suffix: str, names: tuple[str, str]):
    photo, depth, camera = places
    for index, view in enumerate(toy.views()):
        toy.save_image(folder / f"{photo}/{index:06d}.{suffix}", view.image)
        toy.save_depth(folder / f"{depth}/{index:06d}.png", view.depth, 0.001)
        (folder / camera).mkdir(exist_ok=True)
        arrays = dict(zip(names, (K.astype(np.float32), view.pose), strict=True))
        np.savez(folder / f"{camera}/{index:06d}.npz", **arrays)


def test_training_set_of_lsm_comes_back(tmp_path):
    write_lsm(tmp_path, ("color", "depth", "pose"), "png", scannet.NPZ)
    toy.assert_exact(scannet.read(tmp_path))


def test_test_set_of_lsm_comes_back(tmp_path):
    write_lsm(tmp_path, ("images", "depths", "images"), "jpg", scannet.NPZ)
    for index, view in enumerate(toy.views()):
        toy.save_map(tmp_path / f"labels/{index:06d}.png", raw_ids(view.labels))
    write_scannet_table(tmp_path)
    scene = scannet.read(tmp_path)
    toy.assert_exact(scene, image=3.0)
    assert toy.labels_agree(scene, WHOLE)


def test_siu3r_comes_back(tmp_path):
    for index, view in enumerate(toy.views()):
        toy.save_image(tmp_path / f"color/{index}.jpg", view.image)
        toy.save_depth(tmp_path / f"depth/{index}.png", view.depth, 0.001)
        toy.save_map(tmp_path / f"panoptic/{index}.png", view.labels * 1000 + 7 * view.labels)
        save_matrix(tmp_path / f"extrinsic/{index}.txt", view.pose)
    save_matrix(tmp_path / "intrinsic.txt", toy.INTRINSICS)
    for reader in (scannet, scannetpp):
        assert reader.find(tmp_path) == [tmp_path]
        scene = reader.read(tmp_path)
        toy.assert_exact(scene, image=3.0)
        names = {1: "wall", 2: "floor", 3: "cabinet", 4: "bed", 5: "chair", 6: "sofa"}
        assert toy.labels_agree(scene, names)
        view = load_view(scene.frames[0], toy.FULL)
        np.testing.assert_array_equal(view.instances, 7 * toy.views()[0].labels)


def test_scannetpp_of_lsm_comes_back(tmp_path):
    folder = tmp_path / "fb564c935d/dslr"
    folder.mkdir(parents=True)
    places = ("rgb_resized_undistorted", "render_depth", "camera")
    write_lsm(folder, places, "JPG", scannetpp.NPZ)
    assert scannetpp.find(tmp_path) == [folder]
    scene = scannetpp.read(folder)
    assert scene.name == "fb564c935d-dslr"
    toy.assert_exact(scene, image=3.0)


def write_phone(folder: Path) -> dict:
    cameras = {}
    for index, view in enumerate(toy.views()):
        name = f"frame_{index:06d}"
        toy.save_image(folder / f"rgb/{name}.jpg", view.image)
        toy.save_depth(folder / f"depth/{name}.png", view.depth, 0.001)
        cameras[name] = {
            "timestamp": index / 60,
            "pose": (np.eye(4) + 50).tolist(),
            "aligned_pose": view.pose.tolist(),
            "intrinsic": K.tolist(),
        }
    (folder / scannetpp.PHONE).write_text(json.dumps(cameras))
    return cameras


def test_phone_of_scannetpp_comes_back(tmp_path):
    folder = tmp_path / "fb564c935d/iphone"
    cameras = write_phone(folder)
    toy.assert_exact(scannetpp.read(folder), image=3.0)
    del cameras["frame_000001"]["aligned_pose"]
    (folder / scannetpp.PHONE).write_text(json.dumps(cameras))
    scene = scannetpp.read(folder)
    assert len(scene.frames) == 3
    assert scene.notes == ("1 photos have no aligned pose",)


def test_dslr_of_scannetpp_comes_back(tmp_path):
    folder = tmp_path / "fb564c935d/dslr"
    content = {"fl_x": 61.0, "fl_y": 58.0, "cx": 38.2, "cy": 31.7, "w": 80, "h": 60}
    frames = []
    for index, view in enumerate(toy.views()):
        toy.save_image(folder / f"undistorted_images/DSC{index}.JPG", view.image)
        toy.save_depth(folder / f"render_depth/DSC{index}.png", view.depth, 0.001)
        turned = view.pose @ np.diag([1.0, -1, -1, 1])
        frames.append({"file_path": f"DSC{index}.JPG", "transform_matrix": turned.tolist()})
    content |= {"camera_model": "PINHOLE", "frames": frames[:3], "test_frames": frames[3:]}
    (folder / "nerfstudio").mkdir()
    (folder / scannetpp.UNDISTORTED).write_text(json.dumps(content))
    scene = scannetpp.read(folder)
    assert len(scene.frames) == 4
    toy.assert_exact(scene, image=3.0)
    (folder / scannetpp.UNDISTORTED).unlink()
    with pytest.raises(FFSplatError) as caught:
        scannetpp.read(folder)
    assert "undistort_dslr" in str(caught.value.hint)


def _npz(path: Path, **arrays: np.ndarray) -> None:
    np.savez(path, **arrays)


@pytest.mark.parametrize("kind", ["pickle", "missing", "truncated", "bomb", "header"])
def test_hostile_npz_is_refused(tmp_path, kind):
    write_lsm(tmp_path, ("color", "depth", "pose"), "png", scannet.NPZ)
    path = tmp_path / "pose/000001.npz"
    if kind == "pickle":
        _npz(path, camera_intrinsics=np.array([{}], dtype=object), camera_pose=np.eye(4))
    elif kind == "missing":
        _npz(path, camera_pose=np.eye(4))
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "bomb":
        zeros = np.zeros((4, 10**6))
        np.savez_compressed(path, camera_intrinsics=zeros, camera_pose=zeros)
    else:
        content = path.read_bytes()
        assert content.count(b"(4, 4)") == 1
        path.write_bytes(content.replace(b"(4, 4)", b"(9,99)"))
    with pytest.raises(FFSplatError):
        scannet.read(tmp_path)
