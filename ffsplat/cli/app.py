"""The command group, whose commands are imported when they are called, and the way to run it."""

import importlib
import sys
import traceback
from collections.abc import Sequence

import click

from ffsplat.cli.console import Console, common_options, logging_to, silence
from ffsplat.cli.environment import Interrupted, StopSignals
from ffsplat.cli.failures import failure_of

COMMANDS = {
    "infer": "Photos in, semantic Gaussian splat out.",
    "stream": "A camera's frames in, a map that grows out.",
    "query": "Find things in a scene by text.",
    "view": "See a scene, or a growing map, in a browser.",
    "render": "Draw a scene as an image, an orbit or a figure sheet.",
    "edit": "Remove, paint, move or name things in a scene.",
    "merge": "Join scenes of one place to one.",
    "convert": "Hand a scene on in another format.",
    "export-teacher": "Write a training set for per-scene optimisation.",
    "eval": "Measure a scene against labels by a published protocol.",
    "check": "Check a scene or codebook file against its format.",
    "info": "Say what a scene or codebook file holds.",
    "models": "List, show, download and remove published models.",
    "convert-weights": "Make safetensors of a foreign checkpoint.",
}
"""Name and short help of every command; its module of the same name is imported only to run it."""


SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}


class LazyGroup(click.Group):
    """A group that knows its commands without importing them: `--help` must not load torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"ffsplat.cli.{cmd_name.replace('-', '_')}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings=SETTINGS)
@click.version_option(package_name="ffsplat", message="%(prog)s %(version)s")
@common_options
def ffsplat() -> None:
    """Unposed photos to semantic 3D Gaussians in one forward pass."""


def run(arguments: Sequence[str] | None, signals: StopSignals) -> int:
    """Run the command line on arguments (default: those of the process); return the exit code."""
    console = Console()
    _escape_what_cannot_be_encoded()
    with logging_to(console):
        try:
            code = _invoke(arguments, console)
        except (Exception, KeyboardInterrupt, Interrupted) as error:  # noqa: BLE001 - the last resort
            code = _fail(error, console, signals)
    return signals.exit_code or code


def _invoke(arguments: Sequence[str] | None, console: Console) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with ffsplat.make_context("ffsplat", list(arguments), obj=console) as context:
            code = ffsplat.invoke(context)
        console.clear()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    if sys.stdout is not None:
        sys.stdout.flush()
    return code or 0


def _fail(error: BaseException, console: Console, signals: StopSignals) -> int:
    if console.debug:
        console.clear()
        traceback.print_exception(error)
    if signals.received is not None or not isinstance(error, Exception):
        console.error("interrupted")
        return signals.exit_code or 130
    if isinstance(error, BrokenPipeError):
        silence("stdout")
        return 0
    failure = failure_of(error)
    console.error(failure.message, failure.hint)
    return failure.exit_code


def _escape_what_cannot_be_encoded() -> None:
    """File names are bytes, and the locale may be plain ASCII: print escapes, never fail."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")
