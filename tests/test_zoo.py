"""The model zoo: every folder is a network that builds, with a card that tells what it must."""

import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from data.rooms import SPLITS
from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.hub import BUNDLED, load_checkpoint
from ffsplat.model import FFSplat
from train.evaluation.clips import RoomClips
from train.evaluation.measure import Subject, measure
from train.evaluation.rows import table

ROOT = Path(__file__).resolve().parents[1]
MODELS = sorted(path.parent for path in ROOT.glob("models/*/config.json"))
SECTIONS = ("Data", "Recipe", "Measured", "Limits", "Licence")
MOST_BYTES = 16 << 20


def config_of(folder: Path) -> ModelConfig:
    return ModelConfig.from_json((folder / "config.json").read_text(encoding="utf-8"))


def test_bundled_models_are_in_the_zoo():
    assert set(BUNDLED) <= {folder.name for folder in MODELS}


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_a_model_builds_and_its_card_tells_the_facts(folder):
    config = config_of(folder)
    assert config.name == folder.name
    with torch.device("meta"):
        count = sum(p.numel() for p in FFSplat(config).parameters())
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{count / 1e6:.1f} M parameters" in card
    assert config.license in card
    own = config.read_out == "pixel"  # the others are held to the numbers of the original's code
    assert f"python -m {'train.evaluate' if own else 'tests.compare_da3'}" in card
    for section in SECTIONS:
        assert f"\n## {section}" in card, section


@pytest.mark.parametrize("name", BUNDLED)
def test_the_weights_in_the_package_are_those_of_the_zoo(name):
    folder, shipped = ROOT / "models" / name, ROOT / "checkpoints" / name
    for file in ("config.json", "README.md"):
        assert (shipped / file).read_bytes() == (folder / file).read_bytes(), file
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", (shipped / "README.md").read_text("utf-8"))
    assert [link for link in links if not (shipped / link).exists()] == []
    weights = shipped / "model.safetensors"
    assert weights.stat().st_size < MOST_BYTES
    with safe_open(weights, framework="pt") as tensors:
        kinds = {tensors.get_slice(key).get_dtype() for key in tensors.keys()}  # noqa: SIM118
    assert kinds == {"F16"}
    network, codebook = load_checkpoint(shipped)
    assert codebook.names == lexicon_codebook().names
    for key, tensor in network.state_dict().items():
        assert tensor.isfinite().all(), key


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLED)
def test_what_ships_has_learnt_to_see_rooms(name):
    subject = Subject(*load_checkpoint(ROOT / "checkpoints" / name))
    size = subject.network.config.resolution
    rooms = RoomClips(SPLITS["heldout_v1"][:6], 4, size, None, torch.device("cpu"))
    rows = {row.key: row for row in table(measure(subject, rooms))}
    # Without photo textures, and few rooms: the card holds the exact figures.
    assert rows["abs_rel"].network < 0.5 * rows["abs_rel"].trivial["constant depth"]
    turn = rows["rotation_deg"]
    assert turn.network < 0.5 * turn.trivial["identity"]
    for key in ("delta1", "fov_deg", "miou_whole", "miou_part"):
        assert rows[key].beats, key
