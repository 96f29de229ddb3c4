"""The command: rooms, shards and photos in, a table and JSON out."""

import json

import numpy as np
import pytest
import timm
import torch
from boxclips import box_clips
from safetensors.torch import save_file

from data.rooms import SPLITS
from data.shards import write_shards
from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.hub import save_checkpoint
from ffsplat.model import FFSplat
from train import evaluate
from train.evaluation.measure import Subject, measure
from train.evaluation.rows import table

TINY = ModelConfig(
    width=24, heads=2, view_blocks=1, cross_blocks=2, match_block=2, decoder=(16, 12, 8)
)
KEYS = ("abs_rel", "delta1", "rotation_deg", "translation_deg", "fov_deg", "miou_whole",
        "miou_part", "psnr")  # fmt: skip
FIRST = SPLITS["preview"][200]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return FFSplat(TINY).eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, network):
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    save_checkpoint(folder, network, lexicon_codebook(), "card")
    return str(folder)


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    def call(*arguments) -> tuple[int, str, str, dict]:
        out = tmp_path / "table.json"
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr("sys.argv", ["evaluate", *words, "--json", str(out)])
        code = evaluate.run()
        text, errors = capfd.readouterr()
        return code, text, errors, json.loads(out.read_text()) if out.exists() else {}

    return call


def test_rooms_of_any_seed(command, checkpoint):
    code, text, errors, found = command(checkpoint, "--rooms", FIRST, "--count", 2, "--size", 32)
    assert code == 0
    assert all(np.isfinite(found[key]) for key in KEYS)
    assert found["seeds"] == [FIRST, FIRST + 1]
    assert found["splits"] == ["preview"]
    assert (found["clips"], found["views"], found["size"]) == (2, 2, 32)
    assert found["checkpoint"]["revision"].startswith("sha256:")
    assert found["statistics"]["rotation_deg"] == "median over pairs"
    assert set(KEYS) <= {key for values in found["baselines"].values() for key in values}
    assert found["baselines"]["identity"]["translation_deg"] == pytest.approx(90)
    assert set(found["seconds"]) == {"network", "cameras", "scene"}
    assert found["peak_memory_mb"] > 10
    for row in found["rows"]:
        assert row["title"] in text
        assert row["protocol"] in text
        assert row["protocol"] in found["protocol"]
    assert "split preview" in text
    assert "warning" not in errors


def test_rooms_that_are_trained_on_are_told(command, checkpoint):
    code, text, errors, found = command(
        checkpoint, "--rooms", 7, "--count", 2, "--size", 16, "--views", 3
    )
    assert code == 0
    assert found["splits"] == ["train"]
    assert found["views"] == 3
    assert "split train" in text
    assert "warning" in errors


def test_rooms_are_those_of_the_newest_split_unless_told_otherwise():
    clips, told = evaluate.open_rooms(None, 3, 2, 16, None, torch.device("cpu"))
    assert clips.seeds == SPLITS["heldout_v2"][:3]
    assert clips.views == 4
    assert told.facts["splits"] == ["heldout_v2"]
    _, told = evaluate.open_rooms(2**40, 2, 2, 16, None, torch.device("cpu"))
    assert told.facts["splits"] == []
    assert "no split" in told.note


def test_shards_are_measured_as_their_clips(command, checkpoint, network, tmp_path):
    clips = box_clips(3)
    (tmp_path / "shards").mkdir()
    write_shards(clips, tmp_path / "shards")
    code, _, _, found = command(checkpoint, "--shards", tmp_path / "shards")
    assert code == 0
    assert found["clips"] == 3
    assert "seeds" not in found
    direct = table(measure(Subject(network, lexicon_codebook()), clips))
    assert {row.key: row.network for row in direct} == pytest.approx(
        {row["key"]: found[row["key"]] for row in found["rows"]}, rel=2e-3
    )  # weights are saved in half precision
    _, _, _, found = command(checkpoint, "--shards", tmp_path / "shards", "--count", 2)
    assert found["clips"] == 2


def test_photos_are_sets_of_a_folder(command, checkpoint, shared_data, tmp_path):
    name = "nvblox_studyroom"
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / name).symlink_to(shared_data / name)
    code, text, _, found = command(checkpoint, "--photos", folder, "--size", 32)
    assert code == 0
    assert f"{name} (4)" in text
    assert found["sets"][name]["abs_rel"] > 0
    assert found["sets"][name]["baselines"]["identity"]["translation_deg"] == pytest.approx(90)


def test_weights_behind_lpips_come_from_a_file_or_the_cache(tmp_path, monkeypatch, caplog):
    name, cpu = "test_convnext", torch.device("cpu")
    monkeypatch.setattr(evaluate, "try_to_load_from_cache", lambda *where: None)
    assert evaluate.load_features(name, None, cpu) is None
    assert name in caplog.text
    path = tmp_path / "model.safetensors"
    save_file(timm.create_model(name, pretrained=False).state_dict(), path)
    images = torch.rand(1, 3, 32, 32)
    given = evaluate.load_features(name, path, cpu)
    monkeypatch.setattr(evaluate, "try_to_load_from_cache", lambda *where: str(path))
    cached = evaluate.load_features(name, None, cpu)
    assert given is not None
    assert cached is not None
    for one, other in zip(given(images), cached(images), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rooms", "1", "--shards", "x"], "exclude each other"),
        (["--rooms", "-1"], "-1"),
        (["--views", "9"], "9"),
        (["--shards", "/nowhere"], "/nowhere"),
        (["--device", "tpu"], "tpu"),
        (["--lpips", "nothing", "--count", "2"], "nothing"),
    ],
)
def test_mistakes_are_one_line_and_a_hint(command, checkpoint, arguments, words):
    code, text, errors, found = command(checkpoint, *arguments)
    assert code in (1, 2)
    assert errors.startswith("error: ")
    assert words in errors
    assert "Traceback" not in errors
    assert not text
    assert not found


def test_textures_that_are_none(command, checkpoint, tmp_path):
    (tmp_path / "tiles").mkdir()
    for content, words in ((None, "index.json"), ('{"wood": {}}', "photo tiles")):
        if content:
            (tmp_path / "tiles" / "index.json").write_text(content)
        code, _, errors, _ = command(checkpoint, "--rooms", FIRST, "--textures", tmp_path / "tiles")
        assert code != 0
        assert errors.startswith("error: ")
        assert words in errors


def test_a_checkpoint_that_is_not_there(command, tmp_path):
    code, _, errors, _ = command(tmp_path / "none")
    assert code != 0
    assert errors.startswith("error: ")
