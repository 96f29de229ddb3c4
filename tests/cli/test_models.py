"""`ffsplat models`: what it lists, shows, downloads and removes, and what it leaves alone."""

import json
from pathlib import Path

import pytest
from command import run
from fake_hub import COMMIT, cache, silence
from untrained import save_photos, save_untrained

from ffsplat.zoo import CLIP_SPACE, COMPOSITES, GEOMETRY, RECOMMENDED, TEXT_ENCODERS

CLIP = TEXT_ENCODERS[CLIP_SPACE]


@pytest.fixture
def published(fake_hub, tmp_path):
    """The hub with org/m, and with all published models in name: tiny networks of ours."""
    model = save_untrained(tmp_path / "model")
    clip = tmp_path / "clip"
    clip.mkdir()
    (clip / CLIP.weights).write_bytes(b"the text encoder")
    fake_hub.models |= {"org/m": model, CLIP.repository: clip}
    fake_hub.models |= {entry.repository: model for entry in GEOMETRY}
    return fake_hub


def facts(*arguments):
    outcome = run("models", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_list(published):
    entries = {one["name"]: one for one in facts("list")}
    assert list(entries) == ["ffsplat-tiny", *(entry.name for entry in GEOMETRY), *COMPOSITES]
    assert [name for name, one in entries.items() if one["cached"]] == ["ffsplat-tiny"]
    assert [name for name, one in entries.items() if one["non_commercial"]] == [
        "da3-large", "da3-giant",
    ]  # fmt: skip
    assert entries["da3-base+clip"]["license"] == "Apache-2.0 AND MIT"
    assert published.asked == []

    lines = run("models", "list").out.splitlines()
    assert lines[0].split() == ["model", "licence", "here", "what", "it", "is"]
    assert lines[1].startswith("ffsplat-tiny    Apache-2.0          14 MB")
    assert lines[2].split()[:3] == ["da3-small", "Apache-2.0", "-"]


def test_download_show_and_list_what_is_here(published):
    got = facts("download", "da3-small+clip")
    assert got["model"] == "da3-small+clip"
    assert got["revision"] == COMMIT
    assert Path(got["folder"]).is_dir()
    entries = {one["name"]: one for one in facts("list")}
    assert [name for name, one in entries.items() if one["cached"]] == [
        "ffsplat-tiny", "da3-small", "da3-small+clip",
    ]  # fmt: skip
    assert entries["da3-base+clip"]["bytes"] == len(b"the text encoder")
    shown = facts("show", "da3-small+clip", "--verify")
    assert shown["text_space"] == CLIP_SPACE
    assert [part["place"] for part in shown["parts"]] == [
        "depth-anything/DA3-SMALL",
        CLIP.repository,
    ]
    assert {part["revision"] for part in shown["parts"]} == {COMMIT}
    assert [Path(file["path"]).name for file in shown["parts"][1]["files"]] == [CLIP.weights]
    text = run("models", "show", "da3-small+clip", "--verify").out
    assert "name       da3-small+clip\n" in text
    assert "depth-anything/DA3-SMALL: Depth Anything 3 Small" in text
    assert text.endswith("every file here is what the hub promises\n")


def test_show_tells_what_is_not_here_and_whose_licence_is_not_accepted(published):
    text = run("models", "show", "da3-giant").out
    assert "here       no\n" in text
    assert "CC-BY-NC-4.0, non-commercial, not accepted yet\n" in text
    assert run("models", "show", "nonsense").code == 2
    assert facts("show", "auto")["name"] == RECOMMENDED
    assert run("models", "show", "ffsplat-tiny", "--verify").out.count("promises") == 0
    tiny = facts("show", "ffsplat-tiny")
    assert [Path(file["path"]).name for file in tiny["parts"][0]["files"]] == [
        "config.json", "model.safetensors", "codebook.safetensors", "README.md",
    ]  # fmt: skip


def test_show_verify_finds_damage(published):
    folder = Path(facts("download", "org/m")["folder"])
    blob = (folder / "config.json").resolve()
    blob.write_bytes(blob.read_bytes().replace(b"untrained", b"overtaken"))
    outcome = run("models", "show", "org/m", "--verify")
    assert outcome.code == 6
    assert "config.json is damaged: its git hash is not" in outcome.err
    assert blob.exists()


def test_downloading_asks_for_a_licence_once(published):
    outcome = run("models", "download", "da3-giant")
    assert outcome.code == 6
    assert (
        "licence CC-BY-NC-4.0: https://huggingface.co/depth-anything/DA3-GIANT-1.1" in outcome.err
    )
    assert "hint: if you agree to its terms, say so once with --accept-license" in outcome.err
    assert run("models", "download", "da3-giant", "--accept-license").code == 0
    assert run("models", "download", "da3-giant").code == 0
    assert facts("show", "da3-giant")["parts"][0]["accepted"]


def test_downloading_again_asks_for_what_is_new(published, impatient):
    assert facts("download", "org/m", "--revision", "v1")["revision"] == COMMIT
    published.commit = "89abcdef" * 5
    assert facts("download", "org/m")["revision"] == "89abcdef" * 5
    published.fail(".", silence)
    outcome = run("models", "download", "org/m")
    assert outcome.code == 0
    assert "using org/m from the local cache" in outcome.err
    assert run("models", "download", "org/other").code == 6


def test_download_says_what_it_does_and_quiet_does_not(published):
    outcome = run("models", "download", "org/m")
    assert f"downloading 0.1 MB of org/m into {cache()}" in outcome.err
    assert [line.split()[0] for line in outcome.out.splitlines()] == [
        "model", "revision", "licence", "folder",
    ]  # fmt: skip
    run("models", "remove", "org/m")
    outcome = run("models", "download", "--quiet", "org/m")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_remove_deletes_this_model_and_nothing_else(published):
    run("models", "download", "da3-small+clip")
    published.commit = "89abcdef" * 5
    run("models", "download", "da3-small")
    run("models", "download", "org/m")
    others = {path for path in cache().rglob("*") if "DA3" not in str(path)}
    (removed,) = facts("remove", "da3-small")
    assert removed["repository"] == "depth-anything/DA3-SMALL"
    assert removed["commits"] == sorted([COMMIT, "89abcdef" * 5])
    assert removed["bytes"] > 50_000
    assert not list(cache().glob("models--*DA3*"))
    assert others <= set(cache().rglob("*"))
    outcome = run("models", "remove", "da3-small")
    assert outcome.code == 6
    assert f"nothing of da3-small is in the local cache {cache()}" in outcome.err
    outcome = run("models", "remove", "da3-small+clip")
    assert outcome.out == f"removed {CLIP.repository}, 0.0 MB freed\n"


def test_remove_never_leaves_the_cache(published, tmp_path):
    for name, reason in (
        ("ffsplat-tiny", "comes with the package"),
        (tmp_path / "model", "folder"),
    ):
        outcome = run("models", "remove", name)
        assert outcome.code == 2
        assert reason in outcome.err
    assert (tmp_path / "model" / "config.json").exists()

    folder = Path(facts("download", "org/m")["folder"])
    elsewhere = tmp_path / "elsewhere"
    (cache() / "models--org--m").rename(elsewhere)
    (cache() / "models--org--m").symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    outcome = run("models", "remove", "org/m")
    assert outcome.code == 5
    assert "leads out of the hub's cache; nothing was removed" in outcome.err
    assert sorted(elsewhere.rglob("*")) == before
    assert folder.exists()


def test_infer_asks_for_a_licence_and_records_it(published, tmp_path):
    photos = save_photos(tmp_path / "photos")
    config = published.models["org/m"] / "config.json"
    config.write_text(config.read_text().replace("CC0-1.0", "CC-BY-NC-4.0"))
    infer = ["infer", photos, "-o", tmp_path / "scene.ply", "--model", "org/m", "--device", "cpu"]
    outcome = run(*infer)
    assert outcome.code == 6
    assert "non-commercial use only, licence CC-BY-NC-4.0" in outcome.err
    assert run(*infer, "--accept-license").code == 0
    provenance = json.loads(run("info", tmp_path / "scene.ply", "--json").out)["provenance"]
    assert provenance["license"] == "CC-BY-NC-4.0"
    assert (provenance["model"], provenance["revision"]) == ("org/m", COMMIT)


def test_infer_without_a_model_notes_in_one_line_which_it_takes(tmp_path):
    photos = save_photos(tmp_path / "photos")
    outcome = run("infer", photos, "-o", tmp_path / "scene.ply", "--device", "cpu", "--offline")
    assert outcome.code == 0
    notices = [line for line in outcome.err.splitlines() if "ffsplat-tiny" in line]
    assert len(notices) == 1
    assert notices[0].startswith(
        "warning: using ffsplat-tiny, which comes with the package: weights"
    )
