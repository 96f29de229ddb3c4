"""Weights: from a name to a folder, from a folder to a network, and back into a folder.

A checkpoint is a folder of `FILES`; the codebook is optional (the lexicon stands in). Weights are
safetensors, checked against the network's shapes before they are read; pickles are refused.
"""

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

import safetensors.torch
import torch

from ffsplat.codebook import lexicon_codebook, rows_of_level
from ffsplat.config import ModelConfig
from ffsplat.errors import CheckpointError, UsageError, WeightsMissing
from ffsplat.io.atomic import atomic_outputs
from ffsplat.io.codebook_file import codebook_bytes, read_codebook
from ffsplat.model import CHANNELS_LAST, FFSplat
from ffsplat.types import Codebook
from ffsplat.weights import (
    PICKLES,
    listing,
    not_finite,
    read_header,
    read_weights,
    refuse_pickle,
    shown,
)

CONFIG, WEIGHTS, CODEBOOK, CARD = FILES = (
    "config.json",
    "model.safetensors",
    "codebook.safetensors",
    "README.md",
)
BUNDLED = ("ffsplat-tiny",)
"""Models whose weights are part of the package."""

PATIENCE = 3.0
"""Seconds that a dead network may cost."""

MAX_CONFIG = 1 << 20

_FOLDER_HINT = "a model is a folder of " + ", ".join(FILES)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFolder:
    """A checkpoint on disk, and what a file made with it records about it.

    `revision` is the commit on the hub, else the start of the weights' sha256.
    """

    path: Path
    name: str
    revision: str
    license: str


def resolve(name: str, *, revision: str | None = None, offline: bool = False) -> ModelFolder:
    """Find the folder of a model, downloading it if need be.

    `name` is "auto", a bundled model, a folder, or "org/repo" with an optional "@revision" on the
    Hugging Face hub. `offline` (or HF_HUB_OFFLINE=1) allows the hub's cache only. A network that
    does not answer within `PATIENCE` seconds counts as dead: the cache is used, with a warning.

    Raises UsageError for a malformed name, WeightsMissing where the weights are not to be had, and
    CheckpointError for a broken folder.
    """
    if name == "auto":
        name = BUNDLED[0]
        _log.info("model %s comes with the package; --model chooses another", name)
    folder = _bundled(name) if name in BUNDLED else _local(name)
    if folder is None:
        return _from_hub(*_split(name, revision), offline)
    if revision is not None:
        raise UsageError(f"{name} has no revisions", "only models on the hub have")
    config = read_config(folder)
    with _weights(folder).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelFolder(folder, folder.resolve().name, f"sha256:{digest[:16]}", config.license)


def load_checkpoint(folder: Path) -> tuple[FFSplat, Codebook]:
    """The network, in float32 on the CPU and in evaluation mode, and its codebook.

    Raises CheckpointError if any file breaks its format, if tensors are missing, unexpected,
    mis-shaped or not finite, or if the codebook does not fit the network; WeightsMissing if there
    are no weights.
    """
    config = read_config(folder)
    path = _weights(folder)
    header = read_header(path)
    if config.view_blocks + config.cross_blocks > len(header):
        raise CheckpointError(f"{CONFIG} has more blocks than {WEIGHTS} has tensors")
    with torch.device("meta"):  # shapes only: nothing is allocated before the file fits them
        network = FFSplat(config)
    tensors = read_weights(path, network.state_dict())
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.to(memory_format=CHANNELS_LAST).eval(), _load_codebook(folder, config)


def save_checkpoint(
    folder: Path,
    network: FFSplat,
    codebook: Codebook,
    card: str,
    dtype: torch.dtype = torch.float16,
    overwrite: bool = False,
) -> None:
    """Write a checkpoint folder; each file appears whole, and none unless all could be written.

    `card` is the text of README.md. Raises OutputError as `atomic_outputs` does, and
    CheckpointError for weights that are not finite in `dtype`.
    """
    tensors = {
        key: tensor.detach().to("cpu", dtype).contiguous()
        for key, tensor in network.state_dict().items()
    }
    if broken := not_finite(tensors):
        raise CheckpointError(f"weights are not finite in {dtype}: {listing(broken)}")
    contents = (
        network.config.to_json().encode(),
        safetensors.torch.save(tensors, {"format": "pt"}),
        codebook_bytes(codebook),
        card.encode(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(map(len, contents))
    with atomic_outputs([folder / name for name in FILES], overwrite, size) as files:
        for file, content in zip(files, contents, strict=True):
            file.write(content)


def read_config(folder: Path) -> ModelConfig:
    """The description of the network in a checkpoint folder; see `load_checkpoint` for errors."""
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
        return ModelConfig.from_json(content.decode())
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8") from error


def _local(name: str) -> Path | None:
    """The path that a name means, or None where it means a model on the hub."""
    try:
        path = Path(name).expanduser()
        return path if name.startswith((".", "/", "~")) or (name and path.exists()) else None
    except (OSError, RuntimeError):  # too long, or the home of nobody
        return None


def _bundled(name: str) -> Path:
    package = Path(__file__).parent
    candidates = [root / "checkpoints" / name for root in (package, package.parent)]
    for folder in candidates:
        if (folder / WEIGHTS).is_file():
            return folder
    raise WeightsMissing(f"the weights of {name} are not in this installation")


def _weights(folder: Path) -> Path:
    path = folder / WEIGHTS
    if not path.is_file():
        for pattern in PICKLES:
            for pickle in sorted(folder.glob(pattern)):
                refuse_pickle(pickle)
        raise WeightsMissing(f"{folder} has no {WEIGHTS}", _FOLDER_HINT)
    return path


def _load_codebook(folder: Path, config: ModelConfig) -> Codebook:
    path = folder / CODEBOOK
    codebook = read_codebook(path) if path.exists() else lexicon_codebook()
    for level, rows in (("whole", config.whole_rows), ("part", config.part_rows)):
        found = len(rows_of_level(codebook, level))
        if found != rows:
            raise CheckpointError(
                f"the codebook has {found} rows of level {level}, the network has {rows}"
            )
    return codebook


def _split(name: str, revision: str | None) -> tuple[str, str]:
    """Repository and revision of "org/repo[@revision]"."""
    repository, _, wanted = name.partition("@")
    if not _REPOSITORY.fullmatch(repository):
        known = ", ".join(BUNDLED)
        raise UsageError(
            f"there is no model {shown(name)}",
            f"give auto, {known}, a folder, or org/name[@revision] on the Hugging Face hub",
        )
    if wanted and revision and wanted != revision:
        raise UsageError(f"two revisions are given: {shown(wanted)} and {shown(revision)}")
    return repository, wanted or revision or "main"


def _from_hub(repository: str, revision: str, offline: bool) -> ModelFolder:
    from huggingface_hub import constants

    offline = offline or constants.HF_HUB_OFFLINE
    # A commit never changes, so a cached one needs no network.
    path = _snapshot(repository, revision, True) if _COMMIT.fullmatch(revision) else None
    if path is None and not offline and _is_reachable(repository, revision):
        path = _snapshot(repository, revision, False)
    if path is None:
        path = _snapshot(repository, revision, True)
        if path is not None and not offline:
            _log.warning("the hub cannot be reached; using %s from the local cache", repository)
    if path is None:
        place = f"{repository}@{revision}"
        if offline:
            raise WeightsMissing(
                f"weights {place} are not in the local cache and --offline is set",
                f"run once online (cache: {constants.HF_HUB_CACHE})",
            )
        raise WeightsMissing(
            f"weights {place} are not in the local cache and the hub cannot be reached",
            "check the network, or use --model ffsplat-tiny, which comes with the package",
        )
    return ModelFolder(path, repository, path.name, read_config(path).license)


def _snapshot(repository: str, revision: str, cached: bool) -> Path | None:
    """The folder of a revision, from the cache alone or through the network; None if it fails."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    try:
        path = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(FILES),
            local_files_only=cached,
            etag_timeout=PATIENCE,
        )
    except (HTTPError, OSError) as error:
        if not cached:
            _log.warning("download of %s failed: %s", repository, shown(error))
        return None
    complete = all((Path(path) / name).is_file() for name in (CONFIG, WEIGHTS))
    return None if cached and not complete else Path(path)


def _is_reachable(repository: str, revision: str) -> bool:
    """Whether the hub answers within `PATIENCE`; raises WeightsMissing if it denies the model.

    Asked in a thread of its own, because resolving a name can hang beyond every timeout.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    answers: SimpleQueue[Exception | None] = SimpleQueue()

    def ask() -> None:
        try:
            HfApi().model_info(repository, revision=revision, timeout=PATIENCE)
        except (HTTPError, OSError) as error:
            answers.put(error)
        else:
            answers.put(None)

    Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=PATIENCE)
    except Empty:
        return False
    if isinstance(error, RepositoryNotFoundError):
        hint = "check the name; a private or gated one needs: hf auth login"
        raise WeightsMissing(f"there is no model {repository} on the hub", hint) from error
    if isinstance(error, RevisionNotFoundError):
        raise WeightsMissing(f"{repository} has no revision {shown(revision)}") from error
    return error is None
