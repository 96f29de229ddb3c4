"""`ffsplat eval`: figures of small label files, and what it refuses."""

import json

import numpy as np
import pytest
from command import run
from PIL import Image

from ffsplat.io import write_cameras
from ffsplat.types import Cameras


@pytest.fixture
def labelled(tmp_path, scene):
    """A plain folder whose one image is labelled table where the table is drawn."""
    folder = tmp_path / "labels"
    folder.mkdir()
    pose = np.eye(4, dtype=np.float32)[None]
    lens = np.array([[[40, 0, 32], [0, 40, 24], [0, 0, 1]]], np.float32)
    cameras = Cameras(pose, lens, np.array([[64, 48]], np.int32), ("1.jpg",))
    drawn = scene.render(cameras, "codes")[0]
    table = drawn == scene.codebook.names.index("table")
    Image.fromarray(table.astype(np.uint8)).save(folder / "1.png")
    frame = {"image": "images/1.jpg", "label": "1.png"}
    content = {"label_names": {"1": "table", "2": "zorgle"}, "frames": [frame]}
    (folder / "cameras.json").write_text(json.dumps(content))
    write_cameras(cameras, folder / "own.json")
    return folder


def test_figures_of_a_plain_folder(scene_file, labelled):
    arguments = ("eval", scene_file, "--protocol", "labels", "--labels", labelled)
    outcome = run(*arguments, "--cameras", labelled / "own.json")
    assert outcome.code == 0
    assert outcome.out.split() == ["miou", "1.0000", "macc", "1.0000", "accuracy", "1.0000"]
    assert "zorgle" in outcome.err
    outcome = run(*arguments, "--cameras", labelled / "own.json", "--json")
    assert json.loads(outcome.out) == {
        "protocol": "labels",
        "unknown": ["zorgle"],
        "figures": {"miou": 1.0, "macc": 1.0, "accuracy": 1.0},
    }


def test_rules_are_told_without_a_scene():
    outcome = run("eval", "--rules")
    assert outcome.code == 0
    for name in ("lerf-ovs", "lerf-ovs-3d", "3d-ovs", "scannet", "labels"):
        assert f"{name}: " in outcome.out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "give SCENE, --protocol and --labels"),
        (["--protocol", "labels"], "give SCENE, --protocol and --labels"),
        (["--protocol", "labels", "--labels", "absent"], "absent"),
        (["--protocol", "lerf-ovs", "--labels", "."], "has no frame_*.json"),
        (["--protocol", "scannet", "--labels", "."], "not a regular file"),
        (["--protocol", "best", "--labels", "."], "best"),
    ],
)
def test_a_mistake_is_one_line_with_a_hint(scene_file, more, message):
    outcome = run("eval", scene_file, *more)
    assert outcome.code in (1, 2)
    assert message in outcome.err
    assert outcome.err.count("error:") == 1
    assert "Traceback" not in outcome.err


def test_labels_without_cameras_say_where_those_come_from(scene_file, labelled):
    outcome = run("eval", scene_file, "--protocol", "labels", "--labels", labelled)
    assert "--cameras" in outcome.err
    assert outcome.code == 2


def test_options_are_those_of_the_strategy(scene_file, labelled):
    asked = ("eval", scene_file, "--protocol", "labels", "--labels", labelled, "--cameras",
             labelled / "own.json", "--strategy", "two-step")  # fmt: skip
    assert "1.0000" in run(*asked, "-O", "regions=instance").out
    refused = run(*asked, "-O", "regions=blob")
    assert refused.code == 2
    assert "instance, row" in refused.err


def test_rules_say_which_files_each_protocol_reads():
    out = run("eval", "--rules").out
    for word in ("frame_<number>.json", "classes.txt", "vh_clean_2.labels.ply", "left out"):
        assert word in out
