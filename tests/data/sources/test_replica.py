"""Replica: the toy world in its two layouts; and the registry of sources."""

import json
from pathlib import Path

import numpy as np
import pytest
import toyworld as toy

from data.sources import replica
from data.sources.registry import SOURCES, guess_source, source_of, terms_of
from data.sources.view import load_view
from ffsplat.errors import FFSplatError, UsageError

CAMERA = {"w": 80, "h": 60, "fx": 61.0, "fy": 58.0, "cx": 37.7, "cy": 31.2, "scale": 6553.5}


def trajectory(views: list[toy.ToyView]) -> str:
    return "\n".join(" ".join(f"{value:.9e}" for value in view.pose.ravel()) for view in views)


@pytest.fixture
def slam(tmp_path) -> Path:
    folder = tmp_path / "Replica/office0"
    views = toy.views()
    for index, view in enumerate(views):
        toy.save_image(folder / f"results/frame{index:06d}.jpg", view.image)
        toy.save_depth(folder / f"results/depth{index:06d}.png", view.depth, 1 / 6553.5)
    (folder / "traj.txt").write_text(trajectory(views) + "\n")
    (folder.parent / "cam_params.json").write_text(json.dumps({"camera": CAMERA}))
    return folder


def test_slam_layout_comes_back(slam):
    assert replica.find(slam.parent) == [slam]
    toy.assert_exact(replica.read(slam), image=3.0)
    assert guess_source(slam.parent).name == "replica"


@pytest.mark.parametrize(
    "camera", [{}, CAMERA | {"w": 10**9}, CAMERA | {"scale": 0}, CAMERA | {"fx": "wide"}]
)
def test_damaged_camera_is_refused(slam, camera):
    (slam.parent / "cam_params.json").write_text(json.dumps({"camera": camera}))
    with pytest.raises(FFSplatError):
        replica.read(slam)


def test_too_few_poses_are_refused(slam):
    (slam / "traj.txt").write_text(trajectory(toy.views(3)))
    with pytest.raises(FFSplatError, match="3 poses for 4 photos"):
        replica.read(slam)


def test_semantic_layout_comes_back(tmp_path):
    folder = tmp_path / "room_0/Sequence_1"
    k = np.array([[40.0, 0, 40], [0, 40, 30], [0, 0, 1]])
    views = [toy.trace(view.pose, k, toy.SIZE) for view in toy.views()]
    numbers = np.array([0, 93, 40, 20, 34, 80, 76])
    for index, view in enumerate(views):
        toy.save_image(folder / f"rgb/rgb_{index}.png", view.image)
        toy.save_depth(folder / f"depth/depth_{index}.png", view.depth, 0.001)
        toy.save_map(folder / f"semantic_class/semantic_class_{index}.png", numbers[view.labels])
        toy.save_map(folder / f"semantic_instance/semantic_instance_{index}.png", view.labels)
    (folder / "traj_w_c.txt").write_text(trajectory(views))
    assert replica.find(tmp_path) == [folder]
    scene = replica.read(folder)
    assert scene.name == "room_0-Sequence_1"
    toy.assert_exact(scene)
    assert scene.frames[0].labels is None
    assert "info_semantic.json" in scene.notes[0]

    names = {93: "wall", 40: "floor", 20: "chair", 34: "desk", 80: "table", 76: "sofa"}
    (tmp_path / "room_0/habitat").mkdir()
    classes = {"classes": [{"id": number, "name": name} for number, name in names.items()]}
    (tmp_path / "room_0/habitat/info_semantic.json").write_text(json.dumps(classes))
    scene = replica.read(folder)
    assert toy.labels_agree(scene, dict(enumerate(names.values(), 1)))
    np.testing.assert_array_equal(load_view(scene.frames[1], toy.FULL).instances, views[1].labels)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_has_terms_and_says_so(name):
    source = source_of(name)
    text = terms_of(source)
    assert source.terms in text
    assert source.about in text
    assert name in ("folder", "colmap") or source.terms_url.startswith("http")


def test_unknown_and_ambiguous_sources_list_the_names(tmp_path):
    with pytest.raises(UsageError) as caught:
        source_of("kitti")
    assert "scannetpp" in str(caught.value.hint)
    with pytest.raises(UsageError, match="no source has scenes"):
        guess_source(tmp_path)
    for name in ("cameras.json", "transforms.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match="looks like folder, nerfstudio"):
        guess_source(tmp_path)
