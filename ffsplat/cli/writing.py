"""Scenes as outputs of commands: in any format that is written, with the options of the formats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.console import Console
from ffsplat.errors import UsageError
from ffsplat.formats.format import Format, Option
from ffsplat.formats.table import FORMATS

if TYPE_CHECKING:
    from ffsplat.types import Scene

TYPES: dict[type, Any] = {str: str, int: int, float: float}


def format_options(own: Sequence[str] = (), hidden: bool = False) -> Callable[..., Any]:
    """Add `--to` and every option of every format, but those that the command has of its `own`.

    The help names an option's formats; `hidden` ones work, and stand in that of `convert`.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        users: dict[Option, list[str]] = {}
        for format_ in FORMATS.values():
            for option in format_.options:
                if option.name not in own:
                    users.setdefault(option, []).append(format_.name)
        for option, formats in reversed(users.items()):
            command = _click_option(option, formats, hidden)(command)
        text = "The format to write, if not by the name; all: ffsplat convert --list."
        return click.option("--to", metavar="FORMAT", help=text)(command)

    return decorate


def _click_option(option: Option, formats: list[str], hidden: bool) -> Callable[..., Any]:
    """An option whose value is None unless it is given: only then must the format know it."""
    flag, default = f"--{option.name}", option.default
    if isinstance(default, bool):
        flag, default = f"{flag}/--no-{option.name}", "yes" if default else "no"
        kind: Any = None
    else:
        kind = click.Choice(option.choices) if option.choices else TYPES[type(default)]
    text = f"[{', '.join(formats)}] {option.help}" + (f"  [default: {default}]" if default else "")
    return click.option(flag, option.keyword, type=kind, default=None, help=text, hidden=hidden)


def _keywords() -> set[str]:
    """Every option of every format, as it reaches the command."""
    return {option.keyword for row in FORMATS.values() for option in row.options}


@dataclass(frozen=True, eq=False)
class SceneOutput:
    """Where and how a command writes its scene: a row of the table, and options of that row."""

    path: Path
    row: Format
    options: dict[str, Any]
    overwrite: bool

    @classmethod
    def take(cls, path: Path, values: dict[str, Any], overwrite: bool) -> "SceneOutput":
        """The output that the options say, which are taken out of `values`; a PLY by default.

        Raises UsageError for a name of no format, and for an option of another format.
        """
        from ffsplat.formats import format_to_write

        given = {name: values.pop(name) for name in _keywords() & values.keys()}
        given = {name: value for name, value in given.items() if value is not None}
        to = values.pop("to", None)
        row = format_to_write(path, to if to or path.suffix else "ply")
        known = {option.keyword for option in row.options}
        for name in sorted(given.keys() - known):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} means nothing to {row.name}", f"leave out {option}")
        return cls(path, row, given, overwrite)

    @classmethod
    def take_optional(
        cls, path: Path | None, values: dict[str, Any], overwrite: bool
    ) -> "SceneOutput | None":
        """The output as in `take`, or None without a path; UsageError for options of nothing."""
        if path is not None:
            return cls.take(path, values, overwrite)
        for option in ("to", *sorted(_keywords())):
            if values.pop(option, None) is not None:
                name = option.replace("_", "-")
                raise UsageError(f"--{name} is about --out, which is missing", "give --out FILE")
        return None

    @property
    def files(self) -> list[Path]:
        """The files that will be written, the scene first; a folder as such."""
        from ffsplat.formats import output_files

        return output_files(self.path, self.row, **self.options)

    def check(self) -> None:
        """Refuse what cannot be written, before any work; OutputError as `check_output`."""
        from ffsplat.io import check_output
        from ffsplat.io.folder import check_folder

        if self.row.is_folder(self.path):
            names = (*self.row.members, *self.row.beside) if self.row.suffixes else ()
            check_folder(self.path, names, self.overwrite)
            return
        for path in self.files:
            check_output(path, self.overwrite)

    def write(self, scene: "Scene") -> list[Path]:
        """Write the scene; the files that were written."""
        from ffsplat.formats import write_scene

        row = self.row.name
        write_scene(scene, self.path, format_=row, overwrite=self.overwrite, **self.options)
        return [path for path in self.files if path.exists()]

    def lost(self, scene: "Scene") -> list[str]:
        """What of the scene the file does not carry, one phrase each."""
        from ffsplat.formats import lost

        return lost(scene, self.row, **self.options)

    def note(self, scene: "Scene", console: Console) -> None:
        """Say in one line what is lost, if the format is not the usual one."""
        if self.row.name != "ply" and (missing := self.lost(scene)):
            console.note(f"note: {self.row.name} does not carry {', '.join(missing)}")
