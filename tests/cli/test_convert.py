"""`ffsplat convert`: from each format into each other, what is said, what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import run

from ffsplat.formats import FORMATS
from ffsplat.formats.format import Option
from ffsplat.io import load_scene, write_cameras
from tests.formats.scenes import two_cameras


def test_says_in_one_line_what_is_lost(scene_file, tmp_path):
    outcome = run("convert", scene_file, tmp_path / "room.spz")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == (
        "note: spz does not carry codes, the codebook, instances, model and licence, "
        "precision beyond 24-bit positions, 8-bit colours and scales, 10-bit rotations, 4-bit SH\n"
        f"wrote {tmp_path / 'room.spz'} (1,000 Gaussians)\n"
    )
    assert run("convert", scene_file, tmp_path / "a.spz", "--quiet").err == ""


def test_says_nothing_is_lost_where_nothing_is(scene_file, tmp_path):
    outcome = run("convert", scene_file, tmp_path / "room.glb", "--json")
    facts = json.loads(outcome.out)
    assert facts == {
        "file": str(tmp_path / "room.glb"), "format": "gltf", "gaussians": 1000, "lost": [],
    }  # fmt: skip
    assert outcome.err == ""


@pytest.mark.parametrize("names", [("a.glb", "b.ply"), ("a.npz", "b.ply"), ("a.gltf", "b.ply")])
def test_ids_survive_the_way_there_and_back(names, scene, scene_file, tmp_path):
    there, back = (tmp_path / name for name in names)
    assert run("convert", scene_file, there).code == 0
    assert run("convert", there, back).code == 0
    codes = load_scene(back).codes
    assert np.array_equal(codes.ids, scene.codes.ids)
    assert run("query", back, "sofa").out == run("query", scene_file, "sofa").out


def test_commands_read_every_format(scene_file, tmp_path):
    for suffix in (".spz", ".sog", ".splat", ".compressed.ply", ".glb", ".npz", ".safetensors"):
        path = tmp_path / f"room{suffix}"
        assert run("convert", scene_file, path).code == 0
        facts = json.loads(run("info", path, "--json").out)
        assert (facts["gaussians"], facts["bytes"]) == (1000, path.stat().st_size)
        checked = run("check", path)
        assert (checked.code, checked.err) == (0, f"{path}: no violations\n")
    assert run("query", tmp_path / "room.glb", "sofa").out == run("query", scene_file, "sofa").out


@pytest.mark.parametrize(
    ("format_", "names"),
    [
        ("colmap", ["cameras.bin", "images.bin", "points3D.bin"]),
        ("nerfstudio", ["transforms.json", "sparse_pc.ply"]),
    ],
)
def test_the_size_of_a_folder_is_that_of_its_scene(format_, names, scene_file, tmp_path):
    folder, cameras = tmp_path / "scene", tmp_path / "cameras.json"
    write_cameras(two_cameras(), cameras)
    convert = ("convert", scene_file, folder, "--to", format_, "--cameras", cameras)
    assert run(*convert).code == 0
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").write_bytes(bytes(9999))
    facts = json.loads(run("info", folder, "--json").out)
    assert facts["bytes"] == sum((folder / name).stat().st_size for name in names)


def test_check_and_info_of_broken_files(scene_file, tmp_path):
    path = tmp_path / "room.spz"
    run("convert", scene_file, path)
    path.write_bytes(path.read_bytes()[:-20])
    checked = run("check", path)
    assert checked.code == 1
    assert checked.out.startswith(f"{path}: readable: room.spz is not an SPZ file")
    assert run("info", path).code == 1
    assert run("convert", path, tmp_path / "a.ply").code == 1
    assert not (tmp_path / "a.ply").exists()


def test_options_of_formats(scene_file, tmp_path):
    plain = run("convert", scene_file, tmp_path / "a.ply", "--ply-profile", "plain")
    assert "ply does not carry codes, the codebook, instances, model and licence" in plain.err
    assert load_scene(tmp_path / "a.ply").codes is None
    assert run("convert", scene_file, tmp_path / "a.spz", "--spz-version", "2").code == 0
    refused = run("convert", scene_file, tmp_path / "b.ply", "--spz-version", "2")
    told = "error: --spz-version means nothing to ply\nhint: leave out --spz-version\n"
    assert (refused.code, refused.err) == (2, told)


def test_cameras_and_sh_degree(scene_file, tmp_path):
    write_cameras(two_cameras(), tmp_path / "cameras.json")
    target = tmp_path / "a.glb"
    done = run("convert", scene_file, target, "--cameras", tmp_path / "cameras.json",
               "--sh-degree", 0)  # fmt: skip
    assert done.code == 0
    scene = load_scene(target)
    assert scene.cameras.names == ("a.jpg", "b.jpg")
    assert scene.gaussians.sh.shape[1] == 1


def test_formats_by_name(scene_file, tmp_path):
    assert run("convert", scene_file, tmp_path / "a.bin", "--to", "splat").code == 0
    assert run("convert", tmp_path / "a.bin", tmp_path / "b.ply", "--from", "splat").code == 0
    assert len(load_scene(tmp_path / "b.ply")) == 1000
    unknown = run("convert", scene_file, tmp_path / "a.xyz")
    assert unknown.code == 2
    assert unknown.err.startswith("error: no format is known for the name a.xyz\nhint: give --to")
    assert run("convert", scene_file, tmp_path / "a.ply", "--to", "usdz").code == 2


def test_a_bare_name_is_the_folder_of_a_nerfstudio_scene(scene_file, tmp_path):
    studio, cameras = tmp_path / "studio", tmp_path / "cameras.json"
    write_cameras(two_cameras(), cameras)
    to = ("convert", scene_file, studio, "--to", "nerfstudio", "--cameras", cameras)
    assert run(*to).code == 0
    assert {path.name for path in studio.iterdir()} == {"transforms.json", "sparse_pc.ply"}
    back = run("convert", studio, tmp_path / "back.ply", "--json")
    assert 0 < json.loads(back.out)["gaussians"] <= 1000
    again = run("convert", "no such scene", *to[2:])
    assert (again.code, "transforms.json already exists" in again.err) == (5, True)


def test_an_existing_file_is_found_before_the_scene_is_read(tmp_path):
    (tmp_path / "a.spz").write_bytes(b"mine")
    outcome = run("convert", tmp_path / "absent.ply", tmp_path / "a.spz")
    assert outcome.code == 5
    assert "already exists" in outcome.err
    absent = run("convert", tmp_path / "absent.ply", tmp_path / "b.spz")
    assert (absent.code, absent.err.splitlines()[0]) == (
        1, f"error: cannot read {tmp_path / 'absent.ply'}: No such file or directory",
    )  # fmt: skip


def test_list_names_every_format():
    outcome = run("convert", "--list")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines] == ["format", *FORMATS]


def test_help_names_the_options_of_every_format():
    text = run("convert", "--help").out
    for format_ in FORMATS.values():
        for option in format_.options:
            assert isinstance(option, Option)
            assert f"--{option.name}" in text


def test_help_and_list_load_nothing_heavy():
    heavy = ("torch", "numba", "PIL", "scipy", "sklearn", "huggingface_hub")
    code = (
        "import sys; from ffsplat.cli import main; sys.argv[1:] = ['convert', '--list']\n"
        "try: main()\n"
        f"finally: sys.stderr.write(str([m for m in {heavy} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.stderr == "[]"
