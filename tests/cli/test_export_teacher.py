"""`ffsplat export-teacher`: its folder, its summary, and what it refuses."""

import json

import pytest
from command import run
from posedroom import posed_room

from ffsplat.io import save_scene, write_cameras


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("room")
    room = posed_room(60, 2, (32, 24))
    assert room.cameras is not None
    save_scene(room, folder / "room.ply")
    write_cameras(room.cameras, folder / "cameras.json")
    return folder / "room.ply", folder / "cameras.json"


def test_the_folder_is_written_and_described(files, tmp_path):
    scene, cameras = files
    out = tmp_path / "teacher"
    outcome = run("export-teacher", scene, "--cameras", cameras, "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out) == {"folder": str(out), "views": 2, "space": "lexicon"}
    assert "LangSplat's autoencoder takes 512" in outcome.err
    assert "renders of the scene" in outcome.err
    assert (out / "language_features/view_1_f.npy").is_file()
    again = run("export-teacher", scene, "--cameras", cameras, "--out", out)
    assert again.code == 5
    assert "already exists" in again.err


def test_a_scene_without_cameras_is_refused_in_one_line(files, tmp_path):
    outcome = run("export-teacher", files[0], "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "no cameras" in outcome.err
    assert "--cameras" in outcome.err
    assert not (tmp_path / "out").exists()
