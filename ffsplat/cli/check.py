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
    """Check a scene or a codebook against its format; a PLY against its readers too.

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
    from ffsplat.formats import format_to_read, is_codebook, read_scene
    from ffsplat.io import Violation, check_ply, read_codebook

    of_codebook = is_codebook(file)
    if not of_codebook and format_to_read(file).name == "ply":
        return check_ply(file, codebook)
    try:
        if of_codebook:
            read_codebook(file)
        else:
            read_scene(file, codebook=codebook)
    except SceneFileError as error:
        return [Violation("readable", str(error))]
    return []
