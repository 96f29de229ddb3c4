"""`ffsplat infer`: the files it writes, its summary, exit codes, and what it refuses early."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run
from untrained import save_photos, save_untrained

from ffsplat.io import load_scene, read_cameras

STAGES = ["load", "images", "network", "cameras", "scene", "write"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("models") / "untrained")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_photos(tmp_path / "photos")


@pytest.fixture
def infer(photos, checkpoint, tmp_path):
    """Run `ffsplat infer` on the photos with the untrained network, into `scene.ply`."""

    def call(*arguments, out=tmp_path / "scene.ply"):
        fixed = ["--model", checkpoint, "--device", "cpu", "--dtype", "float32"]
        return run("infer", photos, "--out", out, *fixed, *arguments)

    return call


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"photos"}


def test_summary_and_files(infer, tmp_path):
    outcome = infer()
    assert outcome.code == 0
    assert files(tmp_path) == {"scene.ply", "scene.codebook.safetensors"}
    rows = dict(line.split(None, 1) for line in outcome.out.splitlines())
    assert list(rows) == ["views", "Gaussians", "seen", "time", "model", "written"]
    assert rows["views"] == "3 used, 0 skipped"
    assert int(rows["Gaussians"]) == len(load_scene(tmp_path / "scene.ply"))
    assert rows["model"].startswith("untrained (sha256:")
    assert rows["model"].endswith("licence CC0-1.0")
    assert rows["written"].split(", ") == [
        str(tmp_path / name) for name in ("scene.ply", "scene.codebook.safetensors")
    ]


def test_json_summary(infer, tmp_path):
    facts = json.loads(infer("--json").out)
    assert facts["views"] == ["1.png", "2.png", "10.png"]
    assert facts["skipped"] == []
    assert list(facts["seconds"]) == STAGES
    assert 1 <= len(facts["seen"]) <= 3
    assert facts["gaussians"] == len(load_scene(tmp_path / "scene.ply"))
    assert facts["model"]["license"] == "CC0-1.0"


def test_the_name_says_the_format(infer, tmp_path):
    outcome = infer("--queries", "chair", out=tmp_path / "scene.html")
    assert (outcome.code, files(tmp_path)) == (0, {"scene.html"})
    assert outcome.err.startswith("note: html does not carry the codebook, model and licence, ")
    assert '"text": "chair"' in (tmp_path / "scene.html").read_text("utf-8")


def test_quiet_says_nothing(infer):
    outcome = infer("--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_verbose_says_more_and_the_result_stays_alone_on_stdout(infer):
    outcome = infer("-v", "--json")
    assert "info: 3 views of 32 x 32 pixels, cpu, torch.float32\n" in outcome.err
    # 32 x 24, 32 x 24 and 24 x 32 pixels of the canvas show something.
    assert " of 2304 pixels kept, " in outcome.err
    assert json.loads(outcome.out)["views"] == ["1.png", "2.png", "10.png"]


def test_a_bad_photo_is_skipped_by_name_with_code_3(infer, photos, tmp_path):
    (photos / "3.jpg").write_bytes(b"not a photo")
    outcome = infer()
    assert outcome.code == 3
    assert "warning: skipped 1 of 4 images: 3.jpg (" in outcome.err
    assert outcome.out.splitlines()[0].split(None, 1)[1] == "3 used, 1 skipped"
    assert (tmp_path / "scene.ply").exists()
    facts = json.loads(infer("--json", "--overwrite").out)
    assert [one["name"] for one in facts["skipped"]] == ["3.jpg"]


def test_many_bad_photos_are_counted(infer, photos):
    for number in range(100, 108):
        (photos / f"{number}.jpg").write_bytes(b"")
    told = infer().err
    assert "skipped 8 of 11 images" in told
    assert "and 3 more" in told


def test_on_error_fail_refuses_and_writes_nothing(infer, photos, tmp_path):
    (photos / "3.jpg").write_bytes(b"not a photo")
    outcome = infer("--on-error", "fail")
    assert outcome.code == 1
    assert "3.jpg" in outcome.err
    assert files(tmp_path) == set()


def test_cameras_and_depth(infer, tmp_path):
    outcome = infer(
        "--cameras-out", tmp_path / "cams.json", "--depth-out", tmp_path / "depth.npz", "--json"
    )
    assert json.loads(outcome.out)["files"][2:] == [
        str(tmp_path / name) for name in ("cams.json", "depth.npz")
    ]
    cameras = read_cameras(tmp_path / "cams.json")
    assert cameras.names == ("1.png", "2.png", "10.png")
    assert cameras.sizes.tolist() == [[80, 60], [80, 60], [60, 80]]
    with np.load(tmp_path / "depth.npz") as stored:
        assert stored["names"].tolist() == list(cameras.names)
        assert stored["depth"].shape == (3, 32, 32)
        upright = stored["depth"][2] > 0
        # 80 x 60 pixels lie on 32 x 24, and 60 x 80 on 24 x 32.
        np.testing.assert_allclose(stored["original_from_depth"], [np.diag([2.5, 2.5, 1])] * 3)
    assert upright[:, :24].all()
    assert not upright[:, 24:].any()


def test_depth_as_a_folder_of_images(infer, tmp_path):
    infer("--depth-out", tmp_path / "depth")
    assert files(tmp_path / "depth") == {"0000.png", "0001.png", "0002.png", "depth.json"}


def test_photos_in_several_passes(infer, tmp_path):
    outcome = infer("--chunk-views", 2, "--depth-out", tmp_path / "depth.npz")
    assert outcome.code == 0
    rows = dict(line.split(None, 1) for line in outcome.out.splitlines())
    assert rows["views"] == "3 used, 0 skipped, 3 passes"
    with np.load(tmp_path / "depth.npz") as stored:
        assert (stored["depth"].max((1, 2)) > 0).all()
    facts = json.loads(infer("--chunk-views", 2, "--json", "--overwrite").out)
    assert facts["passes"][0] == {"agreement": 1.0}
    assert len(facts["passes"]) == 3
    assert facts["views"] == ["1.png", "2.png", "10.png"]
    assert len(json.loads(infer("--json", "--overwrite").out)["passes"]) == 1
    assert infer("--chunk-views", 1, "--overwrite").code == 2


def test_profiles(infer, tmp_path):
    infer("--ply-profile", "plain")
    assert files(tmp_path) == {"scene.ply"}
    assert load_scene(tmp_path / "scene.ply").codes is None
    infer("--ply-profile", "inria", out=tmp_path / "inria.ply")
    assert load_scene(tmp_path / "inria.ply").gaussians.sh.shape[1] == 16


def test_options_reach_the_model(infer, tmp_path):
    infer("--topk", 2, "--max-gaussians", 50, "--max-views", 2, "--resolution", 16)
    scene = load_scene(tmp_path / "scene.ply")
    assert len(scene) == 50
    assert scene.codes is not None
    assert scene.codes.ids.shape == (50, 2)
    facts = json.loads(infer("--max-views", 2, "--json", "--overwrite").out)
    assert len(facts["views"]) == 2


def test_the_same_photos_give_the_same_file(infer, tmp_path):
    infer()
    infer(out=tmp_path / "again.ply")
    again = (tmp_path / "again.ply").read_bytes().replace(b"again.codebook", b"scene.codebook")
    assert again == (tmp_path / "scene.ply").read_bytes()


@pytest.mark.parametrize("name", ["scene.ply", "scene.codebook.safetensors", "cams.json", "d.npz"])
def test_existing_outputs_are_refused_before_the_work(infer, tmp_path, name, monkeypatch):
    monkeypatch.setattr("ffsplat.api.load", lambda *_, **__: pytest.fail("it was loaded"))
    (tmp_path / name).write_bytes(b"precious")
    outcome = infer("--cameras-out", tmp_path / "cams.json", "--depth-out", tmp_path / "d.npz")
    assert outcome.code == 5
    assert f"{name} already exists" in outcome.err
    assert files(tmp_path) == {name}
    assert (tmp_path / name).read_bytes() == b"precious"


def test_the_size_limit_of_photos_can_be_moved(infer):
    outcome = infer("--max-megapixels", 0.001)
    assert outcome.code == 1
    assert "1.png (80x60 is 0.0048 megapixels, limit 0.001)" in outcome.err
    assert "--max-megapixels" in outcome.err
    assert infer("--max-megapixels", 0.005).code == 0
    assert infer("--max-megapixels", 179, "--overwrite").code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--out", "same.ply", "--cameras-out", "same.ply"],
        ["--out", "same.ply", "--cameras-out", "same.codebook.safetensors"],
        ["--out", "same.ply", "--cameras-out", "photos/../same.ply"],
        ["--out", "same.ply", "--cameras-out", "d.npz", "--depth-out", "d.npz"],
        ["--out", "same.ply", "--cameras-out", "photos/1.png"],
        ["--out", "same.ply", "--depth-out", "photos"],
    ],
    ids=str,
)
def test_no_output_replaces_a_photo_or_another_output(photos, monkeypatch, arguments):
    monkeypatch.chdir(photos.parent)
    (photos / "2.png").rename(photos / "0001.png")
    before = {path: path.read_bytes() for path in photos.iterdir()}
    outcome = run("infer", "photos", "--overwrite", *arguments)
    assert outcome.code == 2
    assert outcome.err.endswith("\nhint: give each output a name of its own\n")
    assert {path: path.read_bytes() for path in photos.iterdir()} == before
    assert files(photos.parent) == set()


def test_a_depth_folder_is_refused_before_the_work(infer, tmp_path, monkeypatch):
    monkeypatch.setattr("ffsplat.api.load", lambda *_, **__: pytest.fail("it was loaded"))
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth" / "0002.png").write_bytes(b"precious")
    outcome = infer("--depth-out", tmp_path / "depth")
    assert (outcome.code, "0002.png already exists" in outcome.err) == (5, True)
    (tmp_path / "file").write_bytes(b"precious")
    outcome = infer("--depth-out", tmp_path / "file", "--overwrite")
    assert (outcome.code, "file is not a folder" in outcome.err) == (5, True)
    outcome = infer("--depth-out", tmp_path / "missing" / "depth")
    assert (outcome.code, "missing does not exist" in outcome.err) == (5, True)
    assert files(tmp_path) == {"depth", "file"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["missing", "--out", "a.ply"], 1),
        (["--out", "a.ply"], 2),
        (["photos"], 2),
        (["photos", "--out", "a.ply", "--topk", "0"], 2),
        (["photos", "--out", "a.ply", "--voxel", "0"], 2),
        (["photos", "--out", "a.ply", "--model", "no such model"], 2),
        (["photos", "--out", "a.ply", "--model", "./photos"], 6),
        (["photos", "--out", "a.ply", "--model", "nobody/nothing", "--offline"], 6),
        (["photos", "--out", "missing/a.ply"], 5),
        (["photos", "--out", "a.xyz"], 2),
        (["photos", "--out", "a.glb", "--spz-version", "2"], 2),
        (["photos", "--out", "-"], 5),
        (["photos", "--out", ""], 5),
        (["photos", "--out", "/"], 5),
    ],
    ids=str,
)
def test_refusals(photos, monkeypatch, arguments, code):
    monkeypatch.chdir(photos.parent)
    outcome = run("infer", *arguments)
    assert outcome.code == code
    assert outcome.err.startswith("error: ")
    assert "internal" not in outcome.err
    assert outcome.out == ""
    assert files(photos.parent) == set()


def test_a_wrong_device_is_named(infer):
    outcome = infer("--device", "abacus")
    assert outcome.code == 2
    assert "abacus" in outcome.err


def test_out_of_memory_is_told_with_what_to_lower(infer, monkeypatch):
    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("ffsplat.api.Model.predict", exhausted)
    outcome = infer()
    assert outcome.code == 4
    assert "3 views x 32 px" in outcome.err
    assert "--chunk-views" in outcome.err
