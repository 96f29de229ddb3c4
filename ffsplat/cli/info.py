"""`ffsplat info`: what a file holds and where it came from."""

from collections.abc import Mapping
from pathlib import Path

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import Console, common_options, printable


@click.command("info", short_help=COMMANDS["info"])
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@common_options
@click.pass_obj
def command(console: Console, file: Path, as_json: bool) -> int:
    """Say what a scene (PLY) or a codebook (safetensors) holds: counts, extent, model, licence."""
    from ffsplat.io import describe

    facts = describe(file)
    if as_json:
        console.json(facts)
        return 0
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        console.result(f"{name.ljust(width)}  {_words(value)}")
    return 0


def _words(value: object) -> str:
    """One line of text for a fact of any kind."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_words(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(str(value))
