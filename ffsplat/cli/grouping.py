"""Objects found after the fact, as options of a command: which way, and what it is given."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.console import FILE, Console
from ffsplat.errors import UsageError

if TYPE_CHECKING:
    from ffsplat.grouping.methods import Grouping, Masks
    from ffsplat.types import Scene

USUAL = "clusters"
"""The way of `--group` without a name."""


def group_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--group [METHOD]` and what its methods are given."""
    options = [
        click.option("--group", metavar="[METHOD]", is_flag=False, flag_value=USUAL,
                     help="First find objects: by clusters (usual), super (compact pieces) or "
                     "masks (of the photos)."),
        click.option("--group-option", "group_pairs", multiple=True, metavar="NAME=VALUE",
                     help="An option of the method; may be given again."),
        click.option("--masks", type=FILE,
                     help="For --group masks: a folder with an image a photo, its grey values "
                     "the numbers of its masks, 0 for none."),
        click.option("--cameras", type=FILE,
                     help="Cameras of the scene, from `infer --cameras-out`."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True, eq=False)
class GroupChoice:
    """A way to group, the values of its options, and the folder of masks if it needs any."""

    way: "Grouping"
    options: object
    masks: Path | None

    @classmethod
    def take(cls, values: dict[str, Any]) -> "GroupChoice | None":
        """The choice that the options make, which are taken out of `values`; None without any.

        Raises UsageError for a way or an option that does not exist, and for masks that are
        missing or for no use.
        """
        from ffsplat.grouping.methods import grouping_named
        from ffsplat.query.options import make_options, read_options

        name, pairs, masks = (values.pop(key) for key in ("group", "group_pairs", "masks"))
        if name is None:
            if pairs or masks:
                raise UsageError("--group-option and --masks are for --group")
            return None
        way, owner = grouping_named(name), f"grouping {name}"
        if way.takes_masks != (masks is not None):
            lacks = "needs the masks of photos" if way.takes_masks else "takes no masks"
            raise UsageError(f"--group {name} {lacks}", "--group masks --masks FOLDER")
        given = read_options(way.options, owner, pairs)
        return cls(way, make_options(way.options, owner, given), masks)

    def apply(self, scene: "Scene", console: Console) -> tuple["Scene", int]:
        """The scene with its objects, and how many they are. Objects that it had are replaced."""
        import numpy as np

        seen = self._seen(scene)
        console.progress("finding objects")
        found = self.way.apply(scene, self.options, seen)
        if scene.instances is not None:
            console.note("note: the objects that the scene had are replaced")
        assert found.instances is not None
        return found, len(np.unique(found.instances[found.instances >= 0]))

    def _seen(self, scene: "Scene") -> "Masks | None":
        if self.masks is None:
            return None
        from ffsplat.formats.mask_images import read_masks

        if scene.cameras is None:
            raise UsageError("masks are of photos: whose cameras?", "--cameras takes what `infer "
                             "--cameras-out` wrote")  # fmt: skip
        return read_masks(self.masks, scene.cameras)
