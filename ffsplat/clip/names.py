"""What OpenCLIP's networks are called, and under which terms their weights are."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ffsplat.errors import WeightsMissing

OPEN_CLIP = "open_clip:"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
"""What OpenCLIP calls its files on the hub; a folder of both is a model too."""

_NAME = re.compile(r"[\w.-]{1,80}")
_RESEARCH = "MIT, meant for research by their cards"
_APPLE = "Apple's own licence for research, beside the weights"


@dataclass(frozen=True)
class License:
    """Terms of published weights; `restricted` where they exclude commercial use."""

    text: str
    restricted: bool = False


UNKNOWN_LICENSE = License("stated by whoever publishes them")
LICENSES = {
    "laion": License(_RESEARCH),
    "openai": License(_RESEARCH),
    "datacomp_": License(_RESEARCH),
    "commonpool_": License(_RESEARCH),
    "metaclip": License("CC BY-NC 4.0, non-commercial", restricted=True),
    "dfn": License(_APPLE, restricted=True),
    "datacompdr": License(_APPLE, restricted=True),
    "dfndr": License(_APPLE, restricted=True),
}
"""Licences by what the tag begins with, from the cards of the weights."""


@dataclass(frozen=True)
class ClipName:
    """An architecture of open_clip and the tag of its weights."""

    arch: str
    tag: str

    @property
    def space(self) -> str:
        """The name of the space that its images and texts share, as in `Codebook.spaces`."""
        return f"{OPEN_CLIP}{self.arch}/{self.tag}"

    @property
    def license(self) -> License:
        """What is known of the licence of the weights; `UNKNOWN_LICENSE` if nothing is."""
        found = (entry for start, entry in LICENSES.items() if self.tag.startswith(start))
        return next(found, UNKNOWN_LICENSE)


def parse_space(space: str) -> ClipName | None:
    """The network that "open_clip:<arch>/<tag>" names, or None for a space of another form."""
    arch, _, tag = space.removeprefix(OPEN_CLIP).partition("/")
    fits = space.startswith(OPEN_CLIP) and _NAME.fullmatch(arch) and _NAME.fullmatch(tag)
    return ClipName(arch, tag) if fits else None


def folder_name(folder: Path) -> ClipName:
    """How the network of a folder is called: by the folder, and by the sha256 of its weights."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise WeightsMissing(f"{folder} has no {WEIGHTS}", "pickles are not opened")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    arch = re.sub(r"[^\w.-]", "-", folder.resolve().name)[:80] or "folder"
    return ClipName(arch, f"sha256-{digest[:16]}")
