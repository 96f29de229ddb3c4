"""A reproducible run in one YAML file: network, schedule and losses."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml

from ffsplat.config import ModelConfig
from ffsplat.errors import UsageError
from train.rooms import RoomSettings

LOSS_WEIGHTS = {
    "depth": 1.0,
    "gradient": 0.5,
    "error": 0.05,
    "scale": 0.1,
    "rotation": 5.0,
    "translation": 5.0,
    "focal": 0.3,
    "whole": 0.5,
    "part": 0.3,
    "instance": 0.2,
    "match": 0.3,
    "token_match": 0.3,
    "render": 1.0,
}
"""Weights of the losses: those of the geometry as in the trial that converged."""


@dataclass(frozen=True)
class Recipe:
    """What `python -m train fit` runs; every field can be set in the YAML file."""

    model: ModelConfig = field(default_factory=ModelConfig)
    rooms: RoomSettings = field(default_factory=RoomSettings)
    """The rooms that are made while training, where no pool is given."""
    seed: int = 0
    steps: int = 10000
    images: int = 32
    """Images of a batch; divided by the view count this is its number of sets."""
    view_counts: tuple[int, ...] = (2, 2, 3, 4)
    """A batch's view count is drawn from these."""
    learning_rate: float = 1.5e-3
    warmup: int = 150
    decay: float = 0.2
    """Last share of the steps, over which the rate falls to zero."""
    render_every: int = 0
    """Steps from one rendering loss to the next; 0 is never."""
    average_decay: float = 0.999
    precision: str = "bf16-mixed"
    losses: dict[str, float] = field(default_factory=lambda: dict(LOSS_WEIGHTS))


def read_recipe(path: Path) -> Recipe:
    """Parse a recipe; unknown keys raise UsageError."""
    values = yaml.safe_load(path.read_text()) or {}
    known = {item.name for item in fields(Recipe)}
    if unknown := sorted(set(values) - known):
        raise UsageError(f"{path} has unknown keys: {', '.join(unknown)}")
    if "model" in values:
        values["model"] = ModelConfig.from_json(json.dumps(values["model"]))
    if "rooms" in values:
        values["rooms"] = RoomSettings(**values["rooms"])
    if "view_counts" in values:
        values["view_counts"] = tuple(values["view_counts"])
    if "losses" in values:
        if unknown := sorted(set(values["losses"]) - set(LOSS_WEIGHTS)):
            raise UsageError(f"{path} has unknown losses: {', '.join(unknown)}")
        values["losses"] = LOSS_WEIGHTS | values["losses"]
    return Recipe(**values)
