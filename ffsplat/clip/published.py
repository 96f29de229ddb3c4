"""The published weights of OpenCLIP's networks: where they are, and how they get here."""

from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from ffsplat.clip.names import WEIGHTS, ClipName
from ffsplat.errors import UsageError, WeightsMissing

PATIENCE = 3.0
"""Seconds that a dead network may cost."""


def weights_file(arch: str, tag: str, offline: bool = False) -> Path:
    """The published safetensors file of a network: from the hub's cache, else from the hub.

    A network that does not answer within `PATIENCE` seconds counts as dead. Raises UsageError for
    a tag that open_clip does not know, WeightsMissing for weights that are not to be had; it never
    falls back on a pickle.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    repository, file = _place(ClipName(arch, tag))
    place = f"{file} of {repository}"
    try:
        return Path(hf_hub_download(repository, file, local_files_only=True))
    except (HTTPError, OSError):
        pass  # not in the cache
    if offline or constants.HF_HUB_OFFLINE:
        raise WeightsMissing(f"{place} is not in the local cache", "run once without --offline")
    _check_reachable(repository, file)
    try:
        return Path(hf_hub_download(repository, file, etag_timeout=PATIENCE))
    except (HTTPError, OSError) as error:
        raise _not_to_be_had(place, error) from error


def published(name: ClipName) -> dict[str, Any]:
    """What open_clip knows of the weights of a tag; empty for one that it does not know."""
    from open_clip.pretrained import get_pretrained_cfg

    return get_pretrained_cfg(name.arch, name.tag)


def check_activation(name: ClipName, config: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    """Refuse weights trained with QuickGELU for a network with GELU, and the reverse.

    `trained` is what `published` tells of the weights; nothing is refused where it is empty.
    """
    if not trained or bool(trained.get("quick_gelu")) == bool(config.get("quick_gelu")):
        return
    plain = name.arch.removesuffix("-quickgelu")
    right = f"{plain}-quickgelu" if trained.get("quick_gelu") else plain
    raise UsageError(
        f"weights {name.tag} were trained with another activation than {name.arch} has",
        ClipName(right, name.tag).space,
    )


def _place(name: ClipName) -> tuple[str, str]:
    """Repository and file of published weights; a pickle's name becomes that of its twin."""
    import open_clip

    place = published(name).get("hf_hub")
    if not place:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name.arch)) or "none"
        raise UsageError(
            f"open_clip knows no weights {name.tag!r} of {name.arch}", f"known: {known}"
        )
    repository, _, file = place.rpartition("/")
    return repository, str(Path(file).with_suffix(".safetensors")) if file else WEIGHTS


def _check_reachable(repository: str, file: str) -> None:
    """Raise WeightsMissing unless the hub has the file and says so within `PATIENCE`.

    Asked in a thread of its own, because resolving a name can hang beyond every timeout.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    answers: SimpleQueue[Exception | None] = SimpleQueue()

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(repository, file), timeout=PATIENCE)
        except (HTTPError, OSError) as error:
            answers.put(error)
        else:
            answers.put(None)

    Thread(target=ask, daemon=True).start()
    place = f"{file} of {repository}"
    try:
        error = answers.get(timeout=PATIENCE)
    except Empty:
        raise _not_to_be_had(place, f"no answer within {PATIENCE:.0f} s") from None
    if error is not None:
        raise _not_to_be_had(place, error) from error


def _not_to_be_had(place: str, reason: object) -> WeightsMissing:
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return WeightsMissing(
        f"{place} is not to be had: {lines[0][:200]}",
        "connect once, or give the weights as a safetensors file or folder",
    )
