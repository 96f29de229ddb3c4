"""`ffsplat check`: does a file keep to its format, so that every reader opens it?"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options, printable
from ffsplat.cli.failures import FAILED
from ffsplat.errors import SceneFileError

if TYPE_CHECKING:
    from ffsplat.io import Violation


@click.command("check", short_help=COMMANDS["check"])
@click.argument("file", type=FILE)
@click.option("--codebook", type=FILE, help="The codebook of the scene, if not beside it.")
@click.option("--json", "as_json", is_flag=True, help="Print the violations as JSON.")
@common_options
@click.pass_obj
def command(console: Console, file: Path, codebook: Path | None, as_json: bool) -> int:
    """Check a scene (PLY) or a codebook (safetensors) against its format.

    Prints one line for each violation, and fails if there is any.
    """
    violations = _check(file, codebook)
    if as_json:
        listed = [{"rule": one.rule, "message": one.message} for one in violations]
        console.json({"file": str(file), "violations": listed})
        return FAILED if violations else 0
    for one in violations:
        console.result(printable(f"{file}: {one.rule}: {one.message}"))
    if not violations:
        console.note(f"{file}: no violations")
    return FAILED if violations else 0


def _check(file: Path, codebook: Path | None) -> "list[Violation]":
    from ffsplat.io import Violation, check_ply, read_codebook

    if file.suffix.lower() != ".safetensors":
        return check_ply(file, codebook)
    try:
        read_codebook(file)
    except SceneFileError as error:
        return [Violation("readable", str(error))]
    return []
