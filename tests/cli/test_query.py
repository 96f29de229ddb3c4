"""`ffsplat query`: the hits, the files it writes, and what it refuses."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from command import run

from ffsplat.formats import read_scene
from ffsplat.io import load_scene, read_codebook, save_scene, write_cameras
from ffsplat.types import Cameras


def test_table_of_hits(scene_file):
    outcome = run("query", scene_file, "sofa")
    assert (outcome.code, outcome.err) == (0, "")
    head, hit = outcome.out.splitlines()
    assert head.split() == ["#", "score", "Gaussians", "centre", "size", "name"]
    assert hit.split()[:3] == ["1", "1.00", "200"]
    assert hit.split()[-1] == "sofa"


def test_json_hits_are_those_of_the_scene(scene, scene_file):
    outcome = run("query", scene_file, "table", "--json")
    found = json.loads(outcome.out)
    (hit,) = found["hits"]
    means = scene.gaussians.means[:300]
    assert (hit["name"], hit["instance"], hit["count"]) == ("table", 0, 300)
    np.testing.assert_allclose(hit["center"], means.mean(0), atol=1e-5)
    np.testing.assert_allclose(hit["box"]["min"], means.min(0))
    np.testing.assert_allclose(hit["box"]["max"], means.max(0))


def test_verbose_says_what_was_read(scene_file):
    outcome = run("query", scene_file, "sofa", "-v")
    assert outcome.err == "info: room.ply: 1000 Gaussians, 131 codebook rows\n"
    assert outcome.out == run("query", scene_file, "sofa").out


def test_no_hit_is_no_failure(scene_file):
    outcome = run("query", scene_file, "lamp")
    assert (outcome.code, outcome.out) == (0, "")
    assert "nothing in" in outcome.err
    assert json.loads(run("query", scene_file, "lamp", "--json").out)["hits"] == []


def test_an_unknown_word_is_a_usage_error_that_names_others(scene_file):
    outcome = run("query", scene_file, "tabel")
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert "table" in outcome.err


def test_max_hits_and_threshold(scene_file):
    everything = ["query", scene_file, "furniture", "--json"]
    assert len(json.loads(run(*everything).out)["hits"]) == 2
    assert len(json.loads(run(*everything, "--max-hits", 1).out)["hits"]) == 1
    assert json.loads(run(*everything, "--threshold", 1.5).out)["hits"] == []


def test_strategies_are_listed_with_their_options():
    outcome = run("query", "--strategies")
    assert outcome.code == 0
    assert "relevancy" in outcome.out
    assert "levels=together|best" in outcome.out


def test_a_strategy_and_its_options(scene_file):
    outcome = run(
        "query", scene_file, "table", "--strategy", "two-step", "-O", "keep=best", "--json"
    )
    found = json.loads(outcome.out)
    assert (found["strategy"], [hit["name"] for hit in found["hits"]]) == ("two-step", ["table"])
    plain = json.loads(run("query", scene_file, "table", "--json").out)
    assert plain["strategy"] == "lexicon"


def test_labels_are_told_apart(scene_file):
    everything = json.loads(run("query", scene_file, "--labels", "table,sofa,lamp", "--json").out)
    assert {hit["name"] for hit in everything["hits"]} == {"table", "sofa"}
    assert everything["strategy"] == "softmax"
    one = json.loads(run("query", scene_file, "sofa", "--labels", "table,sofa", "--json").out)
    assert [hit["name"] for hit in one["hits"]] == ["sofa"]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--strategy", "cosines"], "unknown strategy 'cosines'", "lexicon, cosine"),
        (["--strategy", "softmax", "-O", "size=3"], "no option 'size'", "labels, scale, rule"),
        (["--strategy", "softmax", "-O", "scale"], "is no option", "--option"),
        (["-O", "scale=3"], "belongs to a strategy", "--strategy"),
        (["--labels", "sofa"], "two or more", "--labels"),
    ],
)
def test_strategies_and_options_that_do_not_exist(scene_file, arguments, message, hint):
    outcome = run("query", scene_file, "sofa", *arguments)
    assert outcome.code == 2
    problem, advice = outcome.err.splitlines()
    assert message in problem
    assert hint in advice


def test_out_hit_writes_only_the_hit(scene, scene_file, tmp_path):
    out = tmp_path / "table.ply"
    assert run("query", scene_file, "table", "--out", out).code == 0
    np.testing.assert_array_equal(load_scene(out).gaussians.means, scene.gaussians.means[:300])


def test_the_name_says_the_format_and_what_it_loses_is_told(scene, scene_file, tmp_path):
    glb, splat = tmp_path / "table.glb", tmp_path / "table.splat"
    assert run("query", scene_file, "table", "--out", glb).err == ""
    np.testing.assert_array_equal(load_scene(glb).codes.ids, scene.codes.ids[:300])
    told = run("query", scene_file, "table", "--out", splat).err
    assert told.startswith("note: splat does not carry ")
    assert "codes" in told
    assert len(load_scene(splat)) == 300
    spz = tmp_path / "table"
    assert run("query", scene_file, "table", "--out", spz, "--to", "spz").code == 0
    assert len(read_scene(spz, format_="spz")) == 300


def test_options_of_a_format_are_about_an_output(scene_file, tmp_path):
    for option, value in (("--to", "spz"), ("--spz-version", "3"), ("--out-mode", "hit")):
        outcome = run("query", scene_file, "table", option, value)
        assert outcome.code == 2
        why = f"error: {option} is about --out, which is missing\nhint: give --out FILE\n"
        assert outcome.err == why
    outcome = run("query", scene_file, "table", "--out", tmp_path / "a.splat", "--tracks")
    assert (outcome.code, "tracks means nothing to splat" in outcome.err) == (2, True)


def test_out_colored_keeps_everything_and_tints_the_hit(scene, scene_file, tmp_path):
    out = tmp_path / "colored.ply"
    assert run("query", scene_file, "table", "-o", out, "--out-mode", "colored").code == 0
    gaussians = load_scene(out).gaussians
    np.testing.assert_array_equal(gaussians.means, scene.gaussians.means)
    grey = np.array([0.9, 0.1, 0.1]) @ [0.299, 0.587, 0.114]
    tinted = 0.7 * np.array([1, 0.25, 0]) + 0.3 * grey
    np.testing.assert_allclose(gaussians.colors[:300], np.tile(tinted, (300, 1)), atol=1e-5)
    np.testing.assert_allclose(np.ptp(gaussians.colors[300:], axis=1), 0, atol=1e-6)


def test_out_without_a_hit_writes_nothing(scene_file, tmp_path):
    outcome = run("query", scene_file, "lamp", "--out", tmp_path / "lamp.ply")
    assert outcome.code == 1
    assert "nothing matches 'lamp'" in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_codebook_elsewhere(scene_file, tmp_path):
    sidecar = scene_file.with_name("room.codebook.safetensors")
    moved = sidecar.rename(tmp_path / "book.safetensors")
    outcome = run("query", scene_file, "table")
    assert outcome.code == 1
    assert "codebook" in outcome.err
    assert run("query", scene_file, "table", "--codebook", moved).code == 0


@pytest.mark.parametrize("sidecar", [False, True])
def test_existing_output_is_refused_before_the_scene_is_read(tmp_path, sidecar):
    out = tmp_path / "a.ply"
    taken = out.with_name("a.codebook.safetensors") if sidecar else out
    taken.write_bytes(b"precious")
    outcome = run("query", tmp_path / "missing.ply", "table", "--out", out)
    assert outcome.code == 5
    assert "already exists" in outcome.err
    assert "hint: --overwrite" in outcome.err
    assert taken.read_bytes() == b"precious"


def test_overwrite_replaces(scene_file, tmp_path):
    out = tmp_path / "a.ply"
    out.write_bytes(b"old")
    assert run("query", scene_file, "table", "--out", out, "--overwrite").code == 0
    assert len(load_scene(out)) == 300


def test_check_and_info(scene_file):
    clean = run("check", scene_file)
    assert (clean.code, clean.out) == (0, "")
    assert "no violations" in clean.err
    facts = json.loads(run("info", scene_file, "--json").out)
    assert (facts["gaussians"], facts["codes"], facts["instances"]) == (1000, 4, 3)
    assert facts["provenance"]["license"] == "CC0-1.0"
    lines = dict(line.split(None, 1) for line in run("info", scene_file).out.splitlines())
    assert lines["gaussians"] == "1000"
    assert "license CC0-1.0" in lines["provenance"]


def test_check_and_info_of_a_codebook(scene_file):
    sidecar = scene_file.with_name("room.codebook.safetensors")
    assert run("check", sidecar).code == 0
    facts = json.loads(run("info", sidecar, "--json").out)
    assert facts["rows"] == len(facts["names"]) == len(read_codebook(sidecar))
    assert sum(facts["levels"].values()) == facts["rows"]
    assert f"rows    {facts['rows']}" in run("info", sidecar).out


def test_check_lists_what_is_wrong(scene_file):
    scene_file.write_bytes(scene_file.read_bytes()[:-1])
    outcome = run("check", scene_file)
    assert outcome.code == 1
    assert "file-size" in outcome.out
    (violation,) = json.loads(run("check", scene_file, "--json").out)["violations"]
    assert violation["rule"] == "file-size"


def test_check_of_a_broken_codebook(tmp_path):
    path = tmp_path / "a.codebook.safetensors"
    path.write_bytes(b"\xff" * 100)
    outcome = run("check", path)
    assert outcome.code == 1
    assert "readable" in outcome.out


@pytest.fixture
def clip_folder(tmp_path, monkeypatch):
    """A tiny OpenCLIP with random weights, and a cache of its own."""
    import open_clip
    import safetensors.torch
    import torch

    tower = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 8, "head_width": 4, "patch_size": 16}
    config = {"embed_dim": 6, "vision_cfg": vision, "text_cfg": tower}
    folder = tmp_path / "tiny-clip"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.manual_seed(0)
    weights = open_clip.CLIP(**config).state_dict()
    safetensors.torch.save_file(weights, folder / "open_clip_model.safetensors")
    monkeypatch.setenv("FFSPLAT_CACHE", str(tmp_path / "cache"))
    return folder


def test_free_text_is_embedded_by_the_encoder_of_a_folder(scene, scene_file, clip_folder, tmp_path):
    out = tmp_path / "everything.ply"
    outcome = run(
        "query", scene_file, "a thing for tea", "--clip", clip_folder, "--json",
        "--threshold", 0, "--out", out, "--out-mode", "colored",
    )  # fmt: skip
    assert outcome.code == 0
    assert {hit["name"] for hit in json.loads(outcome.out)["hits"]} >= {"table", "sofa"}
    (space,) = set(load_scene(out).codebook.spaces) - set(scene.codebook.spaces)
    assert space.startswith("open_clip:tiny-clip/sha256-")
    # The scene that was written has the space, so the text is asked in it by name.
    again = run("query", out, "a thing for tea", "--clip", clip_folder, "--space", space, "--json",
                "--threshold", 0)  # fmt: skip
    assert json.loads(again.out)["hits"] == json.loads(outcome.out)["hits"]


def test_a_saved_text_needs_no_encoder_any_more(scene_file, clip_folder, tmp_path):
    saved, out = tmp_path / "sofa.safetensors", tmp_path / "out.ply"
    asked = ["query", scene_file, "sofa", "--clip", clip_folder, "--threshold", 0.3, "--json"]
    first = run(*asked, "--save-embedding", saved, "--out", out, "--out-mode", "colored")
    assert first.code == 0
    (clip_folder / "open_clip_model.safetensors").unlink()
    code = """
import sys
from dataclasses import replace
from ffsplat.cli import main
code = main()
heavy = {"torch", "open_clip", "huggingface_hub", "timm"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""
    for asked_scene in (out, scene_file):  # with the space, and with names and the cache alone
        command = [sys.executable, "-c", code, "query", str(asked_scene), "--embedding", str(saved)]
        command += ["--threshold", "0.3", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        assert json.loads(done.stdout) == json.loads(first.out)
    assert run(*asked[:3], "--save-embedding", saved).code == 5  # it exists


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "TEXT or --embedding"),
        (["sofa", "--embedding", "x.npy"], "TEXT or --embedding"),
        (["sofa", "--space", "open_clip:x"], "unknown text space"),
        (["sofa", "--space", "open_clip:ViT-B-16/openai"], "another activation"),
        (["sofa", "--save-embedding", "x.safetensors"], "lexicon needs no embeddings"),
    ],
)
def test_questions_that_make_no_sense(scene_file, arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    outcome = run("query", scene_file, *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "x.safetensors").exists()


def test_an_encoder_of_another_space_is_refused(scene_file, clip_folder, tmp_path):
    outcome = run("query", scene_file, "sofa", "--clip", clip_folder, "--space", "open_clip:a/b")
    assert outcome.code == 2
    assert "not of open_clip:a/b" in outcome.err
    vector = tmp_path / "five.npy"
    np.save(vector, np.ones(5))
    assert run("query", scene_file, "--embedding", vector).code == 2


def test_weights_that_are_not_here_are_an_error_of_their_own(scene_file, tmp_path, monkeypatch):
    monkeypatch.setenv("FFSPLAT_CACHE", str(tmp_path / "cache"))
    outcome = run("query", scene_file, "sofa", "--offline", "--space",
                  "open_clip:ViT-B-32/laion2b_s34b_b79k")  # fmt: skip
    assert outcome.code == 6
    assert "not in the local cache" in outcome.err


def test_offline_holds_for_the_space_that_a_scene_has_by_itself(scene_file, tmp_path, monkeypatch):
    import huggingface_hub.constants as constants

    monkeypatch.setenv("FFSPLAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    scene = load_scene(scene_file)
    book = replace(scene.codebook, spaces={
        "open_clip:ViT-B-32/laion2b_s34b_b79k": scene.codebook.spaces["lexicon"],
    })  # fmt: skip
    replace(scene, codebook=book).save(tmp_path / "clip.ply")
    outcome = run("query", tmp_path / "clip.ply", "sofa", "--offline")
    assert outcome.code == 6
    assert "not in the local cache" in outcome.err


def test_referring_looks_from_a_camera_of_a_file(scene, scene_file, tmp_path):
    eye = np.eye(4, dtype=np.float32)
    intrinsics = np.float32([[50, 0, 32], [0, 50, 32], [0, 0, 1]])
    both = Cameras(
        np.stack([eye, eye]), np.stack([intrinsics] * 2), np.full((2, 2), 64, np.int32),
        ("a.jpg", "b.jpg"),
    )  # fmt: skip
    write_cameras(both, tmp_path / "cameras.json")
    asked = "query", scene_file, "the sofa from the left", "--strategy", "refer"
    given = "--cameras", tmp_path / "cameras.json", "-O"
    assert "seen from camera b.jpg" in run(*asked, *given, "camera=1").err
    assert "known are a.jpg to b.jpg, or 0 to 1" in run(*asked, *given, "camera=2").err
    assert "no cameras" in run(*asked, "-O", "camera=1").err


def test_scraps_are_no_objects(scene_file, tmp_path):
    save_scene(load_scene(scene_file)[:3], tmp_path / "scrap.ply")
    assert "single Gaussians do" in run("query", tmp_path / "scrap.ply", "furniture").err
