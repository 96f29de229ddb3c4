"""Run the command line inside the test, and put stand-in commands into it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import click
import pytest

from ffsplat.cli import app
from ffsplat.cli.console import Console, common_options
from ffsplat.cli.environment import StopSignals


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `ffsplat ARGUMENTS` and return its exit code and what it wrote."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = app.run([str(argument) for argument in arguments], StopSignals())
        written = capsys.readouterr()
        return Outcome(code, written.out, written.err)

    return call


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Console], object]], None]:
    """Make `ffsplat trial` call a function with the console."""

    def install(body: Callable[[Console], object]) -> None:
        @click.command("trial")
        @common_options
        @click.pass_obj
        def command(console: Console) -> object:
            return body(console)

        module = ModuleType("ffsplat.cli.trial")
        module.__dict__["command"] = command
        monkeypatch.setitem(sys.modules, "ffsplat.cli.trial", module)
        monkeypatch.setitem(app.COMMANDS, "trial", "A stand-in.")

    return install
