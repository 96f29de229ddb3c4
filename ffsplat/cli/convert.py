"""`ffsplat convert`: a scene from one format into another, and what it loses on the way."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options, printable
from ffsplat.cli.writing import SceneOutput, format_options
from ffsplat.formats.table import FORMATS

if TYPE_CHECKING:
    from ffsplat.types import Scene

OWN = ("codebook", "cameras", "sh-degree")
"""Options of the command itself; a format's of the same name is that one."""


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
@click.option("--from", "from_", metavar="FORMAT", help="The format of SOURCE, likewise.")
@click.option("--codebook", type=FILE, help="The codebook of SOURCE, if not beside it.")
@click.option("--cameras", type=FILE, help="Cameras to carry along, from `infer --cameras-out`.")
@click.option("--sh-degree", type=click.IntRange(0, 3), help="Keep SH up to this degree only.")
@format_options(OWN)
@click.option("--overwrite", is_flag=True, help="Replace the target if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@common_options
@click.pass_obj
def command(
    console: Console,
    source: Path,
    target: Path,
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
    from ffsplat.formats import read_scene
    from ffsplat.text import counted

    output = SceneOutput.take(target, options, overwrite)
    output.check()
    console.progress(f"reading {source}")
    scene = read_scene(source, format_=from_, codebook=codebook)
    scene = _with(scene, cameras, sh_degree)
    console.progress(f"writing {target}")
    output.write(scene)
    missing, row = output.lost(scene), output.row.name
    if as_json:
        console.json({"file": str(target), "format": row, "gaussians": len(scene), "lost": missing})
        return
    if missing:
        console.note(f"note: {row} does not carry {', '.join(missing)}")
    console.note(printable(f"wrote {target} ({counted(len(scene), 'Gaussian')})"))


def _with(scene: "Scene", cameras: Path | None, sh_degree: int | None) -> "Scene":
    from ffsplat.io import read_cameras

    if cameras is not None:
        scene = replace(scene, cameras=read_cameras(cameras))
    if sh_degree is not None:
        kept = scene.gaussians.sh[:, : (sh_degree + 1) ** 2]
        scene = replace(scene, gaussians=replace(scene.gaussians, sh=kept))
    return scene
