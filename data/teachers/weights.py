"""Weights of teachers: safetensors only, so that nothing is ever unpickled."""

import hashlib
from pathlib import Path
from typing import Literal

from ffsplat.clip import PATIENCE
from ffsplat.errors import CheckpointError, WeightsMissing

Weights = Path | Literal["hub", "random"]
"""Where weights come from; "random" ones are for tests and have to be asked for by name."""

RANDOM = "random"


def hub_file(repository: str, name: str) -> Path:
    """A safetensors file of a repository on the Hugging Face hub, from its cache if it is there.

    open_clip and timm would fall back on a pickle where there is none; here that is an error:
    WeightsMissing, as for a hub that does not answer.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    try:
        return Path(hf_hub_download(repository, name, etag_timeout=PATIENCE))
    except (HTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise WeightsMissing(
            f"{name} of {repository} is not to be had: {reason}",
            "connect once, or give a safetensors file by --weights",
        ) from error


def local_file(path: Path) -> Path:
    """A safetensors file on disk; CheckpointError for any other."""
    if path.suffix != ".safetensors" or not path.is_file():
        raise CheckpointError(
            f"{path} is not a safetensors file",
            'give one with the weights of the network, "hub" or "random"',
        )
    return path


def fingerprint(path: Path | None) -> str:
    """What tells weights apart: the sha256 of their file, or "random" without one."""
    if path is None:
        return RANDOM
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
