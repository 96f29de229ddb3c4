"""`ffsplat query`: the hits, the files it writes, and what it refuses."""

import json

import numpy as np
import pytest
from command import run

from ffsplat.io import load_scene, read_codebook


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


def test_out_hit_writes_only_the_hit(scene, scene_file, tmp_path):
    out = tmp_path / "table.ply"
    assert run("query", scene_file, "table", "--out", out).code == 0
    np.testing.assert_array_equal(load_scene(out).gaussians.means, scene.gaussians.means[:300])


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
