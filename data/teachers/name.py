"""Which network teaches: `open_clip:<arch>/<tag>` or `timm:<arch>[.<tag>]`."""

import re
from dataclasses import dataclass
from typing import Literal

from ffsplat.clip import UNKNOWN_LICENSE, ClipName
from ffsplat.errors import UsageError

Kind = Literal["open_clip", "timm"]
USUAL = {"open_clip": "clip", "timm": "dino"}
"""What clips call a teacher of each kind unless told otherwise."""

_OPEN_CLIP = re.compile(r"open_clip:([\w.-]{1,80})/([\w.-]{1,80})")
_TIMM = re.compile(r"timm:(\w{1,80})(?:\.([\w.-]{1,80}))?")


@dataclass(frozen=True)
class NetworkName:
    """An architecture and the tag of its weights, empty where timm publishes none."""

    kind: Kind
    arch: str
    tag: str

    @property
    def space(self) -> str:
        """The space of its features, as a codebook names it; text reaches OpenCLIP's alone."""
        if self.kind == "open_clip":
            return f"open_clip:{self.arch}/{self.tag}"
        return f"timm:{self.full}"

    @property
    def full(self) -> str:
        """Architecture and tag as timm writes them."""
        return f"{self.arch}.{self.tag}" if self.tag else self.arch


def parse_name(text: str) -> NetworkName:
    """The network that a text names; timm's default tag is filled in.

    Raises UsageError for another form, and for what timm does not have.
    """
    if match := _OPEN_CLIP.fullmatch(text):
        return NetworkName("open_clip", match[1], match[2])
    match = _TIMM.fullmatch(text)
    if match is None:
        raise UsageError(
            f"not the name of a teacher: {text!r:.120}",
            "open_clip:ViT-B-16/laion2b_s34b_b88k or timm:vit_small_patch14_dinov2",
        )
    name = NetworkName("timm", match[1], match[2] or "")
    published = timm_weights(name)
    return name if published is None else NetworkName("timm", match[1], published.tag or "")


def timm_weights(name: NetworkName):
    """What timm knows of the weights of a network, or None; UsageError for one it does not have."""
    import timm
    from timm.models import get_pretrained_cfg

    if not timm.is_model(name.arch):
        raise UsageError(f"timm has no network {name.arch!r}", "timm.list_models() lists them")
    try:
        return get_pretrained_cfg(name.full)
    except RuntimeError as error:
        raise UsageError(
            f"timm has no weights {name.tag!r} of {name.arch}",
            f'timm.list_pretrained("{name.arch}.*") lists them',
        ) from error


def licence_of(name: NetworkName) -> str:
    """What to read before weights are downloaded: they come under a licence of their own."""
    licence = UNKNOWN_LICENSE.text
    if name.kind == "open_clip":
        licence = ClipName(name.arch, name.tag).license.text
    elif (published := timm_weights(name)) is not None and published.license:
        licence = published.license
    return f"{name.space}: you get the weights yourself; their licence: {licence}"
