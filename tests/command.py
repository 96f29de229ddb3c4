"""Run the command line inside the test's own process."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from ffsplat.cli import app
from ffsplat.cli.environment import StopSignals


@dataclass(frozen=True)
class Outcome:
    """The exit code, and what was written to stdout and stderr."""

    code: int
    out: str
    err: str


def run(*arguments: object) -> Outcome:
    """`ffsplat ARGUMENTS`."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = app.run([str(argument) for argument in arguments], StopSignals())
    return Outcome(code, out.getvalue(), err.getvalue())
