"""How a command asks: the scene, the text encoder if it may be used, options of a strategy."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.console import FILE
from ffsplat.errors import UsageError

if TYPE_CHECKING:
    from ffsplat.text import TextSpace
    from ffsplat.types import Scene


def loaded_scene(path: Path, codebook: Path | None, cameras: Path | None) -> "Scene":
    """A scene in any format, with the codebook and the cameras of other files if they are given."""
    from ffsplat.io import load_scene, read_cameras

    scene = load_scene(path, codebook)
    return replace(scene, cameras=read_cameras(cameras)) if cameras else scene


def encoder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which text encoder answers, and whether it may be loaded."""
    options = [
        click.option("--space", help="Text space: lexicon, or open_clip:ARCH/TAG for any words."),
        click.option("--clip", type=FILE, help="Take the text encoder from a folder."),
        click.option("--offline", is_flag=True, help="Load the text encoder from the cache only."),
        click.option("--accept-license", is_flag=True,
                     help="Accept a non-commercial licence of the encoder, once for all."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True, eq=False)
class EncoderChoice:
    """The values of `encoder_options`; `given` is the text space that was asked for, if any."""

    given: "TextSpace | None"
    offline: bool
    accept_license: bool

    @classmethod
    def take(cls, values: dict[str, Any]) -> "EncoderChoice":
        """The choice that the options make, which are taken out of `values`.

        Raises as `chosen_encoder`.
        """
        given = chosen_encoder(values.pop("space"), values.pop("clip"))
        return cls(given, values.pop("offline"), values.pop("accept_license"))

    def of(self, scene: "Scene") -> "TextSpace":
        """The text space to ask this scene in; raises as `choose_space` and `usable`."""
        from ffsplat.query import choose_space

        return usable(self.given or choose_space(scene, None), self.offline, self.accept_license)


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
