"""Every recipe starts, on a small network and tiny data, and lowers its loss."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT
from toypool import make_clips

from data.shards import write_shards
from train.cli import run

RECIPES = sorted(
    path for path in (ROOT / "train" / "recipes").glob("*.yaml") if path.stem != "fsdp"
)
SMALL = {
    "width": 24, "heads": 2, "view_blocks": 1, "cross_blocks": 3, "match_block": 2, "patch": 8,
    "decoder": [16, 12, 8], "match_width": 8, "code_width": 8, "registers": 1,
}  # fmt: skip

ROOMS = {"size": 16, "views": 4, "first": 4, "fresh": 0, "kept": 4, "group": 2, "skipped": 0}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(make_clips(), folder)
    return folder


def smaller(recipe: Path, shards: Path) -> dict:
    """The recipe with a small network, tiny data and few steps."""
    content = yaml.safe_load(recipe.read_text())
    model, data = content["model"], content["data"]
    model["network"] |= SMALL
    if "teacher" in model:
        model["teacher"]["width"], model["network"]["whole_rows"] = 12, 6
    model.pop("initial", None)
    model["compile"] = False
    model.setdefault("optimizer", {})["learning_rate"] = 4e-3
    model["schedule"] = model.get("schedule", {}) | {"warmup": 3}
    for source in data["sources"]:
        if "rooms" in source:
            source["rooms"] |= ROOMS
        else:
            source["shards"], source["size"] = str(shards), 32
    data["view_counts"] = [min(count, 4) for count in data["view_counts"]]
    data |= {"images": 8, "workers": 0, "readers": 0}
    content["trainer"] |= {
        "max_steps": 24, "accelerator": "cpu", "devices": 1, "limit_val_batches": 0,
        "val_check_interval": None, "log_every_n_steps": 1, "precision": "32-true",
    }  # fmt: skip
    return content


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_starts_and_lowers_its_loss(recipe, shards, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(smaller(recipe, shards)))
    run(["fit", "--config", str(path), "--out", str(tmp_path / "run")])
    with next((tmp_path / "run").glob("csv/*/metrics.csv")).open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    assert len(losses) == 24
    assert np.mean(losses[-6:]) < np.mean(losses[:6])


def test_a_network_of_larger_patches_gets_whole_tokens(shards, tmp_path):
    content = smaller(RECIPES[-1], shards)
    content["model"]["network"] |= {"patch": 16, "decoder": [16, 16, 12, 8]}
    content["data"]["sources"] = [{"rooms": ROOMS | {"size": 64, "first": 2}}]
    content["trainer"]["max_steps"] = 6
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    run(["fit", "--config", str(path), "--out", str(tmp_path / "run")])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_read_as_it_stands(recipe, tmp_path):
    """The whole of it, without building the network of a large one."""
    from jsonargparse import ArgumentParser

    from train.data import TrainingData
    from train.module import TrainingModule

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TrainingModule, "model")
    parser.add_class_arguments(TrainingData, "data")
    content = yaml.safe_load(recipe.read_text())
    parsed = parser.parse_object({"model": content["model"], "data": content["data"]})
    assert parsed.model.network.name == content["model"]["network"]["name"]
