"""How a command asks: the text encoder, if it may be used, and the options of a strategy."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffsplat.errors import UsageError

if TYPE_CHECKING:
    from ffsplat.text import TextSpace
    from ffsplat.types import Scene


def chosen_encoder(space: str | None, clip: Path | None) -> "TextSpace | None":
    """The text space that was asked for, None for the scene's own.

    Raises UsageError for a folder whose encoder is of another space, and as `text_space`.
    """
    from ffsplat.text import OpenClipSpace, text_space

    if clip:
        encoder = OpenClipSpace.of_folder(clip)
        if space not in (None, encoder.name):
            raise UsageError(f"the encoder in {clip} is that of {encoder.name}, not of {space}")
        return encoder
    return text_space(space) if space else None


def usable(encoder: "TextSpace", offline: bool, accept_license: bool) -> "TextSpace":
    """The text space, if the user may use its weights; with `offline`, from the cache alone.

    Raises LicenseNotAccepted as `require_text_license`.
    """
    from ffsplat.text import OpenClipSpace

    if not isinstance(encoder, OpenClipSpace):
        return encoder
    from ffsplat.hub.licenses import require_text_license

    require_text_license(encoder.name, accept_license)
    encoder.offline = encoder.offline or offline
    return encoder


def with_rows(scene: "Scene", encoder: "TextSpace | None") -> "Scene":
    """The scene with its row names in that space, made once for all texts."""
    from ffsplat.clip import OPEN_CLIP
    from ffsplat.query import with_space

    if scene.codebook is None or encoder is None or not encoder.name.startswith(OPEN_CLIP):
        return scene
    return replace(scene, codebook=with_space(scene.codebook, encoder))


def strategy_options(strategy: str | None, pairs: tuple[str, ...]) -> dict[str, Any]:
    """What `--option` says, which only a strategy that is named can know."""
    from ffsplat.query.strategies import strategy_named

    if strategy is not None:
        return strategy_named(strategy).read(pairs)
    if pairs:
        raise UsageError("--option belongs to a strategy", "name it with --strategy")
    return {}
