"""`ffsplat info`: what a file holds and where it came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options, printable


@click.command("info", short_help=COMMANDS["info"])
@click.argument("file", type=FILE)
@click.option("--codebook", type=FILE, help="The codebook of the scene, if not beside it.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@common_options
@click.pass_obj
def command(console: Console, file: Path, codebook: Path | None, as_json: bool) -> None:
    """Say what a scene or a codebook holds: counts, extent, model, licence."""
    facts = _describe(file, codebook)
    if as_json:
        console.json(facts)
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        console.result(f"{name.replace('_', ' ').ljust(width)}  {_words(value)}".rstrip())


def _describe(file: Path, codebook: Path | None) -> dict[str, Any]:
    from ffsplat.formats import format_to_read, is_codebook, read_scene, scene_files
    from ffsplat.io import describe, read_codebook
    from ffsplat.io.check import scene_facts
    from ffsplat.types import LEVELS

    if not is_codebook(file):
        row = format_to_read(file)
        if row.name == "ply":
            return describe(file, codebook)
        size = sum(part.stat().st_size for part in scene_files(file, row))
        facts = scene_facts(read_scene(file, codebook=codebook), file)
        return facts | {"bytes": size, "format": row.name}
    table = read_codebook(file)
    levels = table.levels.tolist()
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "rows": len(table),
        "levels": {name: levels.count(i) for i, name in enumerate(LEVELS)},
        "spaces": {name: space.shape[1] for name, space in table.spaces.items()},
        "names": list(table.names),
    }


def _words(value: object) -> str:
    """One line of text for a fact of any kind."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value)
    if isinstance(value, bool | None):
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
