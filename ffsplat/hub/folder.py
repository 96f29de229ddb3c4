"""What the files of a checkpoint folder say, without torch: its configuration and its licence."""

import json
from pathlib import Path

from ffsplat.config import ModelConfig
from ffsplat.errors import CheckpointError, WeightsMissing
from ffsplat.hub.licenses import UNKNOWN, card_license
from ffsplat.weights import PICKLES, refuse_pickle
from ffsplat.zoo import CONFIG, FILES, WEIGHTS, is_non_commercial, published
from ffsplat.zoo.da3_names import PRESETS, is_da3

MAX_CONFIG = 1 << 20

_FOLDER_HINT = "a model is a folder of " + ", ".join(FILES)
_OURS = frozenset(ModelConfig.__dataclass_fields__)


def read_config(folder: Path) -> ModelConfig:
    """The description of our own network in a checkpoint folder.

    Raises WeightsMissing if there is none, and CheckpointError if it is broken or another's.
    """
    return ModelConfig.from_json(_config_text(folder))


def is_da3_folder(folder: Path) -> bool:
    """Whether the folder holds a Depth Anything 3 checkpoint; raises as `read_config`."""
    try:
        settings = json.loads(_config_text(folder))
    except (ValueError, RecursionError):
        return False  # `read_config` says what is wrong
    if not isinstance(settings, dict) or set(settings) <= _OURS:
        return False
    return is_da3(settings)


def folder_license(folder: Path, repository: str | None = None) -> str:
    """The licence of the weights in a folder, which came from a repository if one is given.

    Our own checkpoints name it in their configuration. Of others the table of published models
    tells, else the authors or the card of the copy, whoever is stricter. Raises as `read_config`.
    """
    if not is_da3_folder(folder):
        return read_config(folder).license
    entry = published(repository) if repository else None
    if entry:
        return entry.license
    name = json.loads(_config_text(folder)).get("model_name")
    authors, card = PRESETS[name].license if name in PRESETS else UNKNOWN, card_license(folder)
    return authors if card == UNKNOWN or is_non_commercial(authors) else card


def weights_path(folder: Path) -> Path:
    """The weights in a folder; WeightsMissing if there are none, CheckpointError for a pickle."""
    path = folder / WEIGHTS
    if not path.is_file():
        for pattern in PICKLES:
            for pickle in sorted(folder.glob(pattern)):
                refuse_pickle(pickle)
        raise WeightsMissing(f"{folder} has no {WEIGHTS}", _FOLDER_HINT)
    return path


def _config_text(folder: Path) -> str:
    refuse_pickle(folder)
    path = folder / CONFIG
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise WeightsMissing(f"{folder} has no {CONFIG}", _FOLDER_HINT) from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_CONFIG:
        raise CheckpointError(f"{path} is larger than {MAX_CONFIG} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8") from error
