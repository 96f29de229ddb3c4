"""Checkpoints onto the hub, with a card whose metadata the hub can read."""

import re
import tempfile
from pathlib import Path

import torch

from ffsplat.errors import CheckpointError, FFSplatError, UsageError, WeightsMissing
from ffsplat.hub.checkpoint import save_checkpoint
from ffsplat.hub.locate import REPOSITORY
from ffsplat.model import FFSplat
from ffsplat.types import Codebook
from ffsplat.weights import shown
from ffsplat.zoo import FILES

TAGS = ("gaussian-splatting", "3d-reconstruction", "feed-forward", "open-vocabulary")
HUB_LICENSES = (
    "apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
)  # fmt: skip
"""Identifiers of the hub that are SPDX identifiers in small letters; others are "other"."""

_SPDX = re.compile(r"[\w.+() -]{1,200}")


def push_checkpoint(
    repository: str,
    network: FFSplat,
    codebook: Codebook,
    *,
    license: str,
    card: str | None = None,
    revision: str | None = None,
    private: bool = False,
    message: str = "Upload weights",
    dtype: torch.dtype = torch.float16,
) -> str:
    """Make a repository if need be, commit a checkpoint to it, and return the commit.

    `card` replaces the text below the card's metadata; one that begins with metadata of its own is
    taken as it is. Raises UsageError for a malformed name or licence, CheckpointError for weights
    that are not finite in `dtype`, and WeightsMissing if the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    if not REPOSITORY.fullmatch(repository):
        raise UsageError(f"{shown(repository)} is no org/name on the hub")
    text = card_text(repository, network, license, card)
    api = HfApi(library_name="ffsplat")
    with tempfile.TemporaryDirectory(prefix="ffsplat-push-") as name:
        folder = Path(name)
        save_checkpoint(folder, network, codebook, text, dtype=dtype, license=license)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                revision=revision,
                commit_message=message,
                allow_patterns=list(FILES),
            )
        except (HTTPError, OSError, ValueError, RuntimeError) as error:
            raise _refused(repository, error) from error
    return commit.oid


def card_text(repository: str, network: FFSplat, license: str, body: str | None = None) -> str:
    """The card of a checkpoint: metadata in YAML, then `body`, or what the network tells of itself.

    Raises UsageError for a licence that is no SPDX identifier or expression.
    """
    if body is not None and body.lstrip().startswith("---"):
        return body
    if not _SPDX.fullmatch(license):
        raise UsageError(f"{shown(license)} is no SPDX identifier of a licence")
    known = license.lower() in HUB_LICENSES
    metadata = [
        f"license: {license.lower()}" if known else f'license: other\nlicense_name: "{license}"',
        "library_name: ffsplat",
        "pipeline_tag: image-to-3d",
        f"tags: [{', '.join(TAGS)}]",
    ]
    return "\n".join(["---", *metadata, "---", "", body or _body(repository, network, license)])


def _body(repository: str, network: FFSplat, license: str) -> str:
    config = network.config
    count = sum(parameter.numel() for parameter in network.parameters())
    unit = "the metre" if config.metric else "unknown"
    return f"""# {repository.partition("/")[2]}

Unposed photos to semantic 3D Gaussians in one forward pass, with ffsplat: {count / 1e6:.1f} M
parameters, photos resized to {config.resolution} pixels along their longer side. The world is the
frame of the first photo, in OpenCV axes; its unit is {unit}.

```sh
ffsplat infer photos/ --out scene.ply --model {repository}
```

Licence of the weights: {license}.
"""


def _refused(repository: str, error: Exception) -> FFSplatError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return WeightsMissing(
            f"the hub does not let you write to {repository}",
            "log in with a token that may write: hf auth login",
        )
    if status is None and isinstance(error, ValueError):
        return CheckpointError(f"the hub refuses the checkpoint: {shown(error)}")
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return WeightsMissing(f"the upload to {repository} failed: {shown(lines[0])}", "try again")
