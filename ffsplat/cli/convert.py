"""`ffsplat convert`: a scene from one format into another, and what it loses on the way."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options, printable
from ffsplat.errors import UsageError
from ffsplat.formats.format import Format, Option
from ffsplat.formats.table import FORMATS

if TYPE_CHECKING:
    from ffsplat.types import Scene

OWN = ("codebook", "cameras", "sh-degree")
"""Options of the command itself; a format's of the same name is that one."""

TYPES: dict[type, Any] = {str: str, int: int, float: float}


def _format_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add every option of every format, once, named in the help after its formats."""
    users: dict[Option, list[str]] = {}
    for format_ in FORMATS.values():
        for option in format_.options:
            if option.name not in OWN:
                users.setdefault(option, []).append(format_.name)
    for option, formats in reversed(users.items()):
        command = _click_option(option, formats)(command)
    return command


def _click_option(option: Option, formats: list[str]) -> Callable[..., Any]:
    """An option whose value is None unless it is given: only then must the format know it."""
    flag, default = f"--{option.name}", option.default
    if isinstance(default, bool):
        flag, default = f"{flag}/--no-{option.name}", "yes" if default else "no"
        kind: Any = None
    else:
        kind = click.Choice(option.choices) if option.choices else TYPES[type(default)]
    text = f"[{', '.join(formats)}] {option.help}" + (f"  [default: {default}]" if default else "")
    return click.option(flag, option.keyword, type=kind, default=None, help=text)


def _list_formats(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    console: Console = context.find_root().obj
    rows = [("format", "", "files", "what")]
    for format_ in FORMATS.values():
        abilities = ("r" if format_.reads else "-") + ("w" if format_.writes else "-")
        files = " ".join(format_.suffixes) or "a folder"
        rows.append((format_.name, abilities, files, format_.summary))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.result("  ".join(cells).rstrip())
    context.exit()


@click.command("convert", short_help=COMMANDS["convert"])
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_formats,
              help="List the formats, what reads (r) and writes (w), and exit.")  # fmt: skip
@click.option("--to", "to", metavar="FORMAT", help="The format of TARGET, if not by its name.")
@click.option("--from", "from_", metavar="FORMAT", help="The format of SOURCE, likewise.")
@click.option("--codebook", type=FILE, help="The codebook of SOURCE, if not beside it.")
@click.option("--cameras", type=FILE, help="Cameras to carry along, from `infer --cameras-out`.")
@click.option("--sh-degree", type=click.IntRange(0, 3), help="Keep SH up to this degree only.")
@_format_options
@click.option("--overwrite", is_flag=True, help="Replace the target if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@common_options
@click.pass_obj
def command(
    console: Console,
    source: Path,
    target: Path,
    to: str | None,
    from_: str | None,
    codebook: Path | None,
    cameras: Path | None,
    sh_degree: int | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Hand a scene on: read SOURCE in one format, write TARGET in another.

    The names say which: scene.spz, scene.sog, scene.glb and so on (see --list). What the format of
    TARGET cannot carry is said in one line.
    """
    from ffsplat.formats import format_to_write, lost, read_scene, write_scene

    chosen = {name: value for name, value in options.items() if value is not None}
    row = format_to_write(target, to)
    _check(row, target, chosen, overwrite)
    console.progress(f"reading {source}")
    scene = read_scene(source, format_=from_, codebook=codebook)
    scene = _with(scene, cameras, sh_degree)
    console.progress(f"writing {target}")
    write_scene(scene, target, format_=row.name, overwrite=overwrite, **chosen)
    missing = lost(scene, _carrying(row, chosen))
    if as_json:
        facts = {"file": str(target), "format": row.name, "gaussians": len(scene), "lost": missing}
        console.json(facts)
        return
    if missing:
        console.note(f"note: {row.name} does not carry {', '.join(missing)}")
    console.note(printable(f"wrote {target} ({len(scene)} Gaussians)"))


def _check(row: Format, target: Path, options: dict[str, Any], overwrite: bool) -> None:
    """Refuse what cannot be written before anything is read."""
    from ffsplat.io import check_output

    known = {option.keyword for option in row.options}
    foreign = [name for name in options if name not in known]
    if foreign:
        raise UsageError(f"--{foreign[0].replace('_', '-')} means nothing to {row.name}")
    if row.suffixes:
        check_output(target, overwrite)


def _with(scene: "Scene", cameras: Path | None, sh_degree: int | None) -> "Scene":
    from ffsplat.io import read_cameras

    if cameras is not None:
        scene = replace(scene, cameras=read_cameras(cameras))
    if sh_degree is not None:
        kept = scene.gaussians.sh[:, : (sh_degree + 1) ** 2]
        scene = replace(scene, gaussians=replace(scene.gaussians, sh=kept))
    return scene


def _carrying(row: Format, options: dict[str, Any]) -> Format:
    """The row as these options make it: a PLY without columns of ours carries no meaning."""
    if options.get("ply_profile", "ffsplat") == "ffsplat":
        return row
    return replace(row, carries=frozenset({"shapes", "sh"}))
