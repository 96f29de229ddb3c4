"""The published models that have a short name, and where their weights lie. Needs no torch.

Names of repositories, licences and that there are safetensors were checked against stored pages of
the hub and the authors' own repository. Not checked, because the hub was out of reach when this
table was written: the commits, and what CLIP's file is called there (open_clip 3.3 looks for that
name). Each revision is therefore "main", resolved to a commit when the weights are downloaded;
that commit is used from then on, and recorded in every scene.
"""

import re
from dataclasses import dataclass

from ffsplat.errors import UsageError

CONFIG, WEIGHTS, CODEBOOK, CARD = FILES = (
    "config.json",
    "model.safetensors",
    "codebook.safetensors",
    "README.md",
)
"""Names of the files of a checkpoint; the codebook and the card are optional."""

CLIP_SPACE = "open_clip:ViT-B-16/laion2b_s34b_b88k"
"""The text space that "+clip" stands for."""

RECOMMENDED = "da3-base+clip"
"""What "auto" means. Of a download of Base with CLIP, CLIP is the larger part, which Small needs
as well; Base is the better geometry of the two, and both are free for any use."""

_SPACE = re.compile(r"open_clip:[\w.-]{1,64}/[\w.-]{1,64}")
_NON_COMMERCIAL = re.compile(r"(^|[-_ .])nc([-_ .]|$)|non-?commercial|research", re.IGNORECASE)


@dataclass(frozen=True)
class Published:
    """Weights on the hub: one repository at one revision.

    `weights` names the file to load. A licence is an SPDX identifier; a `revision` that is no
    commit is resolved when the weights are fetched.
    """

    name: str
    repository: str
    license: str
    summary: str
    revision: str = "main"
    weights: str = WEIGHTS

    @property
    def non_commercial(self) -> bool:
        """Whether the licence excludes commercial use."""
        return is_non_commercial(self.license)


@dataclass(frozen=True)
class ModelName:
    """What a name asks for: a geometry network, and the text space that its output is lifted to."""

    geometry: str
    text_space: str | None = None


GEOMETRY = (
    Published("da3-small", "depth-anything/DA3-SMALL", "Apache-2.0",
              "Depth Anything 3 Small: depth and cameras of any number of views"),
    Published("da3-base", "depth-anything/DA3-BASE", "Apache-2.0",
              "Depth Anything 3 Base: depth and cameras of any number of views"),
    # Its page on the hub says Apache-2.0, the authors' repository CC BY-NC 4.0, and the question
    # which of the two holds stands unanswered there: the stricter one is taken.
    Published("da3-large", "depth-anything/DA3-LARGE-1.1", "CC-BY-NC-4.0",
              "Depth Anything 3 Large: depth and cameras of any number of views"),
    Published("da3-giant", "depth-anything/DA3-GIANT-1.1", "CC-BY-NC-4.0",
              "Depth Anything 3 Giant: with a trained head for Gaussians"),
)  # fmt: skip

TEXT_ENCODERS = {
    CLIP_SPACE: Published(
        "clip",
        "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        "MIT",
        "OpenCLIP ViT-B/16 trained on LAION-2B",
        weights="open_clip_model.safetensors",
    )
}
"""The text spaces whose weights are fetched together with a model; others when they are used."""

COMPOSITES = ("da3-small+clip", "da3-base+clip")
"""Models that give open vocabulary, as `ffsplat models list` names them."""


def parse_name(name: str) -> ModelName:
    """Split "<geometry>+clip" or "<geometry>+open_clip:<arch>/<tag>"; other names have no space.

    Raises UsageError for a text space whose name is malformed.
    """
    geometry, plus, text = name.rpartition("+")
    if not plus or not (text == "clip" or text.startswith("open_clip:")):
        return ModelName(name)
    space = CLIP_SPACE if text == "clip" else text
    if not geometry or not _SPACE.fullmatch(space):
        raise UsageError(
            f"there is no model {ascii(name[:80])[1:-1]}",
            "an open vocabulary is added by GEOMETRY+clip or GEOMETRY+open_clip:ARCH/TAG",
        )
    return ModelName(geometry, space)


def published(name: str) -> Published | None:
    """The entry of a short name or of a repository, if the table has one."""
    key = name.lower()
    entries = (*GEOMETRY, *TEXT_ENCODERS.values())
    return next((e for e in entries if key in (e.name, e.repository.lower())), None)


def is_non_commercial(license: str) -> bool:
    """Whether a licence's identifier tells of a restriction to non-commercial use or research."""
    return bool(_NON_COMMERCIAL.search(license))
