"""`ffsplat merge`: halves of a scene in two worlds, transforms as files, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from command import run
from small_room import small_room

from ffsplat.io import load_scene, read_cameras, save_scene, write_cameras
from tests.edit.walks import TRUTH, moved, walk

MATRIX = np.eye(4)
MATRIX[:3, :3], MATRIX[:3, 3] = TRUTH.scale * TRUTH.rotation, TRUTH.translation


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The two halves of the room with their cameras, and the transform between them."""
    monkeypatch.chdir(tmp_path)
    room = replace(small_room(), cameras=walk(6))
    halves = room[np.arange(1000) < 600], moved(room[np.arange(1000) >= 600])
    for name, half in zip("ab", halves, strict=True):
        save_scene(half, f"{name}.ply")
        assert half.cameras is not None
        write_cameras(half.cameras, f"{name}.json")
    (tmp_path / "move.json").write_text(json.dumps(MATRIX.tolist()))
    return tmp_path


def merged(*arguments) -> tuple:
    outcome = run("merge", "a.ply", "b.ply", *arguments, "-o", "all.ply", "--json")
    assert outcome.code == 0, outcome.err
    return load_scene("all.ply"), json.loads(outcome.out)


def test_shared_photos_place_the_second_scene(folder):
    scene, report = merged("--cameras", "a.json", "--cameras", "b.json", "--cameras-out", "c.json")
    np.testing.assert_allclose(scene.gaussians.means, small_room().gaussians.means, atol=1e-4)
    np.testing.assert_array_equal(scene.instances, small_room().instances)
    assert report["gaussians"] == {"scenes": [600, 400], "merged": 1000}
    assert report["codebook"] == {
        "scenes": [131, 131], "merged": 131, "completed": [], "dropped": []
    }  # fmt: skip
    (placed,) = report["placed"]
    assert placed["photos"] == list(walk(6).names)
    assert placed["scale"] == pytest.approx(TRUTH.scale, rel=1e-4)
    assert placed["degrees"] < 0.01
    assert placed["distance"] < 1e-4
    assert placed["likeness"] is None  # the scenes show different things
    assert read_cameras("c.json").names == walk(6).names
    assert scene.provenance["merged"] == "2 scenes"


def test_a_transform_places_it_without_cameras(folder):
    scene, report = merged("--transform", "move.json")
    np.testing.assert_allclose(scene.gaussians.means, small_room().gaussians.means, atol=1e-4)
    assert report["placed"] == []
    matrix = np.array(json.loads((folder / "move.json").read_text()))
    np.savetxt(folder / "move.json", matrix)
    again, _ = merged("--transform", "move.json", "--overwrite")
    np.testing.assert_array_equal(again.gaussians.means, scene.gaussians.means)


def test_cameras_are_given_for_the_scenes_that_bring_none(folder):
    run("convert", "a.ply", "a.glb", "--cameras", "a.json")
    outcome = run("merge", "a.glb", "b.ply", "--cameras", "b.json", "-o", "all.glb")
    assert (outcome.code, outcome.err) == (0, "wrote all.glb\n")
    assert load_scene("all.glb").cameras.names == walk(6).names


def test_scenes_of_one_world_stay_where_they_are(folder):
    scene, _ = merged("--same-world")
    second = load_scene("b.ply").gaussians.means
    np.testing.assert_array_equal(scene.gaussians.means[600:], second)


def test_voxels_fuse(folder):
    scene, report = merged("--transform", "move.json", "--voxel", 0.2)
    assert len(scene) == report["gaussians"]["merged"] < 500


def test_the_report_in_words(folder):
    files = ("--cameras", "a.json", "--cameras", "b.json", "-o", "all.ply")
    outcome = run("merge", "a.ply", "b.ply", *files)
    placed, gaussians, rows = outcome.out.splitlines()
    assert placed.startswith("b.ply: by 6 photos, scale 1.7 (by centers), cameras off by ")
    assert (gaussians, rows) == ("Gaussians 600 + 400 -> 1000", "rows 131 + 131 -> 131")
    assert outcome.err.startswith("wrote all.ply")


def test_photos_that_look_different_are_warned_of(folder):
    room = replace(small_room(), cameras=walk(6))
    colors = room.gaussians.sh.copy()
    colors[:500], colors[500:] = -1, 1  # the wall was the brightest, and still is
    other = replace(room, gaussians=replace(room.gaussians, sh=colors))
    for name, one in zip("ab", (room, moved(other)), strict=True):
        save_scene(one, f"{name}.ply", overwrite=True)
    files = ("--cameras", "a.json", "--cameras", "b.json", "-o", "all.ply", "--overwrite")
    outcome = run("merge", "a.ply", "b.ply", *files)
    assert outcome.code == 0
    assert "look different in b.ply" not in outcome.err
    colors[:500], colors[500:] = 1, -1
    save_scene(moved(other), "b.ply", overwrite=True)
    outcome = run("merge", "a.ply", "b.ply", *files)
    assert "warning: the shared photos look different in b.ply (correlation -" in outcome.err


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        ("nonsense", 1, "not four rows"),
        ("[[1, 0, 0], [0, 1, 0], [0, 0, 1]]", 1, "four rows"),
        ("[1, 2, 3, 4]", 1, "not four rows"),
        (json.dumps([["1"] * 4] * 4), 1, "else than numbers"),
        ("[" * 50_000, 1, "not four rows"),
        (" " * 100_000, 1, "100000 bytes"),
        (json.dumps(np.diag([1, 2, 1, 1]).tolist()), 2, "no similarity"),
        (json.dumps(np.diag([1, 1, -1, 1]).tolist()), 2, "mirrors"),
        ("[[NaN,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]", 2, "NaN or infinity"),
    ],
)
def test_files_that_hold_no_similarity_are_refused(folder, content, code, told):
    (folder / "bad.json").write_text(content)
    outcome = run("merge", "a.ply", "b.ply", "--transform", "bad.json", "-o", "all.ply")
    assert outcome.code == code
    assert told in outcome.err
    assert "bad.json" in outcome.err
    assert not (folder / "all.ply").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["a.ply"], 2, "nothing to merge"),
        (["a.ply", "b.ply"], 2, "share no photos"),
        (["a.ply", "b.ply", "--cameras", "a.json"], 2, "1 camera files for 2"),
        (["a.ply", "b.ply", "--transform", "move.json", "--transform", "move.json"],
         2, "2 transforms for 2"),
        (["a.ply", "b.ply", "--transform", "move.json", "--same-world"], 2, "--same-world"),
        (["a.ply", "b.ply", "--same-world", "--cameras-out", "c.json"], 2, "no cameras"),
        (["a.ply", "none.ply", "--same-world"], 1, "none.ply"),
        (["a.ply", "b.ply", "--same-world", "--voxel", "0"], 2, "--voxel"),
        (["a.ply", "b.ply", "--same-world", "--voxel", "1e-9"], 2, "too small"),
    ],
    ids=str,
)  # fmt: skip
def test_refusals_write_nothing(folder, arguments, code, told):
    before = sorted(folder.iterdir())
    outcome = run("merge", *arguments, "-o", "all.ply")
    assert outcome.code == code, outcome.err
    assert outcome.err.startswith("error: ")
    assert told in outcome.err
    assert sorted(folder.iterdir()) == before


def test_an_output_that_exists_is_refused(folder):
    (folder / "all.ply").write_bytes(b"precious")
    outcome = run("merge", "a.ply", "b.ply", "--same-world", "-o", "all.ply")
    assert outcome.code == 5
    assert (folder / "all.ply").read_bytes() == b"precious"
