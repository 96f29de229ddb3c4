"""Configurations of OpenCLIP's networks: which are taken, and which are refused before building."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffsplat.clip.names import CONFIG, WEIGHTS
from ffsplat.errors import CheckpointError, UsageError, WeightsMissing

MAX_CONFIG = 1 << 20
MAX_SIZE, MAX_LAYERS = 1 << 18, 256
"""Bounds on the numbers of a configuration from a folder, beyond those of any published network."""


def arch_config(arch: str) -> dict[str, Any]:
    """The configuration of an architecture; UsageError for one that open_clip does not list."""
    import open_clip

    # Only names of the list: others may be addresses that open_clip would follow.
    config = open_clip.get_model_config(arch) if arch in open_clip.list_models() else None
    if config is None:
        raise UsageError(f"open_clip has no model {arch!r}", "open_clip.list_models() lists them")
    return config


def folder_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The network of a folder and its preprocessing, from `CONFIG`.

    Raises WeightsMissing without that file, and CheckpointError for what describes no network.
    """
    settings = _read_config(folder / CONFIG)
    config = settings.get("model_cfg")
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise CheckpointError(f"{folder / CONFIG} describes no network of open_clip")
    _check_bounds(folder / CONFIG, config)
    preprocess = settings.get("preprocess_cfg")
    return config, preprocess if isinstance(preprocess, dict) else {}


def check_kind(what: str, config: Mapping[str, Any], text_only: bool) -> None:
    """Refuse, by UsageError, text towers from elsewhere, and what is no plain ViT unless no image
    is to be seen.
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    foreign = {"hf_model_name", "hf_tokenizer_name"} & set(text) or "multimodal_cfg" in config
    plain = (
        "timm_model_name" not in vision
        and not vision.get("attentional_pool")
        and isinstance(vision.get("layers", 12), int)
    )
    if foreign or (not plain and not text_only):
        raise UsageError(
            f"{what} is not a plain ViT of open_clip with a text tower of its own",
            "ViT-B-16 and its like are",
        )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG + 1)
    except OSError as error:
        raise WeightsMissing(
            f"cannot read {path}: {error.strerror}", f"a model is a folder of {CONFIG}, {WEIGHTS}"
        ) from error
    try:
        settings = json.loads(content) if len(content) <= MAX_CONFIG else None
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path} is not a configuration in JSON")
    return settings


def _check_bounds(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse sizes that no network has before anything is built of them, and foreign addresses."""
    towers = config["vision_cfg"], config["text_cfg"]
    if not all(isinstance(tower, dict) for tower in towers):
        raise CheckpointError(f"{path} describes no towers")
    sizes = [v for part in (config, *towers) for v in part.values() if isinstance(v, int | float)]
    layers = [tower.get("layers", 1) for tower in towers]
    deep = any(isinstance(count, int) and count > MAX_LAYERS for count in layers)
    if deep or any(not abs(size) <= MAX_SIZE for size in sizes):
        raise CheckpointError(f"{path} has a size that no network has")
    if ":" in str(towers[0].get("timm_model_name", "")):
        raise CheckpointError(f"{path} names a network elsewhere")
