"""`ffsplat check`: does a file keep to its format, so that every reader opens it?"""

from pathlib import Path

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import Console, common_options
from ffsplat.cli.failures import FAILED


@click.command("check", short_help=COMMANDS["check"])
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the violations as JSON.")
@common_options
@click.pass_obj
def command(console: Console, file: Path, as_json: bool) -> int:
    """Check a scene (PLY) or a codebook (safetensors) against its format.

    Prints one line for each violation and exits with 1 if there is any.
    """
    from ffsplat.io import check_codebook, check_ply

    check = check_codebook if file.suffix.lower() == ".safetensors" else check_ply
    violations = check(file)
    if as_json:
        console.json({"file": str(file), "violations": list(violations)})
    else:
        for violation in violations:
            console.result(f"{file}: {violation}")
        console.note(f"{file}: {len(violations) or 'no'} violations")
    return FAILED if violations else 0
