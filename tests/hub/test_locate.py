"""Names of models, and the folders that they mean."""

import logging
import re
import shutil

import pytest
from fake_hub import COMMIT, silence

from ffsplat import hub
from ffsplat.clip import parse_space, weights_file
from ffsplat.errors import CheckpointError, UsageError, WeightsMissing
from ffsplat.hub import locate
from ffsplat.zoo import CLIP_SPACE, RECOMMENDED, TEXT_ENCODERS, published

CLIP = TEXT_ENCODERS[CLIP_SPACE]


def test_a_folder(folder, tmp_path, monkeypatch):
    found = hub.resolve(str(folder))
    assert (found.path, found.name, found.license) == (folder, "model", "CC0-1.0")
    assert re.fullmatch("sha256:[0-9a-f]{16}", found.revision)
    assert found.provenance == {
        "model": "model", "revision": found.revision, "license": "CC0-1.0",
    }  # fmt: skip
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1] + b"\1")
    assert hub.resolve(str(folder)).revision != found.revision
    monkeypatch.chdir(tmp_path)
    assert hub.resolve("model").path.samefile(folder)
    assert hub.resolve("local-dir:model").path.samefile(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.resolve("~/model").path.samefile(folder)
    with pytest.raises(UsageError, match="no revisions"):
        hub.resolve(str(folder), revision="main")


def test_a_folder_with_the_name_of_a_published_model_wins_with_a_warning(
    folder, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    folder.rename(tmp_path / "da3-small")
    assert hub.resolve("da3-small").license == "CC0-1.0"
    assert "da3-small is a folder here; hf-hub:da3-small means the one on the hub" in caplog.text
    with pytest.raises(WeightsMissing, match="DA3-SMALL@main are not in the local cache"):
        hub.resolve("hf-hub:da3-small", offline=True)


def test_what_is_not_there(folder, tmp_path):
    for name in (str(tmp_path / "absent"), "./absent", ".", str(folder / "README.md")):
        with pytest.raises(WeightsMissing, match=r"has no config.json") as caught:
            hub.resolve(name)
        assert "config.json, model.safetensors" in caught.value.hint
    with pytest.raises(CheckpointError, match="File name too long"):
        hub.resolve("/" + "x" * 5000)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsMissing, match=r"has no model.safetensors") as caught:
        hub.resolve(str(folder))
    assert caught.value.exit_code == 6


BAD_NAMES = (
    "nonsense", "a/b/c", "a/../b", "-x/y", "org/name\n", "org/na me", "", "x" * 5000, "a\0b",
    "org/name@", "+clip", "hf-hub:", "auto+clip", "org/m+clip+clip",
)  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_what_is_no_name_of_a_model(name):
    with pytest.raises(UsageError, match="there is no"):
        hub.resolve(name)


@pytest.mark.parametrize("revision", ["../../x", "/etc", "a//b", "a b", "-f", "x" * 200])
def test_what_is_no_revision(revision):
    with pytest.raises(UsageError, match="there is no revision"):
        hub.resolve("org/name", revision=revision)
    with pytest.raises(UsageError, match="there is no revision"):
        hub.resolve(f"org/name@{revision}")


def test_two_revisions():
    with pytest.raises(UsageError, match="two revisions"):
        hub.resolve("org/name@a", revision="b")
    with pytest.raises(UsageError, match="auto has no revisions"):
        hub.resolve("auto", revision="b")


def test_the_bundled_model_is_found_in_a_checkout_and_in_a_wheel(folder, tmp_path, monkeypatch):
    package = tmp_path / "site" / "ffsplat"
    (package / "hub").mkdir(parents=True)
    monkeypatch.setattr(locate, "__file__", str(package / "hub" / "locate.py"))
    with pytest.raises(WeightsMissing, match="not in this installation"):
        hub.resolve("ffsplat-tiny")
    for root in (tmp_path / "site", package):
        place = root / "checkpoints" / "ffsplat-tiny"
        shutil.copytree(folder, place)
        found = hub.resolve("ffsplat-tiny")
        assert (found.path, found.name) == (place, "ffsplat-tiny")


def test_an_open_vocabulary_is_asked_for_behind_the_name(folder):
    with pytest.raises(UsageError, match="there is no model") as caught:
        hub.resolve(f"{folder}+open_clip:ViT-B-16")
    assert "GEOMETRY+open_clip:ARCH/TAG" in caught.value.hint
    found = hub.resolve(f"{folder}+open_clip:ViT-L-14/openai", offline=True)
    assert (found.path, found.text_space) == (folder, "open_clip:ViT-L-14/openai")
    assert found.text_weights is None
    assert found.provenance["text_encoder"] == "open_clip:ViT-L-14/openai"
    with_plus = folder.rename(folder.with_name("a+clip"))
    assert hub.resolve(str(with_plus)).text_space is None


@pytest.fixture
def recommended(fake_hub, folder, tmp_path):
    """The hub with the recommended model: a checkpoint for the geometry, and CLIP's file."""
    clip = tmp_path / "clip"
    clip.mkdir()
    (clip / CLIP.weights).write_bytes(b"the text encoder")
    (clip / "config.json").write_text("{}")
    (clip / "README.md").write_text("---\nlicense: mit\n---\n# CLIP\n")
    geometry = published(RECOMMENDED.removesuffix("+clip"))
    assert geometry is not None
    fake_hub.models |= {geometry.repository: folder, CLIP.repository: clip}
    return fake_hub


def test_auto_is_the_recommended_model_which_then_needs_no_network(recommended, caplog):
    caplog.set_level(logging.WARNING)
    found = hub.resolve("auto")
    assert (found.name, found.revision) == (RECOMMENDED, COMMIT)
    assert found.license == "CC0-1.0 AND MIT"
    assert found.text_space == CLIP_SPACE
    assert found.text_weights is not None
    assert found.text_weights.read_bytes() == b"the text encoder"
    assert found.provenance["repository"] == "depth-anything/DA3-BASE"
    (line,) = caplog.messages
    assert re.match(
        r"downloading \S+ (kB|MB|bytes) of depth-anything/DA3-BASE and laion/CLIP\S+ into /", line
    )
    assert not any("config.json" in path for path in recommended.paths if CLIP.repository in path)
    recommended.asked.clear()
    assert hub.resolve("auto") == found == hub.resolve("auto", offline=True)
    assert hub.resolve("da3-base").text_space is None
    assert recommended.asked == []


def test_auto_without_network_is_the_bundled_model_with_one_line_of_notice(
    recommended, impatient, caplog
):
    caplog.set_level(logging.WARNING)
    assert hub.resolve("auto", offline=True).name == "ffsplat-tiny"
    (line,) = caplog.messages
    assert line.startswith("using ffsplat-tiny, which comes with the package: weights depth-anyth")
    assert line.endswith("--offline is set")
    assert recommended.asked == []
    recommended.fail(".", silence)
    caplog.clear()
    assert hub.resolve("auto").name == "ffsplat-tiny"
    assert len(caplog.messages) == 1
    assert "the hub cannot be reached" in caplog.messages[0]


def test_auto_is_not_stopped_by_a_hub_that_has_no_such_model(fake_hub, caplog):
    assert hub.resolve("auto").name == "ffsplat-tiny"
    assert "there is no model depth-anything/DA3-BASE on the hub" in caplog.text


def test_a_text_encoder_can_be_fetched_by_itself(recommended):
    for name in ("clip", CLIP.repository):
        found = hub.resolve(name)
        assert (found.path / CLIP.weights).read_bytes() == b"the text encoder"
        assert (found.license, found.repository) == ("MIT", CLIP.repository)
    assert not any("config.json" in path for path in recommended.paths)
    with pytest.raises(WeightsMissing, match="DA3-BASE@main are not in the local cache"):
        hub.resolve("da3-base+clip", offline=True)
    name = parse_space(CLIP_SPACE)
    assert name is not None
    assert weights_file(name.arch, name.tag, offline=True) == found.path / CLIP.weights
